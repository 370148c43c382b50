"""Random streams for lanes side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Size = int | tuple[int, ...]


@dataclass(frozen=True)
class _Share:
    """A generator, and the lanes for which it draws."""

    generator: np.random.Generator
    place: slice  # of its lanes among those that are left
    left: NDArray[np.intp] | None  # those of its lanes; None where it draws only for them


class Streams:
    """One or several generators, each of which draws for its share of the lanes.

    Lanes of several seeds can be simulated in one batch, and every seed gives the numbers that
    it gives alone. Lanes are the first axis, or the last with `lanes_last`.

    Args:
        generators: One per share; the shares are of equal size and lie side by side.
        lanes: Number of all lanes.
        common: Whether numbers are still drawn for lanes that have left, so that the numbers of the
            others do not change. A generator stops drawing once all its lanes have left.

    Example:
        >>> one, two = (np.random.Generator(np.random.SFC64(seed)) for seed in (1, 2))
        >>> streams = Streams([one, two], 6)
        >>> streams.random((6, 5)).shape
        (6, 5)
        >>> streams.keep(np.array([0, 1, 5]))
        >>> streams.random((3, 5)).shape
        (3, 5)
    """

    def __init__(
        self, generators: Sequence[np.random.Generator], lanes: int, common: bool = True
    ) -> None:
        self._generators, self._size = tuple(generators), lanes // len(generators)
        self._common = common
        self.keep(np.arange(lanes))

    def keep(self, lanes: NDArray[np.intp]) -> None:
        """From now on draw for these lanes only, given by their numbers in ascending order."""
        size = self._size
        bounds = np.searchsorted(lanes, size * np.arange(len(self._generators) + 1)).tolist()
        self._shares = []
        for number, (start, end) in enumerate(pairwise(bounds)):
            if end > start:
                alone = end - start == size or not self._common
                left = None if alone else lanes[start:end] - number * size
                self._shares.append(_Share(self._generators[number], slice(start, end), left))

    def random(self, size: Size, dtype: Any = np.float64, lanes_last: bool = False) -> NDArray[Any]:
        """Uniform draws in [0, 1)."""
        return self._filled(
            np.empty(size, dtype), lambda rng, out: rng.random(dtype=dtype, out=out), lanes_last
        )

    def standard_normal(self, size: Size, lanes_last: bool = False) -> NDArray[np.float64]:
        """Standard normal draws."""
        return self._filled(
            np.empty(size), lambda rng, out: rng.standard_normal(out=out), lanes_last
        )

    def integers(self, low: int, high: int, size: Size, dtype: Any = np.int64) -> NDArray[Any]:
        """Whole numbers from `low` to below `high`."""
        return self._filled(
            np.empty(size, dtype),
            lambda rng, out: np.copyto(out, rng.integers(low, high, out.shape, dtype)),
        )

    def gumbel(self, *, size: Size) -> NDArray[np.float64]:
        """Draws from the standard Gumbel distribution."""
        return self._filled(
            np.empty(size), lambda rng, out: np.copyto(out, rng.gumbel(size=out.shape))
        )

    def _filled(
        self,
        drawn: NDArray[Any],
        fill: Callable[[np.random.Generator, NDArray[Any]], object],
        lanes_last: bool = False,
    ) -> NDArray[Any]:
        lanes = np.moveaxis(drawn, -1, 0) if lanes_last else drawn
        for share in self._shares:
            part = lanes[share.place]
            if share.left is None and part.flags.c_contiguous:
                fill(share.generator, part)
                continue
            count = len(part) if share.left is None else self._size
            shape = (count, *part.shape[1:])
            whole = np.empty(shape[::-1] if lanes_last else shape, drawn.dtype)
            fill(share.generator, whole)
            whole = whole.T if lanes_last else whole
            part[...] = whole if share.left is None else whole.take(share.left, axis=0)
        return drawn
