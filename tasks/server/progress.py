"""Progress of long steps, for the command line and for the Prefect UI."""

from __future__ import annotations

import hashlib
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
    """Call `listener` for all progress within the block."""
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


def artifact_key(*parts: str) -> str:
    """The key of an artifact: the parts with dashes, in the characters that Prefect allows.

    Names that differ only in other characters get different keys.
    """
    name = "-".join(parts)
    key = re.sub("[^a-z0-9]+", "-", name.lower())
    return key if key == name else f"{key}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def stage_with_artifact(name: str, key: str, description: str) -> Callable[[int, int], None]:
    """A stage, for a long step within a flow run, that is also a progress artifact of the run.

    Args:
        name: Name of the stage for the listeners.
        key: The artifact's, after `progress-`. It has no part that changes from night to night,
            which would make a new artifact every time.
        description: The artifact's description.
    """
    listeners = stage(name)
    artifact = None
    # Without a server the step runs unseen
    with suppress(httpx.HTTPError):
        artifact = create_progress_artifact(
            0.0, key=artifact_key("progress", key), description=description
        )
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
