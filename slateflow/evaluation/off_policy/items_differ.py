"""Advice to tell items apart: whether they earn more, or less, than their columns tell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.bends import LEAST_SESSIONS, MOST_ROWS
from slateflow.evaluation.off_policy.item_features import MOST_ITEMS, ItemFeatures
from slateflow.trajectories import Dataset
from slateflow.user_models.held_out_choice import least_lost, other_half_errors
from slateflow.user_models.polynomial import Polynomial
from slateflow.user_models.session_memory import some_sessions


def items_differ(dataset: Dataset) -> bool:
    """Whether held-out visitors say that items with the same columns earn differently.

    Regressed are the rewards of all that was shown on the products of the user's columns, with the
    place in the slate, and the item's; and with the items besides. Of items that their columns
    tell apart one by one, and of more than 100, nobody asks.
    """
    catalogue, places = dataset.catalogue, dataset.spec.slate_size
    if catalogue is None or not catalogue.features.shape[1] < len(catalogue) <= MOST_ITEMS:
        return False
    rows = some_sessions(dataset, MOST_ROWS // places)
    if len(rows.starts) < LEAST_SESSIONS:
        return False
    place = np.tile(np.arange(places), len(rows))
    item = np.take_along_axis(rows.candidates, rows.slate, axis=1).ravel()
    paid = (rows.reward[:, None] * (rows.clicked[:, None] == np.arange(places))).ravel()
    known = np.column_stack(
        [np.repeat(rows.user, places, axis=0), place[:, None] == np.arange(1, places)]
    )
    x = np.concatenate([known, catalogue.features[item]], axis=1, dtype=np.float64)
    visitor = np.repeat(rows.visitors, places)
    users = known.shape[1]
    polynomial = Polynomial.over(x, 1, users)

    def losses(features: ItemFeatures) -> NDArray[np.float64]:
        wrong = other_half_errors(features.design(x, item), paid, visitor % 2 == 0)
        return np.asarray(np.bincount(visitor, np.square(wrong)), np.float64)

    plain = ItemFeatures(polynomial, users)
    told = ItemFeatures(polynomial, users, len(catalogue))
    return least_lost(plain, [told], losses) is told
