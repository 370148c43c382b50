"""Logs that cannot tell: each ends without a verdict, and with the sentence that says why."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies
from tests.evaluation.off_policy.shop import EVENLY, FAVOURITE, LIKED, dataset, frame


def refusal(folder, logged, target=EVENLY):
    found = estimate_policies(dataset(folder, logged), {"it": target}, held_out_only=False)
    return found.policies["it"].refusal


@pytest.fixture
def logged():
    return frame(6000, seed=2)


def test_logs_that_can_tell(tmp_path, logged):
    assert refusal(tmp_path, logged) is None
    assert refusal(tmp_path / "favourite", logged, FAVOURITE) is None


def test_propensities_of_other_rows(tmp_path, logged):
    shuffled = np.random.default_rng(0).permutation(logged.propensity.to_numpy())
    found = refusal(tmp_path, logged.assign(propensity=shuffled))
    assert "mean weight" in found.reason
    assert "propensity" in found.advice


def test_propensities_twice_too_large(tmp_path, logged):
    found = refusal(tmp_path, logged.assign(propensity=2 * logged.propensity))
    assert found.reason.startswith("the mean weight of this policy is 0.497")
    assert "and 1 is expected" in found.reason


def test_propensities_that_are_all_1(tmp_path, logged):
    found = refusal(tmp_path, logged.assign(propensity=1.0))
    assert found.reason.startswith("the mean weight of this policy is 0.2")


def test_an_item_that_was_never_shown(tmp_path, logged):
    shown = np.array([[0.5, 0.0, 0.3, 0.2, 0.0], [0.3, 0.0, 0.4, 0.3, 0.0]])
    some = frame(6000, seed=3, shown=shown)
    some.loc[0, ["item", "propensity"]] = [1, 0.5]  # so that the catalogue has them
    some.loc[1, ["item", "propensity"]] = [4, 0.5]
    found = refusal(tmp_path, some)
    assert "hardly seen" in found.reason or "mean weight" in found.reason
    assert "log" in found.advice


def test_a_single_row_that_decides(tmp_path, logged):
    heavy = logged.assign(reward=0)
    heavy.loc[:40, "reward"] = 1
    heavy.loc[3, "propensity"] = 0.0002
    found = refusal(tmp_path, heavy)
    assert "effective rewards" in found.reason or "a single session carries" in found.reason


def test_hardly_any_reward(tmp_path, logged):
    rare = logged.assign(reward=0)
    rare.loc[[3, 50, 700, 5000], "reward"] = 1
    found = refusal(tmp_path, rare)
    assert "effective rewards, at least 10 are needed" in found.reason


def test_a_bucket_that_explores_judges_beside_one_that_does_not(tmp_path):
    """A tenth of the visits are random, the others always see item 1."""
    explored = frame(2000, seed=8).assign(bucket="explores")
    fixed = frame(18_000, seed=9, shown=np.eye(5)[[1, 1]]).assign(bucket="fixed")
    both = pd.concat([explored, fixed]).sample(frac=1.0, random_state=0)
    logs = dataset(tmp_path, both, policy="bucket")
    found = estimate_policies(logs, {"it": EVENLY, "best": FAVOURITE}, held_out_only=False)
    one = found.policies["it"]
    assert one.refusal is None
    alone = explored.reward / 5 / explored.propensity
    assert one.estimates["ips"].value == pytest.approx(alone.mean())
    for name, truth in (("it", LIKED.mean()), ("best", 0.30)):
        low, high = found.policies[name].contributions.interval(0.999)
        assert low < truth < high
    assert found.logged.value == pytest.approx(both.reward.mean())
