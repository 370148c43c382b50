"""Figures of weights, one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from slateflow.evaluation.off_policy.contributions import Contributions
from slateflow.evaluation.off_policy.overlap import (
    WEIGHT_EDGES,
    CheckedWeights,
    ItemBalance,
    Overlap,
)


def test_weights_are_counted_by_quarters_of_a_power_of_ten():
    rng = np.random.default_rng(0)
    weight = np.concatenate([np.exp(rng.normal(0, 3, 500)), np.zeros(7), [-0.5, 1e-9, 1e9]])
    overlap = Overlap.of_weights(weight, weight, 0.0, checked=None)
    least, bins = WEIGHT_EDGES[0], len(WEIGHT_EDGES) - 1
    expected = [0] * (1 + bins)
    for one in weight:
        quarter = -1 if one <= 0 else math.floor((math.log10(one) - least) * 4)
        expected[0 if one <= 0 else 1 + min(max(quarter, 0), bins - 1)] += 1
    assert list(overlap.weight_counts) == expected
    assert expected[0] == 8
    assert sum(expected) == len(weight)


@pytest.mark.parametrize("shown", [0, 1, 30])
def test_the_mean_weight_that_is_possible_is_that_of_poisson(shown):
    """Rows of one weight are counted events, with exact limits by Garwood (1936)."""
    rows, weight, tail = 200_000, 50.0, stats.norm.cdf(-5)
    weights = np.where(np.arange(rows) < shown, weight, 0.0)
    low, high = CheckedWeights(Contributions(weights), weight).possible_mean
    expected = stats.gamma.isf(tail, shown + 1) * weight / rows
    assert high == pytest.approx(expected, rel=1e-3)
    expected = stats.gamma.ppf(tail, shown) * weight / rows if shown else 0.0
    assert low == pytest.approx(expected, rel=1e-2)


def test_an_item_that_chance_has_left_out():
    """No row where k are expected has probability exp(−k): at k = 15 that of 5 deviations."""
    unseen = ItemBalance.of(
        np.tile(np.arange(2), (100, 1)),
        np.ones((100, 1), np.int64),
        np.tile([1.0, 0.0], (100, 1)),
        np.full(100, 1 / 0.1),
        ItemBalance.none(2),
    )
    assert unseen.worst(1.0) is None  # 10 rows of weight 10
    item, share, expected = (unseen + unseen).worst(1.0)  # 20 rows
    assert (item, share, expected) == (0, 0.0, 1.0)


def test_an_item_that_nearly_all_have_seen_is_as_uncertain_as_a_count():
    """163 of 176, where 142 were expected, is 4 standard errors of a binomial share."""
    shown = np.where(np.arange(4000) < 163, 1, 0)[:, None]
    wanted = np.where(np.arange(4000) < 176, 1, 0)
    factor = np.where(wanted, 1 / 0.8067, 1.0)
    offered = np.tile(np.arange(2), (4000, 1))
    balance = ItemBalance.of(offered, shown, np.eye(2)[wanted], factor, ItemBalance.none(2))
    z = (163 - 176 * 0.8067) / np.sqrt(176 * 0.8067 * (1 - 0.8067))
    assert 3.9 < z < 4.1
    assert balance.worst(balance.kept) is None
