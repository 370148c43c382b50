"""Random features: rectified sums, with weights drawn at random, of users' and items' features.

Tastes may bend along sums of columns and their products, which neither a polynomial of low degree
nor a spline of one column can fit. A regression on enough random features can (Rahimi and Recht
2008, "Weighted Sums of Random Kitchen Sinks"); its prior is that of an infinite network with one
layer (Cho and Saul 2009, "Kernel Methods for Deep Learning", section 2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.policies.slate_choice import RandomFeatures

Array = NDArray[np.float64]

RANDOM_UNITS = 300
"""Number of random features of a model that has any."""

MOST_BESIDE = 300
"""Most products of user and candidate in a model with random features."""

SEED = 300
"""Seed of the directions, which are the same in all models."""


def none(features: int) -> RandomFeatures:
    """Zero random features of `features` features."""
    return RandomFeatures(np.zeros((features, 0)), np.zeros(0))


def drawn(counted: NDArray[np.bool_], units: int = RANDOM_UNITS) -> RandomFeatures:
    """Random features along unit vectors in the space of the standardised features that count (F,).

    Example:
        >>> found = drawn(np.array([True, False, True]), 4)
        >>> np.linalg.norm(found.weights, axis=0).round(6).tolist(), found.weights[1].any()
        ([1.0, 1.0, 1.0, 1.0], np.False_)
    """
    rng = np.random.Generator(np.random.SFC64(SEED))
    weights = rng.standard_normal((len(counted), units)) * counted[:, None]
    return RandomFeatures(weights / np.linalg.norm(weights, axis=0), rng.standard_normal(units))


def drawn_of(x: Array, counted: NDArray[np.bool_], units: int = RANDOM_UNITS) -> RandomFeatures:
    """Random features of features (R, F), drawn as if these were standardised.

    There are none where no feature that counts varies.

    Example:
        >>> seen = np.array([[10.0], [30.0]])
        >>> every, of_seen = np.ones(1, bool), drawn_of(seen, np.ones(1, bool), 3).of(seen)
        >>> np.allclose(of_seen, drawn(every, 3).of(np.array([[-1.0], [1.0]])))
        True
    """
    deviation = x.std(axis=0)
    counted = counted & (deviation > 0)
    if not counted.any():
        return none(len(counted))
    found = drawn(counted, units)
    weights = found.weights / np.where(counted, deviation, 1.0)[:, None]
    return RandomFeatures(weights, found.biases - x.mean(axis=0) @ weights)
