"""Callbacks through which long work reports its progress."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with the number of finished units and the number of all units."""


def unwatched(done: int, total: int) -> None:
    """Ignore the progress."""
