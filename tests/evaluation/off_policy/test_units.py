"""Estimates of single decisions do not depend on the units and origins of columns."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.policies import RandomPolicy
from tests.trajectories.sources.shop import log, published

UNITS = {
    "in seconds": lambda age: age * 86_400.0 * 365,
    "a point in time": lambda age: 1.7e9 + age * 86_400.0,
    "in millionths": lambda age: age * 1e-6,
}


def estimates(folder, age, item, reward) -> dict[str, tuple[float, float]]:
    """Values and standard errors of random, by estimator."""
    columns = {"age": age, "item": item, "propensity": np.full(len(age), 0.2), "reward": reward}
    log(folder, "log.parquet", columns)
    dataset = published(folder, '[columns]\nuser = ["age"]\n')
    found = estimate_policies(dataset, {"random": RandomPolicy(1)}, held_out_only=False)
    estimated = found.policies["random"].estimates
    return {name: (one.value, one.sem) for name, one in estimated.items()}


@pytest.mark.parametrize("unit", UNITS)
def test_a_column_may_have_any_unit(tmp_path, unit):
    """Least squares dropped all but the largest column: `dm` was a fifth of the truth."""
    rng = np.random.default_rng(3)
    age, item = rng.integers(18, 80, 2000), rng.integers(0, 5, 2000)
    reward = (rng.random(2000) < 0.1 + 0.03 * item).astype(int)
    (tmp_path / "years").mkdir()
    (tmp_path / "other").mkdir()
    plain = estimates(tmp_path / "years", age.astype(float), item, reward)
    other = estimates(tmp_path / "other", UNITS[unit](age), item, reward)
    assert plain["dm"][0] == pytest.approx(reward.mean(), rel=0.02)
    for name, (value, sem) in plain.items():
        assert other[name] == (pytest.approx(value, rel=0.001), pytest.approx(sem, rel=0.01))
