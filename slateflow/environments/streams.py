"""Random streams for lanes side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Streams:
    """One or several generators, each of which draws for its share of the lanes.

    Lanes of several seeds can be simulated in one batch, and every seed gives the numbers that
    it gives alone. Lanes are the last axis where that is asked for, otherwise the first.

    Args:
        generators: One a share; the shares are of equal size and lie side by side.

    Example:
        >>> one, two = (np.random.Generator(np.random.SFC64(seed)) for seed in (1, 2))
        >>> Streams([one, two]).random((6, 5)).shape
        (6, 5)
    """

    def __init__(self, generators: Sequence[np.random.Generator]) -> None:
        self._generators = tuple(generators)

    def random(
        self, size: int | tuple[int, ...], dtype: Any = np.float64, lanes_last: bool = False
    ) -> NDArray[Any]:
        """Uniform draws in [0, 1)."""
        drawn = np.empty(size, dtype)
        for generator, share in self._shares(drawn, lanes_last):
            if share.flags.c_contiguous:
                generator.random(dtype=dtype, out=share)
            else:
                share[...] = generator.random(share.shape, dtype)
        return drawn

    def standard_normal(
        self, size: int | tuple[int, ...], lanes_last: bool = False
    ) -> NDArray[np.float64]:
        """Standard normal draws."""
        drawn = np.empty(size)
        for generator, share in self._shares(drawn, lanes_last):
            if share.flags.c_contiguous:
                generator.standard_normal(out=share)
            else:
                share[...] = generator.standard_normal(share.shape)
        return drawn

    def integers(self, low: int, high: int, size: tuple[int, ...]) -> NDArray[np.int64]:
        """Whole numbers from `low` to below `high`."""
        drawn = np.empty(size, np.int64)
        for generator, share in self._shares(drawn, lanes_last=False):
            share[...] = generator.integers(low, high, share.shape)
        return drawn

    def _shares(
        self, drawn: NDArray[Any], lanes_last: bool
    ) -> list[tuple[np.random.Generator, NDArray[Any]]]:
        lanes = drawn.T if lanes_last else drawn
        share = len(lanes) // len(self._generators)
        shares = (lanes[start : start + share] for start in range(0, len(lanes), share))
        if lanes_last:
            shares = (one.T for one in shares)
        return list(zip(self._generators, shares, strict=True))
