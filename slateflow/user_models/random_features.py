"""Random features: rectified sums, with weights drawn at random, of what users and items are.

Tastes may bend along sums of columns and their products, where neither a polynomial of low degree
nor a spline of one column follows. A regression on enough random features does (Rahimi and Recht
2008, "Weighted Sums of Random Kitchen Sinks"); its prior is that of an infinite network with one
layer (Cho and Saul 2009, "Kernel Methods for Deep Learning", section 2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.policies.slate_choice import RandomFeatures

Array = NDArray[np.float64]

UNITS = 300
"""Random features where there are any."""

MOST_BESIDE = 300
"""Products of user and candidate beside which there may be any."""

SEED = 300
"""Seed of the directions, which are the same in all models."""


def none(features: int) -> RandomFeatures:
    """No random features beside these."""
    return RandomFeatures(np.zeros((features, 0)), np.zeros(0))


def drawn(counted: NDArray[np.bool_], units: int = UNITS) -> RandomFeatures:
    """Random features in directions, of length 1, of the standardised features (F,) that count.

    Example:
        >>> found = drawn(np.array([True, False, True]), 4)
        >>> np.linalg.norm(found.weights, axis=0).round(6).tolist(), found.weights[1].any()
        ([1.0, 1.0, 1.0, 1.0], np.False_)
    """
    rng = np.random.Generator(np.random.SFC64(SEED))
    weights = rng.standard_normal((len(counted), units)) * counted[:, None]
    return RandomFeatures(weights / np.linalg.norm(weights, axis=0), rng.standard_normal(units))


def drawn_of(x: Array, counted: NDArray[np.bool_], units: int = UNITS) -> RandomFeatures:
    """Random features, drawn as if the features that are seen (R, F) were standardised.

    None where none of those that count varies.

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
