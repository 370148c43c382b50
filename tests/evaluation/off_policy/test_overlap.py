"""Figures of weights, one by one."""

from __future__ import annotations

import math

import numpy as np

from slateflow.evaluation.off_policy.overlap import WEIGHT_EDGES, Overlap


def test_weights_are_counted_by_quarters_of_a_power_of_ten():
    rng = np.random.default_rng(0)
    weight = np.concatenate([np.exp(rng.normal(0, 3, 500)), np.zeros(7), [-0.5, 1e-9, 1e9]])
    overlap = Overlap.of_weights(weight, weight, 0.0)
    least, bins = WEIGHT_EDGES[0], len(WEIGHT_EDGES) - 1
    expected = [0] * (1 + bins)
    for one in weight:
        quarter = -1 if one <= 0 else math.floor((math.log10(one) - least) * 4)
        expected[0 if one <= 0 else 1 + min(max(quarter, 0), bins - 1)] += 1
    assert list(overlap.weight_counts) == expected
    assert expected[0] == 8
    assert sum(expected) == len(weight)
