"""Random features: rectified sums, with weights drawn at random, of what users and items are.

Tastes may bend along sums of columns and their products, where neither a polynomial of low degree
nor a spline of one column follows. A regression on enough random features does (Rahimi and Recht
2008, "Weighted Sums of Random Kitchen Sinks"); its prior is that of an infinite network with one
layer (Cho and Saul 2009, "Kernel Methods for Deep Learning", section 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

UNITS = 300
"""Random features where there are any."""

MOST_BESIDE = 300
"""Products of user and candidate beside which there may be any."""

SEED = 300
"""Of the weights, which are the same in all models."""


@dataclass(frozen=True)
class RandomFeatures:
    """Rectified sums of features that are standardised.

    Attributes:
        weights: (F, W), in each column a direction of length 1.
        biases: (W,)
    """

    weights: Array
    biases: Array

    @classmethod
    def none(cls, features: int) -> Self:
        """Of so many features none."""
        return cls(np.zeros((features, 0)), np.zeros(0))

    @classmethod
    def drawn(cls, counted: NDArray[np.bool_], units: int = UNITS) -> Self:
        """In random directions of the features (F,) that count.

        Example:
            >>> drawn = RandomFeatures.drawn(np.array([True, False, True]), 4)
            >>> np.linalg.norm(drawn.weights, axis=0).round(6).tolist(), drawn.weights[1].any()
            ([1.0, 1.0, 1.0, 1.0], np.False_)
        """
        rng = np.random.Generator(np.random.SFC64(SEED))
        weights = rng.standard_normal((len(counted), units)) * counted[:, None]
        return cls(weights / np.linalg.norm(weights, axis=0), rng.standard_normal(units))

    def __len__(self) -> int:
        return len(self.biases)

    def of(self, x: Array) -> Array:
        """(…, W) of standardised features (…, F).

        Example:
            >>> RandomFeatures(np.array([[1.0, -1.0]]), np.array([0.5, 0.0])).of(np.ones((1, 1)))
            array([[1.5, 0. ]])
        """
        return np.maximum(x @ self.weights + self.biases, 0.0)
