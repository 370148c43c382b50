"""Arrays whose rows are all the same, held once, as NumPy's `broadcast_to` makes them.

A catalogue that is on offer at every row is such an array, both its items and their features. Code
that works on rows can use it unchanged; the functions here select rows without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def shared(values: NDArray[Any]) -> bool:
    """True if all rows share the same memory."""
    return len(values) > 0 and values.strides[0] == 0


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """The rows that can differ: only the first where all share the same memory."""
    return values[:1] if shared(values) else values


def for_rows(values: NDArray[Any], rows: int) -> NDArray[Any]:
    """A single row (1, …) repeated for `rows` rows; values of `rows` rows unchanged."""
    return values if len(values) == rows else np.broadcast_to(values, (rows, *values.shape[1:]))


def at_rows(values: NDArray[Any], rows: NDArray[Any] | slice) -> NDArray[Any]:
    """Some rows, by number, mask or slice; without a copy where all share the same memory.

    Example:
        >>> every = np.broadcast_to(np.arange(3), (4, 3))
        >>> at_rows(every, np.array([0, 2])).strides[0]
        0
    """
    if isinstance(rows, slice) or not shared(values):
        return values[rows]
    count = len(np.arange(len(values))[rows])
    return np.broadcast_to(values[0], (count, *values.shape[1:]))


def joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """All rows of several arrays, one after the other; held once where all are the same."""
    filled = [part for part in parts if len(part)]
    if filled and all(shared(part) for part in filled):
        first = filled[0][0]
        if all(np.array_equal(first, part[0]) for part in filled[1:]):
            return np.broadcast_to(first, (sum(map(len, filled)), *first.shape))
    return np.concatenate(parts)
