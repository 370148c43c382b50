"""Tests of whether users or items differ in more than a choice model knows.

A target shows hardly any slate that was logged, so the verdict rests on a choice model, and weights
can correct that model only in terms of the features that it has of users and items. With a taste
that it cannot fit, or items that differ beyond their columns, the verdict would be confident and
wrong.

So clicks beyond the model's expectation are regressed on the leaves of a decision tree over the
columns, and on the identity of the item. If that predicts held-out sessions better, the model is
wrong (a score test, Rao 1948, as in `earlier_steps`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.held_out_choice import BEYOND_DOUBT, better, other_half_losses
from slateflow.trajectories import Trajectories
from slateflow.user_models.prior import shrunk_means
from slateflow.user_models.slate_columns import TOLD_APART_ITEMS

Array = NDArray[np.float64]

LEAVES, LEAF_ROWS = 32, 100
"""Most leaves of the tree, and fewest shown items in each."""

MOST_DISTANCE = 1e9
"""Distance without another item: the tree does not accept infinite numbers."""


def clicks_are_unexplained(rows: Trajectories, expected: Array) -> bool:
    """True if the columns, or the identity of the item, explain clicks beyond the expected ones.

    Args:
        rows: Whole sessions.
        expected: (R, K) probabilities of a click on each of the items shown.
    """
    some = rows.in_some_sessions(TOLD_APART_ITEMS // rows.slate.shape[1])
    few = rows.where(some)
    surprise = (few.clicks - expected[some]).ravel()
    visitor = few.visitors_by_place
    # A third of the visitors grows the tree, a third gives the means of its leaves, and the rest is
    # predicted: if each half predicted the other, chance would count twice
    grows, tells, asked = (visitor % 3 == turn for turn in range(3))
    x = (_columns(few), _beside(few, expected[some]))
    cells = [(_leaves(one, surprise, grows), tells) for one in x]
    if few.catalogue is not None:
        cells.append((few.shown_items().ravel(), ~asked))
    plain = _losses(surprise[asked], visitor[asked])
    return any(
        better(plain, _losses(left[asked], visitor[asked]), BEYOND_DOUBT)
        for left in (surprise - shrunk_means(cell, surprise, told) for cell, told in cells)
    )


def propensities_tell(rows: Trajectories, expected: Array) -> bool:
    """True if clicks beyond the expected ones depend on the propensity of the slate.

    If so, the logging policy knows something that the model does not: columns that are not logged,
    or tastes that bend. The model is right on average over its slates, but for no other policy.

    Args:
        rows: Whole sessions.
        expected: (R, K) probabilities of a click on each of the items shown.
    """
    likely, places = np.log(rows.propensity), rows.slate.shape[1]
    if not (deviation := likely.std()) > 0:
        return False
    surprise = rows.clicks - expected
    # Slope of a probability in its log-odds, which unknown causes change
    slope, likely = (expected * (1 - expected)).ravel(), (likely - likely.mean()) / deviation
    x = np.column_stack([slope, slope * np.repeat(likely, places)])
    visitor = rows.visitors_by_place
    plain, ours = (other_half_losses(known, surprise.ravel(), visitor) for known in (x[:, :1], x))
    return better(plain, ours, BEYOND_DOUBT)


def _losses(left: Array, visitor: NDArray[np.intp]) -> Array:
    """(V,) sums of squares, by visitor, of what is left (S,) of the surprises."""
    return np.bincount(visitor, np.square(left)).astype(np.float64)


def _columns(rows: Trajectories) -> Array:
    """(S, U + D) columns of the user and of the shown item."""
    shown = rows.shown_features()
    user = np.broadcast_to(rows.user[:, None], (*shown.shape[:2], rows.user.shape[1]))
    return np.concatenate([user, shown], axis=2).reshape(rows.slate.size, -1)


def _beside(rows: Trajectories, expected: Array) -> Array:
    """(S, 7) expected clicks on an item, and properties of its slate before and after it.

    These are the mean and the least distance to the items there, in standard deviations, and the
    clicks expected there. Without other items distances are `MOST_DISTANCE`.
    """
    shown = rows.shown_features().astype(np.float64)
    shown /= np.maximum(shown.std(axis=(0, 1)), np.finfo(np.float32).tiny)
    places = rows.slate.shape[1]
    unlike = np.stack(
        [np.square(shown - shown[:, [place]]).mean(axis=2) for place in range(places)], axis=1
    )
    found = [expected]
    for others in (np.tri(places, k=-1, dtype=bool), ~np.tri(places, dtype=bool)):
        far = np.where(others, unlike, np.inf).min(axis=2)
        count = np.maximum(others.sum(axis=1), 1)
        mean = np.where(np.isinf(far), MOST_DISTANCE, (unlike * others).sum(axis=2) / count)
        found += [mean, np.minimum(far, MOST_DISTANCE), expected @ others.T]
    return np.stack(found, axis=2).reshape(rows.slate.size, -1)


def _leaves(x: Array, surprise: Array, grows: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(S,) leaves that columns (S, F) reach in a tree grown on the rows in `grows` (S,)."""
    from sklearn.tree import DecisionTreeRegressor  # takes a second

    tree = DecisionTreeRegressor(max_leaf_nodes=LEAVES, min_samples_leaf=LEAF_ROWS, random_state=0)
    return np.asarray(tree.fit(x[grows], surprise[grows]).apply(x))
