"""Normal equations of regressions whose features nearly follow from each other.

A year and its square are the same up to a part in ten thousand, and its products with what a user
likes are so, too. In doubles such a matrix has no Cholesky factor every other time, whatever small
ridge is added to columns whose squares are large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Array = NDArray[np.float64]

INFORMATION_ROUNDING = 1e-12
"""Share of a diagonal below which the information on a weight may be rounding."""

REFINEMENTS = 3
"""Corrections of a solution; the second seldom changes a digit."""


@dataclass(frozen=True)
class NormalEquations:
    """A symmetric matrix (P, P) that is positive definite but for rounding, and its factor.

    A diagonal of 1 makes its condition nearly the least that any scales of the features can make
    it (van der Sluis 1969, "Condition numbers and equilibration of matrices"). A bound on what
    rounding left is added to it; solutions are refined against the matrix without it (Riley 1956,
    "Solving systems of linear equations with a positive definite, symmetric, but possibly
    ill-conditioned matrix"), and so do not depend on it where they are determined.

    Attributes:
        scale: (P,) roots of the diagonal.
        scaled: (P, P) the matrix with a diagonal of 1.
        factor: (P, P) lower Cholesky factor of the scaled matrix with what was added.
    """

    scale: Array
    scaled: Array
    factor: Array

    @classmethod
    def of(cls, matrix: Array) -> Self:
        """Factor a matrix."""
        root = np.sqrt(np.diag(matrix))
        scale = np.where(root > 0, root, 1.0)
        scaled = matrix / scale / scale[:, None]
        factor = linalg.cholesky(scaled + INFORMATION_ROUNDING * np.eye(len(scaled)), lower=True)
        return cls(scale, scaled, np.asarray(factor, np.float64))

    def solved(self, right: Array) -> Array:
        """The solution (P,) for a right-hand side (P,).

        Example:
            >>> NormalEquations.of(np.array([[4.0, 2.0], [2.0, 2.0]])).solved(np.array([8.0, 6.0]))
            array([1., 2.])
        """
        right = right / self.scale
        solution = np.zeros(len(right))
        for _ in range(1 + REFINEMENTS):
            rest = right - self.scaled @ solution
            solution += linalg.cho_solve((self.factor, True), rest)
        return np.asarray(solution / self.scale)

    @property
    def unscaled_factor(self) -> Array:
        """(P, P) lower Cholesky factor of the matrix itself, up to rounding."""
        return self.scale[:, None] * self.factor
