"""How likely slates were to include an item, by regression on what the policy could follow.

The propensity of a slate does not reveal how likely each of its items was. But a policy follows
columns that logs have: the user's, and what is on offer. So a logistic regression for each item, of
whether slates include it, estimates this probability; squares and products of the columns make it
accurate where the log-odds bend.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.standardised import standardised
from slateflow.shared_rows import at_rows

Array = NDArray[np.float64]

MOST_ITEMS = 50
"""Most items whose inclusion is estimated: those that are shown most often."""

MOST_TERMS = 60
"""Most terms of a regression with squares and products."""

ITERATIONS = 30
"""Most Newton steps; about eight are taken."""


def common_items(item: NDArray[np.int32]) -> NDArray[np.intp]:
    """(M,) numbers of the items (R, K) that are shown most often."""
    shown = np.bincount(item.ravel())
    common = np.argsort(-shown, kind="stable")[:MOST_ITEMS]
    return np.sort(common[shown[common] > 0])


def items_on_offer(
    offered: Iterable[NDArray[np.integer]] | None, some: NDArray[np.intp], items: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """(S, M) whether rows offer items (M,).

    Args:
        offered: Blocks (B, N) of the numbers of all items on offer, −1 after a row's last; None
            where all rows offer all items.
        some: (S,) rows.
        items: (M,) sorted numbers of items.
    """
    found = np.ones((len(some), len(items)), np.bool_)
    if offered is None:
        return found
    place, start = np.argsort(some), 0
    sorted_rows = some[place]
    for block in offered:
        low, high = np.searchsorted(sorted_rows, (start, start + len(block)))
        own = place[low:high]
        on_offer = at_rows(block, some[own] - start)
        at = np.minimum(np.searchsorted(items, on_offer), len(items) - 1)
        row, column = np.nonzero(items[at] == on_offer)
        found[own] = False
        found[own[row], at[row, column]] = True
        start += len(block)
    return found


def inclusion(included: NDArray[np.bool_], on_offer: NDArray[np.bool_], columns: Array) -> Array:
    """(S, M) probabilities that slates include items; 0 where they are not on offer.

    Args:
        included: (S, M) whether slates include items.
        on_offer: (S, M) whether slates could include them.
        columns: (S, U) columns that the policy could follow.
    """
    x = _terms(columns, included, on_offer)
    found = np.zeros(included.shape)
    for item in range(included.shape[1]):
        rows = on_offer[:, item]
        found[rows, item] = _fitted(x[rows], included[rows, item])
    return found


def _terms(columns: Array, included: NDArray[np.bool_], on_offer: NDArray[np.bool_]) -> Array:
    """(S, P) columns and the appeal of the offer, if they vary, with squares and products."""
    appeal = included.sum(axis=0) / np.maximum(on_offer.sum(axis=0), 1)
    x = np.column_stack([columns, np.log(on_offer @ appeal + np.finfo(float).tiny)])
    x = standardised(x)
    x = x[:, x.any(axis=0)]
    one, other = np.triu_indices(x.shape[1])
    if x.shape[1] + len(one) > MOST_TERMS:
        return x
    return np.concatenate([x, standardised(x[:, one] * x[:, other])], axis=1)


def _fitted(x: Array, included: NDArray[np.bool_]) -> Array:
    """(S,) probabilities by a logistic regression on terms (S, P)."""
    if not x.size or included.all() or not included.any():
        return np.full(len(included), included.mean() if len(included) else 0.0)
    from sklearn.linear_model import LogisticRegression  # takes a second

    model = LogisticRegression(solver="newton-cholesky", max_iter=ITERATIONS)
    return np.asarray(model.fit(x, included).predict_proba(x)[:, 1], np.float64)
