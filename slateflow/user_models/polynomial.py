"""Polynomials of logged features, for regressions by least squares."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Polynomial:
    """All monomials up to a degree of features that are standardised first.

    Attributes:
        degree: The largest.
        offset: (F,) by which the features are centred.
        scale: (F,) by which they are divided then.
    """

    degree: int
    offset: Array
    scale: Array

    @classmethod
    def over(cls, x: Array, degree: int) -> Polynomial:
        """With the mean and the standard deviation of the features (R, F)."""
        deviation = x.std(axis=0)
        return cls(degree, x.mean(axis=0), np.where(deviation > 0, deviation, 1.0))

    def design(self, x: Array) -> Array:
        """(R, P) monomials of the features (R, F).

        Example:
            >>> Polynomial(2, np.zeros(1), np.ones(1)).design(np.array([[3.0], [4.0]])).tolist()
            [[1.0, 3.0, 9.0], [1.0, 4.0, 16.0]]
        """
        x = (x - self.offset) / self.scale
        columns = [x[:, list(powers)].prod(axis=1) for powers in terms(x.shape[1], self.degree)]
        return np.stack(columns, axis=1)


def terms(features: int, degree: int) -> list[tuple[int, ...]]:
    """The features whose product each monomial is.

    Example:
        >>> terms(2, 2)
        [(), (0,), (1,), (0, 0), (0, 1), (1, 1)]
    """
    return [
        powers
        for size in range(degree + 1)
        for powers in combinations_with_replacement(range(features), size)
    ]
