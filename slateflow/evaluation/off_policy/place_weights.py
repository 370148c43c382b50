"""Weights of slates by what stands in each of their places.

A model of what users choose may be wrong: they look at the first place more than at the last, or
stop at the first item that they like. Its errors can be seen in the logs, and weighted as the
target shows slates. The probability of exactly one slate among thousands leaves hardly a row with
a weight. Where the error of a slate is a sum over its places, it is enough that each place shows
what the target shows there as often as the target does. That is the pseudo-inverse estimator
(Swaminathan et al. 2017, "Off-policy evaluation for slate recommendation", section 3), here beside
a model (Vlassis et al. 2021, "Control Variates for Slate Off-Policy Evaluation").

With features ψ of what stands where, the weights are ψ λ, where λ solves Σ ψ ψᵀ λ = Σ ψ of the
target's slates. They need no propensities. The λ of a session is solved without it, on the other
folds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.double_learning import FOLDS
from slateflow.policies import Slates
from slateflow.policies.slate_scorer import item_features, user_features
from slateflow.user_models.item_values import Rows, Sessions

Array = NDArray[np.float64]

RIDGE = 1.0
"""Precision of the prior on λ, in all: about a row more of each feature."""

MOST_FEATURES = 1_000
ROWS_PER_FEATURE = 20
"""Above so many, or with fewer rows for each, the items' products with the user are left out, then
the items."""


def place_weights(sessions: Sessions, slates: Slates, weight: Array, member: Array) -> Array:
    """Weights (R,) of the logged rows that show what a target shows, place by place.

    Args:
        sessions: The logs, R rows of E sessions.
        slates: (R, K) those of the target.
        weight: (R,) how much oftener the target comes to each row.
        member: (R,) by which the rows count.
    """
    level = _level(sessions)
    fold = sessions.rows.visitors % FOLDS
    grams, moments = [], []
    for block in sessions.blocks():
        shown = _features(sessions, block, sessions.rows.slate[block], level)
        target = _features(sessions, block, slates[block], level)
        own = [np.flatnonzero(fold[block] == number) for number in range(FOLDS)]
        counted = shown * member[block, None]
        grams.append([counted[rows].T @ shown[rows] for rows in own])
        moments.append([weight[block[rows]] @ target[rows] for rows in own])
    gram, moment = np.sum(grams, axis=0), np.sum(moments, axis=0)  # (F, W, W), (F, W)
    every, total = gram.sum(axis=0) + RIDGE * np.eye(gram.shape[1]), moment.sum(axis=0)
    solved = np.stack(
        [np.linalg.solve(every - own, total - one) for own, one in zip(gram, moment, strict=True)]
    )
    found = np.empty(len(weight))
    for block in sessions.blocks():
        shown = _features(sessions, block, sessions.rows.slate[block], level)
        found[block] = np.einsum("bw,bw->b", shown, solved[fold[block]])
    return found


def _level(sessions: Sessions) -> int:
    """2 with the items and their products with the user, 1 with the items, 0 without them."""
    most = min(MOST_FEATURES, len(sessions.rows) // ROWS_PER_FEATURE)
    first = np.arange(1)
    for level in (2, 1):
        if _features(sessions, first, sessions.rows.slate[first], level).shape[1] <= most:
            return level
    return 0


def _features(sessions: Sessions, block: Rows, slates: Slates, level: int) -> Array:
    """(B, W) of slates (B, K) at some rows: the user's, and what stands in each place."""
    rows = sessions.rows
    state = user_features(rows.user[block])
    if not level:
        return state
    items: NDArray[np.floating] = rows.features_at(slates, block)
    if level > 1:
        items = item_features(rows.user[block], items, sessions.features_match)
    return np.column_stack([state, items.reshape(len(block), -1)])
