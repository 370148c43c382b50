"""A sample of a file's rows, by which files that overlap are found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

SAMPLED_ROWS = 256
"""Number of different rows in a sample."""

FEWEST_COMMON = 8
"""Fewest rows of a sample that two files have in common where they overlap."""

OVERLAPPING = {True: 0.05, False: 0.5}
"""Share of a file's rows from which it overlaps with another, where rows have a time or not.

Without a time, rows of two days may be equal by chance, though no two of one day are: a customer
who comes every day, say.
"""

MOMENTS = 0.9
"""Different times per different row of a file from which equal rows are copies: so few of its rows
share their time with another that two customers hardly leave the same row."""

BEYOND_REPEATS = 4
"""Multiple of the share of rows that are repeated within the files, below which chance explains
rows in common."""


@dataclass(frozen=True)
class RowSample:
    """The smallest hashes of a file's rows (bottom-k sketch: Cohen and Kell 2007).

    Attributes:
        smallest: Hashes of different rows, sorted.
        repeated: Those that several rows of the file have.
    """

    smallest: tuple[int, ...] = ()
    repeated: tuple[int, ...] = ()

    def overlap(self, other: RowSample) -> tuple[int, float, float]:
        """Number and share of sampled rows in common, and the share that is repeated in a file.

        Up to the lower of both samples' largest hashes, each sample has all rows of its file. The
        shares are of the file with fewer rows there.
        """
        most, both = min(_largest(self), _largest(other)), (self, other)
        ours, theirs = ({one for one in sample.smallest if one <= most} for sample in both)
        fewer = max(1, min(len(ours), len(theirs)))
        repeats = [
            len(some.intersection(sample.repeated)) / max(1, len(some))
            for some, sample in zip((ours, theirs), both, strict=True)
        ]
        return len(ours & theirs), len(ours & theirs) / fewer, max(repeats)

    @classmethod
    def joined(cls, samples: Sequence[RowSample]) -> RowSample:
        """The sample of all rows together."""
        smallest = sorted({one for sample in samples for one in sample.smallest})[:SAMPLED_ROWS]
        repeated = {one for sample in samples for one in sample.repeated}.intersection(smallest)
        return cls(tuple(smallest), tuple(sorted(repeated)))


NO_SAMPLE = RowSample()
"""Of no rows, or of rows of which no sample was taken."""


def _largest(sample: RowSample) -> int:
    """The hash up to which a sample has all rows of its file."""
    return sample.smallest[-1] if len(sample.smallest) >= SAMPLED_ROWS else 2**64


class RowSampling:
    """The smallest hashes of the rows so far, and how many rows have each of these."""

    def __init__(self) -> None:
        self._hashes = np.zeros(0, np.uint64)
        self._rows = np.zeros(0, np.int64)

    def add(self, hashes: Hashes) -> None:
        """Add the hashes (R,) of rows."""
        if len(self._hashes) == SAMPLED_ROWS:
            hashes = hashes[hashes <= self._hashes[-1]]
        both = np.concatenate([self._hashes, hashes])
        rows = np.concatenate([self._rows, np.ones(len(hashes), np.int64)])
        found, place = np.unique(both, return_inverse=True)
        self._hashes = found[:SAMPLED_ROWS]
        self._rows = np.bincount(place, rows, len(found))[:SAMPLED_ROWS].astype(np.int64)

    @property
    def sample(self) -> RowSample:
        """The sample."""
        repeated = self._hashes[self._rows > 1]
        return RowSample(tuple(self._hashes.tolist()), tuple(repeated.tolist()))

    def copied(self, times: NDArray[Any]) -> float:
        """Share of the rows that copy an earlier one, by the times (R,) of all rows.

        It is 0 below `OVERLAPPING`, and where too many rows share a time to tell copies from
        chance.
        """
        different = len(self._rows) / max(1, self._rows.sum())  # per row
        if 1 - different < OVERLAPPING[True]:
            return 0.0
        moments = len(np.unique(times)) / len(times)
        return float(1 - different) if moments >= MOMENTS * different else 0.0


def overlapping(samples: Sequence[RowSample], timed: bool) -> Iterator[tuple[int, int, float]]:
    """Pairs of files that have rows in common, and the share of rows; `timed` if rows have a time.

    Example:
        >>> one, other = RowSample(tuple(range(20))), RowSample(tuple(range(10, 40)))
        >>> list(overlapping([one, other], True))
        [(0, 1, 0.5)]
    """
    known = dict[int, list[int]]()
    for number, sample in enumerate(samples):
        for one in sample.smallest:
            known.setdefault(one, []).append(number)
    pairs = Counter(pair for files in known.values() for pair in combinations(files, 2))
    for (first, second), common in sorted(pairs.items()):
        if common < FEWEST_COMMON:
            continue
        common, share, repeated = samples[first].overlap(samples[second])
        if common >= FEWEST_COMMON and share >= max(OVERLAPPING[timed], BEYOND_REPEATS * repeated):
            yield first, second, share
