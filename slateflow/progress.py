"""Functions that long work tells how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with how many are done, and how many there are."""


def unwatched(done: int, total: int) -> None:
    """Progress that nobody watches."""
