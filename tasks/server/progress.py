"""How far a long step has come, for whoever listens: the command line, the Prefect UI, nobody."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact

Listener = Callable[[str, int, int], None]  # stage, done, total

_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener` for every report within the block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def stage(name: str) -> Callable[[int, int], None]:
    """A callback (done, total) for the stage of that name; it starts at once."""

    def report(done: int, total: int) -> None:
        for listener in _listeners:
            listener(name, done, total)

    report(0, 1)
    return report


_SECONDS_BETWEEN_UPDATES = 2.0


def watched_stage(name: str, key: str, what: str) -> Callable[[int, int], None]:
    """The same for a step that takes long, within a run: also a progress artifact of the run.

    Args:
        name: Name of the stage for the listeners.
        key: The artifact's, after `progress-`; the same every night, or there would be ever more.
        what: The artifact's description.
    """
    listeners = stage(name)
    key = "progress-" + re.sub("[^a-z0-9]+", "-", key.lower())  # what Prefect allows
    artifact = None
    # Without a server the step goes on all the same, unseen
    with suppress(httpx.HTTPError):
        artifact = create_progress_artifact(0.0, key=key, description=what)
    shown = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal shown
        listeners(done, total)
        now = time.monotonic()
        due = done >= total or now - shown >= _SECONDS_BETWEEN_UPDATES
        if due and isinstance(artifact, UUID):
            with suppress(httpx.HTTPError):
                update_progress_artifact(artifact, progress=100.0 * done / max(total, 1))
            shown = time.monotonic()

    return report
