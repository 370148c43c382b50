"""Policies that show one of many items, which random logs show seldom."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.policies import RandomPolicy
from tests.evaluation.off_policy.confounded_shop import clicks_on
from tests.evaluation.off_policy.shop import OneItem

ITEMS, STEPS = 40, 2


def test_one_in_forty_rows_is_enough_if_they_are_many(tmp_path):
    """Weights of 40 and 0 leave 2.5% of the steps, which are 400 decisions."""
    rng, sessions = np.random.default_rng(4), 8_000
    item = rng.integers(0, ITEMS, sessions * STEPS)
    clicks = np.linspace(0.1, 0.5, ITEMS)
    dataset = clicks_on(tmp_path, item, STEPS, 1 / ITEMS, clicks, rng)
    targets = {"random": RandomPolicy(1), "worst": OneItem(0), "best": OneItem(ITEMS - 1)}
    found = estimate_policies(dataset, targets, held_out_only=False).policies
    truth = STEPS * np.array([clicks.mean(), clicks[0], clicks[-1]])
    for one, value in zip(found.values(), truth, strict=True):
        assert one.refusal is None
        low, high = one.contributions.interval(0.999)
        assert low <= value <= high
    assert found["best"].over(found["random"]).compare().ci[0] > 0


@pytest.mark.parametrize(("sessions", "refused"), [(300, True), (1_500, False)])
def test_learnt_weights_alone_are_not_enough(tmp_path, sessions, refused):
    """An item's price is like that of others, so weights are small, and its own rows are few."""
    rng = np.random.default_rng(5)
    item = rng.integers(0, ITEMS, sessions * STEPS)
    clicks = np.full(ITEMS, 0.4)
    catalogue = pd.DataFrame({"id": np.arange(ITEMS), "price": np.linspace(0, 1, ITEMS)})
    catalogue.to_csv(tmp_path / "items.csv", index=False)
    items = '[items]\nfile = "items.csv"\nid = "id"\nfeatures = ["price"]\ntell_apart = "never"\n'
    dataset = clicks_on(tmp_path, item, STEPS, 1 / ITEMS, clicks, rng, items)
    target = {"one": OneItem(ITEMS // 2)}
    refusal = estimate_policies(dataset, target, held_out_only=False).policies["one"].refusal
    if refused:
        assert "effective decisions are like this policy's, but at least 20" in refusal.reason
        assert 0 < (item == ITEMS // 2).sum() < 20
    else:
        assert refusal is None
