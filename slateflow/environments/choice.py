"""RecSim's choice models, for any number of users at once: which place of a slate is clicked.

Each turns one uniform draw per user into a decision, as NumPy's legacy `choice` does, so a replay
of RecSim's draws gives RecSim's clicks.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def categorical(shares: Floats, uniform: Floats) -> NDArray[np.intp]:
    """Categories from uniform draws in [0, 1); `shares` (C,) are the same for all draws.

    Example:
        >>> categorical(np.array([0.3, 0.7]), np.array([0.0, 0.29, 0.3, 0.99])).tolist()
        [0, 0, 1, 1]
    """
    cumulated = np.cumsum(shares)
    categories = np.zeros(uniform.shape, np.intp)
    for bound in cumulated[:-1] / cumulated[-1]:  # faster than a search among few
        categories += uniform >= bound
    return categories


def multinomial_logit(scores: Floats, no_click_mass: float, uniform: Floats) -> NDArray[np.int32]:
    """The clicked place (B,), −1 for none: likelihoods are exponentials of the scores.

    Args:
        scores: (B, K) of the shown documents.
        no_click_mass: Score of clicking nothing.
        uniform: (B,) draws in [0, 1).
    """
    logits = _with_no_click(scores, no_click_mass)
    weights = np.exp(logits - logits.max(axis=0))
    return _place(weights / weights.sum(axis=0), uniform)


def multinomial_proportional(
    scores: Floats, no_click_mass: float, min_normalizer: float, uniform: Floats
) -> NDArray[np.int32]:
    """The clicked place (B,), −1 for none: likelihoods are the scores less `min_normalizer`.

    Args:
        scores: (B, K) of the shown documents, none below `min_normalizer`.
        no_click_mass: Score of clicking nothing.
        min_normalizer: Score at which a document is never clicked.
        uniform: (B,) draws in [0, 1).
    """
    return _place(_with_no_click(scores, no_click_mass) - min_normalizer, uniform)


def _with_no_click(scores: Floats, no_click_mass: float) -> Floats:
    """Scores (K + 1, B), no click last; users are the last axis, along which NumPy is fast."""
    rows = np.empty((scores.shape[1] + 1, len(scores)))
    rows[:-1], rows[-1] = scores.T, no_click_mass
    return rows


def _place(weights: Floats, uniform: Floats) -> NDArray[np.int32]:
    """Places (B,) from weights (K + 1, B), the last of which is that of no click."""
    cumulated = weights / weights.sum(axis=0)
    for before, place in pairwise(cumulated):  # `cumsum` takes eight times as long along few places
        place += before
    cumulated /= cumulated[-1]
    chosen = np.add.reduce(cumulated <= uniform, axis=0, dtype=np.int32)
    return np.where(chosen == len(weights) - 1, np.int32(-1), chosen)
