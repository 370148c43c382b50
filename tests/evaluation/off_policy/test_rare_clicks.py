"""Intervals for sessions with rare clicks, and for items that the logs seldom show."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.evaluation.off_policy.contributions import Contributions
from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.policies import RandomPolicy
from tests.evaluation.off_policy.confounded_shop import clicks_on
from tests.evaluation.off_policy.shop import OneItem

ITEMS, STEPS, SESSIONS, EXPLORES = 8, 3, 3_000, 0.2
CLICKS = np.linspace(0.01, 0.06, ITEMS)


def logs(folder, seed):
    """Logs that show item 0 mostly, and each of the others in 2.5% of the steps."""
    rng, rows = np.random.default_rng(seed), SESSIONS * STEPS
    item = np.where(rng.random(rows) < EXPLORES, rng.integers(0, ITEMS, rows), 0)
    propensity = EXPLORES / ITEMS + (1 - EXPLORES) * (item == 0)
    return clicks_on(folder, item, STEPS, propensity, CLICKS, rng)


@pytest.mark.slow
def test_they_hold_where_the_usual_ones_lie_too_low(tmp_path):
    """A policy that shows the item in the middle has about eight clicks in a log."""
    targets = {"random": RandomPolicy(1), "half": OneItem(ITEMS // 2)}
    truth = STEPS * np.array([CLICKS.mean(), CLICKS[ITEMS // 2]])
    truth = np.append(truth, truth[1] - truth[0])
    too_low, too_high, usual = np.zeros((3, 3))
    count = 150
    for seed in range(count):
        found = estimate_policies(logs(tmp_path / str(seed), seed), targets, held_out_only=False)
        random, half = found.policies.values()
        parts = random.contributions, half.contributions, half.over(random)
        for place, (one, value) in enumerate(zip(parts, truth, strict=True)):
            low, high = one.interval()
            too_low[place] += high < value
            too_high[place] += low > value
            usual[place] += Contributions(one.sums).interval()[1] < value
    held = 1 - (too_low + too_high) / count
    assert (held >= 0.91).all()  # 150 logs: a standard error of 0.018
    assert (np.maximum(too_low, too_high) <= 0.05 * count).all()
    assert (usual[1:] > 0.05 * count).all()
