"""Whether users and items have more to them than a model of choices knows.

Among slates nearly no logged one is that of a target, so the verdict rests on a model of what users
choose, and weights correct it only in what it knows of users and items. A taste that it cannot
follow, or items that differ in more than their columns, would be judged with confidence, and
wrongly.

So what was clicked beyond what the model expects is explained by the leaves of a decision tree on
the columns, and by which item it was. If held-out sessions say that this explains something, the
model is wrong (a score test, Rao 1948, as in `earlier_steps`).
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
"""Leaves of the tree, at most, and shown items in each, at least."""

FARTHEST = 1e9
"""How unlike nothing is, in a tree that takes no infinite numbers."""


def clicks_are_unexplained(rows: Trajectories, expected: Array) -> bool:
    """Whether the columns, or which item it was, explain clicks beyond what is expected.

    Args:
        rows: Whole sessions.
        expected: (R, K) probabilities of a click on each of the items shown.
    """
    some = rows.in_some_sessions(TOLD_APART_ITEMS // rows.slate.shape[1])
    few = rows.where(some)
    surprise = (few.clicks - expected[some]).ravel()
    visitor = few.visitors_by_place
    # Some visitors grow the tree, others tell what is in its leaves, and the rest is asked: if each
    # half were asked about the other, chance would count twice
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
    """Whether slates that were the likelier to be shown are clicked more than expected, or less.

    The logging policy knows something that the model does not, then: columns that are not logged,
    or tastes that bend. The model is right on the average of what it shows, and of no other policy.

    Args:
        rows: Whole sessions.
        expected: (R, K) probabilities of a click on each of the items shown.
    """
    likely, places = np.log(rows.propensity), rows.slate.shape[1]
    if not (deviation := likely.std()) > 0:
        return False
    surprise = rows.clicks - expected
    # The slope of a probability in its log-odds, on which what is unknown bears
    slope, likely = (expected * (1 - expected)).ravel(), (likely - likely.mean()) / deviation
    x = np.column_stack([slope, slope * np.repeat(likely, places)])
    visitor = rows.visitors_by_place
    plain, ours = (other_half_losses(known, surprise.ravel(), visitor) for known in (x[:, :1], x))
    return better(plain, ours, BEYOND_DOUBT)


def _losses(left: Array, visitor: NDArray[np.intp]) -> Array:
    """(V,) squares of the rest of the surprises (S,)."""
    return np.bincount(visitor, np.square(left)).astype(np.float64)


def _columns(rows: Trajectories) -> Array:
    """(S, U + D) columns of the user and of the item that is shown."""
    shown = rows.shown_features()
    user = np.broadcast_to(rows.user[:, None], (*shown.shape[:2], rows.user.shape[1]))
    return np.concatenate([user, shown], axis=2).reshape(rows.slate.size, -1)


def _beside(rows: Trajectories, expected: Array) -> Array:
    """(S, 7) the clicks that are expected on an item, and what its slate shows before and after it.

    How unlike it is, in standard deviations, in the mean and the least; and how many clicks are
    expected there. Nothing is unlike everything.
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
        mean = np.where(np.isinf(far), FARTHEST, (unlike * others).sum(axis=2) / count)
        found += [mean, np.minimum(far, FARTHEST), expected @ others.T]
    return np.stack(found, axis=2).reshape(rows.slate.size, -1)


def _leaves(x: Array, surprise: Array, grows: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(S,) leaves at which columns (S, F) end, of a tree that some of them have grown."""
    from sklearn.tree import DecisionTreeRegressor  # takes a second

    tree = DecisionTreeRegressor(max_leaf_nodes=LEAVES, min_samples_leaf=LEAF_ROWS, random_state=0)
    return np.asarray(tree.fit(x[grows], surprise[grows]).apply(x))
