"""How far a long step has come, for whoever listens: the command line, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
