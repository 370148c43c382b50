"""Sessions that users may leave at each step: keeping users pays more than the best step."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from slateflow.learners import learner_config, train
from slateflow.trajectories import Dataset, Folder, generate
from tests.trajectories.sources.shop import log, recipe

GRAB, STAY = 0, 1  # their places in the catalogue
PAYS, LEAVES = (1.0, 0.4), (0.9, 0.1)
STEPS = 20
COLUMNS = '[columns]\nuser = ["mood"]\nepisode = "session"\ntime = "t"\nitem = "item"\n'


@pytest.fixture(scope="module")
def sessions(tmp_path_factory) -> Dataset:
    """Own logs of 1,000 sessions: grabbing pays 1 and 9 in 10 leave; staying pays .4 and 1 does."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("leaving")
    item = np.where(rng.random((1000, STEPS)) < 0.3, GRAB, STAY)
    left = rng.random(item.shape) < np.array(LEAVES)[item]
    there = np.cumsum(left, axis=1) - left == 0
    session, step = np.nonzero(there)
    pays = np.array(PAYS)[item] + 0.1 * rng.standard_normal(item.shape)
    frame = pd.DataFrame(
        {
            "session": session,
            "t": step,
            "mood": rng.random(len(step)),
            "item": np.array(["grab", "stay"])[item[there]],
            "propensity": np.array([0.3, 0.7])[item[there]],
            "reward": pays[there],
        }
    )
    log(folder, "1.parquet", frame)
    return generate(recipe(folder, COLUMNS), Folder(str(folder / "data")))


def worth_of_staying(step: int) -> float:
    """Value of staying less that of grabbing, if all later steps stay."""
    later = 0.0
    for _ in range(STEPS - 1 - step):
        later = PAYS[STAY] + (1 - LEAVES[STAY]) * later
    return PAYS[STAY] - PAYS[GRAB] + (LEAVES[GRAB] - LEAVES[STAY]) * later


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["cql", "iql", "marwil", "bc"])
def test_who_leaves_is_kept(sessions, learner):
    scorer, _ = train(sessions, learner_config(learner), seed=0)
    offered = np.broadcast_to(np.eye(2), (5, 2, 2))
    scores = scorer.scores(np.full((5, 1), 0.5), np.zeros(5, int), offered)
    gap = (scores[:, STAY] - scores[:, GRAB]).mean()
    assert gap > 0
    if learner in ("cql", "iql"):  # their scores are values, in standard deviations of the reward
        unit = sessions.read().reward.std()
        # An expectile of .95 falls short of the best by a fiftieth at each step
        assert gap * unit == pytest.approx(
            worth_of_staying(0), rel=0.3 if learner == "iql" else 0.2
        )
