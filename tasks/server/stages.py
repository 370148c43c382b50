"""Stages of long steps and who listens to them. Importing this imports no Prefect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from slateflow.progress import Progress

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


def stage(name: str) -> Progress:
    """A callback (done, total) for the stage of that name; it starts at once."""

    def report(done: int, total: int) -> None:
        for listener in _listeners:
            listener(name, done, total)

    report(0, 1)
    return report
