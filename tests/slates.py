"""The numbers of slates in the order of Python's permutations."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import cache


@cache
def _numbers(candidates: int, places: int) -> dict[tuple[int, ...], int]:
    return {slate: i for i, slate in enumerate(itertools.permutations(range(candidates), places))}


def index_of(slate: Iterable[int], candidates: int) -> int:
    """The place of an ordered slate among all."""
    shown = tuple(int(position) for position in slate)
    return _numbers(candidates, len(shown))[shown]
