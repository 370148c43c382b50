"""The Open Bandit Dataset, men's campaign: published figures on these logs.

Saito et al. 2021, "Open Bandit Dataset and Pipeline". The files come with the package `obp`, whose
code does not run here. Rows of three positions are pooled, each as a session.
"""

from __future__ import annotations

from importlib.metadata import files
from pathlib import Path

import numpy as np
import pytest
import yaml

from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.policies import RandomPolicy
from slateflow.trajectories import Dataset, Folder, LoggedRecipe, generate, read_recipe
from tests.evaluation.off_policy.shop import ByKind

pytestmark = pytest.mark.integration

COLUMNS = """
[columns]
user = ["user_feature_0", "user_feature_1", "user_feature_2", "user_feature_3"]
item = "item_id"
propensity = "propensity_score"
reward = "click"
"""


def packaged(name: str) -> Path:
    """A file of the package."""
    (found,) = [one for one in files("obp") or () if str(one) == f"obp/{name}"]
    return Path(str(found.locate()))


def logs(folder: Path, policy: str, columns: str = COLUMNS) -> Dataset:
    """The log of a policy as a dataset."""
    source = packaged(f"dataset/obd/{policy}/men/men.csv")
    (folder / "men.toml").write_text(f'source = "{source}"\n{columns}')
    recipe = read_recipe(folder, "men")
    assert isinstance(recipe, LoggedRecipe)
    return generate(recipe, Folder(str(folder / "data")))


def test_random_from_the_logs_of_thompson_sampling(tmp_path):
    found = estimate_policies(logs(tmp_path, "bts"), {"it": RandomPolicy(1)}, held_out_only=False)
    one = found.policies["it"]
    value = {name: estimate.value for name, estimate in one.estimates.items()}
    assert round(value["ips"], 6) == 0.003009
    assert round(value["snips"], 6) == 0.003189
    low, high = one.estimates["dr"].interval()
    assert low < 0.003387 < high  # by a cross-fitted logistic regression
    assert low < 0.0046 < high  # random's reward in a log of its own
    assert round(one.overlap.ess, 2) == 655.71
    assert round(one.overlap.mean_weight, 3) == 0.943
    assert round(one.overlap.largest_weight) == 178
    assert round(one.overlap.effective_rewards, 1) == 15.1
    assert one.refusal is None
    assert round(found.logged.value, 4) == 0.0069
    # So few clicks decide nothing between random and Thompson sampling's 0.0069 ± 0.0016
    assert (one.contributions - found.logged).compare().uplift < 0


def test_thompson_sampling_from_the_logs_of_random(tmp_path):
    """By the probabilities of its fixed prior: the best three of one draw per item."""
    columns = COLUMNS.replace('"user_feature_3"', '"user_feature_3", "position"')
    prior = yaml.safe_load(packaged("policy/conf/prior_bts.yaml").read_text())["men"]
    draws = np.random.default_rng(0).beta(prior["alpha"], prior["beta"], (200_000, 34))
    ranked = np.argsort(-draws, axis=1)[:, :3]
    chances = np.stack([np.bincount(ranked[:, place], minlength=34) for place in range(3)])

    class ByPosition(ByKind):
        def first_place(self, observation):
            return self.shown[observation["user"][:, -1].astype(int) - 1]

    dataset = logs(tmp_path, "random", columns)
    found = estimate_policies(dataset, {"bts": ByPosition(chances / 200_000)}, held_out_only=False)
    one = found.policies["bts"]
    value = {name: estimate.value for name, estimate in one.estimates.items()}
    # The chances are simulated here and there
    assert value["ips"] == pytest.approx(0.004534, rel=0.02)
    assert value["snips"] == pytest.approx(0.004604, rel=0.02)
    assert value["dr"] == pytest.approx(0.004503, rel=0.03)
    assert one.overlap.ess == pytest.approx(2467.40, rel=0.02)
    assert one.overlap.mean_weight == pytest.approx(0.985, abs=0.01)
    assert one.overlap.effective_rewards == pytest.approx(14.7, rel=0.03)
    low, high = one.contributions.interval()
    assert low < 0.0069 < high  # its reward in a log of its own
