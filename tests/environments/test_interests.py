"""The worlds of interests: returns measured on RecSim, and what a response and a lane hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slateflow.environments import BatchedInterestExploration, batched_environment, preset
from slateflow.policies import behaviour_policy
from slateflow.policies.play import play

EPISODES = 2_000

# Mean episode return by RecSim's own simulator and its error (half of the last digit that is
# known, where the s.e.m. is not); interest exploration: clicks in 100 steps.
MEASURED = {
    ("interest-exploration", "random"): (31.0, 0.05),
    ("interest-exploration", "greedy"): (44.6, 0.05),
}


@pytest.mark.parametrize(("name", "policy"), MEASURED)
def test_mean_return_is_the_measured_one(name, policy):
    spec = preset(name)
    env = batched_environment(spec, EPISODES)
    returns = np.zeros(EPISODES)
    for step in play(env, behaviour_policy(policy, spec), seed=12):
        returns += np.where(step.alive, step.rewards, 0.0)
    mean, error = MEASURED[name, policy]
    sem = returns.std(ddof=1) / math.sqrt(EPISODES)
    assert abs(returns.mean() - mean) < 4 * math.hypot(error, sem)


def test_exploration_is_truncated_at_the_limit_and_reveals_the_clicked_document():
    spec = preset("interest-exploration", step_limit=30)
    steps = list(play(batched_environment(spec, 200), behaviour_policy("random", spec), seed=3))
    assert [step.truncated.all() for step in steps] == [False] * 29 + [True]
    for step in steps:
        assert not step.terminated.any()
        assert step.observation["user"].shape == (200, 0)
        np.testing.assert_array_equal(step.observation["candidates"][:, :, 1:].sum(axis=2), 1)
        for user, place in enumerate(step.responses["clicked"]):
            response = [step.responses[name][user] for name in ("quality", "cluster")]
            if place < 0:
                assert (step.rewards[user], *response) == (0, 0, -1)
                continue
            shown = step.observation["candidates"][user, step.slates[user, place]]
            assert step.rewards[user] == 1
            assert response == [shown[0], shown[1:].argmax()]


def test_types_of_users_have_their_shares():
    env = BatchedInterestExploration(preset("interest-exploration"), 20_000)
    env.reset(seed=5)
    # Log affinities have means 0.7 and 0.1; log 1.5 lies three deviations from both.
    first = np.mean(env._affinities[:, 1] > 1.5)  # the first type, with share 0.3
    assert abs(first - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 20_000)
    assert abs(np.mean(np.log(env._affinities[:, 1])) - (0.3 * 0.7 + 0.7 * 0.1)) < 0.01
