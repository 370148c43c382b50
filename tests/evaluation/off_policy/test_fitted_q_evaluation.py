"""Values from logs alone: a chain solved by hand, and the simulator beside it."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.environments import preset
from slateflow.errors import InputError
from slateflow.evaluation import episode_returns
from slateflow.evaluation.off_policy.fitted_q_evaluation import FittedQEvaluation
from slateflow.policies import ScoringPolicy
from slateflow.trajectories import Folder, Recipe, generate
from slateflow.trajectories.held_out import held_out
from slateflow.trajectories.schema import Trajectories
from tests.evaluation.held_out import held_out_value
from tests.learners.linear import linear_scorer

SPEC = preset("modified-lts-20-2")
SWEETEST, KALEIEST = (linear_scorer(np.array([0.0, 0.0, sign]), SPEC) for sign in (1.0, -1.0))


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    recipe = Recipe("logs", "modified-lts-20-2", 1000, 7, {"random": 0.5, "greedy": 0.5})
    return generate(recipe, Folder(str(tmp_path_factory.mktemp("logs"))))


def test_every_fifth_episode_is_held_out(logs):
    rows = logs.read()
    mask, seen = held_out(rows), {}
    for episode, out in zip(rows.episode.tolist(), mask.tolist(), strict=True):
        assert seen.setdefault(episode, out) == out
    assert [number for number, out in enumerate(seen.values()) if out] == list(range(4, 1000, 5))


def test_it_is_what_the_simulator_returns(logs):
    expected = episode_returns(SPEC, ScoringPolicy(SWEETEST), 4000, seed=1)
    # 200 held-out users: a standard error of 0.8
    assert held_out_value(logs, SWEETEST) == pytest.approx(expected.mean(), abs=4)


def test_a_policy_far_from_the_logs_is_still_ranked(logs):
    # No log has users as satisfied as the kaleiest makes them: 1084 in truth
    assert held_out_value(logs, KALEIEST) < held_out_value(logs, SWEETEST) - 50


def chain(episodes: int) -> Trajectories:
    """Three steps; the first click c moves the user to 1 − c, and a click pays user × c."""
    rng = np.random.default_rng(0)
    candidates = rng.random((episodes, 3, 2)).astype(np.float32)
    action = rng.integers(0, 2, (episodes, 3))
    clicked = np.take_along_axis(candidates, action[:, :, None], axis=2)[:, :, 0]
    user = np.ones((episodes, 3), dtype=np.float32)
    user[:, 1:] = 1 - clicked[:, :2]
    rows = episodes * 3
    step = np.tile(np.arange(3, dtype=np.int32), episodes)
    return Trajectories(
        episode=np.repeat(np.arange(episodes), 3),
        step=step,
        user=user.reshape(rows, 1),
        candidates=candidates.reshape(rows, 2, 1),
        slate=action.reshape(rows, 1).astype(np.int32),
        propensity=np.full(rows, 0.5),
        clicked=np.zeros(rows, dtype=np.int32),
        reward=(user * clicked).reshape(rows),
        responses={},
        terminated=step == 2,
        truncated=np.zeros(rows, dtype=np.bool_),
    )


def test_a_chain_by_hand():
    spec = preset("modified-lts-10-1", num_candidates=2, time_budget=3)
    value = FittedQEvaluation(chain(4000), spec.horizon, degree=3)
    # The greatest of two uniform numbers is 2/3 in the mean: the user is 1, then 1/3, then 1/3
    best = 2 / 3
    expected = best + (1 - best) * best + (1 - best) * best
    assert value.value(linear_scorer(np.array([0.0, 0.0, 1.0]), spec)) == pytest.approx(
        expected, abs=0.02
    )


def test_too_few_episodes_are_refused(tmp_path):
    dataset = generate(Recipe("f", SPEC.name, 4, 1, {"random": 1.0}), Folder(str(tmp_path)))
    with pytest.raises(InputError, match="at least 5 episodes, so that one can be held out, got 4"):
        held_out_value(dataset, SWEETEST)
