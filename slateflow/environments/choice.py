"""Which place of a slate is clicked: RecSim's choice models for any number of users at once.

Each turns one uniform draw a user into a decision, as NumPy's legacy `choice` does, so that a
replay of RecSim's draws gives RecSim's clicks.
"""

from __future__ import annotations

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
    for bound in cumulated[:-1] / cumulated[-1]:  # a search takes longer among few
        categories += uniform >= bound
    return categories


def multinomial_logit(scores: Floats, no_click_mass: float, uniform: Floats) -> NDArray[np.int32]:
    """The clicked place, −1 for none: likelihoods are exponentials of the scores.

    Args:
        scores: (B, K) of the shown documents.
        no_click_mass: Score of clicking nothing.
        uniform: (B,) draws in [0, 1).
    """
    logits = _with_no_click(scores, no_click_mass)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return _place(weights / weights.sum(axis=1, keepdims=True), uniform)


def multinomial_proportional(
    scores: Floats, no_click_mass: float, min_normalizer: float, uniform: Floats
) -> NDArray[np.int32]:
    """The clicked place, −1 for none: likelihoods are the scores less `min_normalizer`.

    Args:
        scores: (B, K) of the shown documents, none below `min_normalizer`.
        no_click_mass: Score of clicking nothing.
        min_normalizer: Score with which a document is never clicked.
        uniform: (B,) draws in [0, 1).
    """
    return _place(_with_no_click(scores, no_click_mass) - min_normalizer, uniform)


def _with_no_click(scores: Floats, no_click_mass: float) -> Floats:
    return np.column_stack([scores, np.full(len(scores), no_click_mass)])


def _place(weights: Floats, uniform: Floats) -> NDArray[np.int32]:
    """Places from weights (B, K + 1), of which the last is that of no click."""
    cumulated = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    cumulated /= cumulated[:, -1:]
    chosen = np.count_nonzero(cumulated <= uniform[:, None], axis=1).astype(np.int32)
    return np.where(chosen == weights.shape[1] - 1, np.int32(-1), chosen)
