"""Normal equations of regressions whose features are nearly collinear.

A year and its square are collinear up to one part in ten thousand, and so are their products with a
user's tastes. In double precision such a matrix often has no Cholesky factor, whatever small ridge
is added to columns with large squares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Array = NDArray[np.float64]

INFORMATION_ROUNDING = 1e-12
"""Share of the diagonal below which the information on a weight may be rounding error."""

REFINEMENTS = 3
"""Refinements of a solution; the second seldom changes a digit."""


@dataclass(frozen=True)
class NormalEquations:
    """A symmetric matrix (P, P) that is positive definite up to rounding, and its factor.

    A diagonal of 1 makes its condition number nearly the least that any scaling of the features can
    achieve (van der Sluis 1969, "Condition numbers and equilibration of matrices"). A bound on
    rounding errors is added to it; solutions are refined against the matrix without that bound
    (Riley 1956, "Solving systems of linear equations with a positive definite, symmetric, but
    possibly ill-conditioned matrix"), so they do not depend on it where they are determined.

    Attributes:
        scale: (P,) square roots of the diagonal.
        scaled: (P, P) the matrix scaled to a diagonal of 1.
        factor: (P, P) lower Cholesky factor of the scaled matrix plus the bound.
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
