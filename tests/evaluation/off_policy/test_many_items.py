"""Policies that show one of many items, which random logs show seldom."""

from __future__ import annotations

import numpy as np

from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.policies import RandomPolicy
from tests.evaluation.off_policy.confounded_shop import Shows, clicks_on

ITEMS, STEPS = 40, 2


def test_one_in_forty_rows_is_enough_if_they_are_many(tmp_path):
    """Weights of 40 and 0 leave 2.5% of the steps, which are 400 decisions."""
    rng, sessions = np.random.default_rng(4), 8_000
    item = rng.integers(0, ITEMS, sessions * STEPS)
    clicks = np.linspace(0.1, 0.5, ITEMS)
    dataset = clicks_on(tmp_path, item, STEPS, 1 / ITEMS, clicks, rng)
    targets = {"random": RandomPolicy(1), "worst": Shows(0), "best": Shows(ITEMS - 1)}
    found = estimate_policies(dataset, targets, held_out_only=False).policies
    truth = STEPS * np.array([clicks.mean(), clicks[0], clicks[-1]])
    for one, value in zip(found.values(), truth, strict=True):
        assert one.refusal is None
        low, high = one.contributions.interval(0.999)
        assert low <= value <= high
    assert found["best"].over(found["random"]).compare().ci[0] > 0
