"""The worlds of interests: returns measured on RecSim, and contents of responses and lanes."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest

from slateflow.environments import batched_environment, preset, recsim_environment
from slateflow.environments.interest_exploration.simulator import BatchedInterestExploration
from slateflow.policies import Behaviour, behaviour_policy
from slateflow.policies.play import play
from tests.reference import RETURNS

EPISODES = 2_000
MEASURED = {key: value for key, value in RETURNS.items() if "interest" in key[0]}


@pytest.mark.parametrize(("name", "policy"), MEASURED)
def test_mean_return_is_the_measured_one(name, policy):
    spec = preset(name)
    env = batched_environment(spec, EPISODES)
    behaviour = Behaviour(scorer=policy) if policy == "quality" else policy
    returns = np.zeros(EPISODES)
    for step in play(env, behaviour_policy(behaviour, spec), seed=12):
        returns[step.lanes] += step.rewards
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


def test_evolution_ends_when_the_time_is_used_up_and_reveals_the_clicked_document():
    spec = preset("interest-evolution", time_budget=30)
    steps = list(play(batched_environment(spec, 200), behaviour_policy("random", spec), seed=3))
    left, lengths = np.full(200, 30.0), np.zeros(200)
    for step in steps:
        lengths[step.lanes] += 1
        for row, user in enumerate(step.lanes):
            place = step.responses["clicked"][row]
            response = {name: step.responses[name][row] for name in spec.response_columns}
            if place < 0:
                left[user] -= 0.5
                assert response == {"watch_time": 0, "quality": 0, "liked": 0, "cluster": -1}
                assert step.rewards[row] == 0
            else:
                watched, good = min(left[user], 4.0), response["quality"]
                left[user] += watched * (0.9 / 3.4 * good - 1)
                shown = step.observation["candidates"][row, step.slates[row, place]]
                assert response["cluster"] == shown.argmax()
                assert step.rewards[row] == pytest.approx(watched, abs=1e-5)
                assert response["watch_time"] == np.float32(step.rewards[row])
            assert step.terminated[row] == (left[user] <= 0)
        assert not step.truncated.any()
    assert len(np.unique(lengths)) > 10


@pytest.mark.parametrize("name", ["interest-evolution", "interest-exploration"])
def test_every_policy_meets_the_same_users_candidates_and_followers(name):
    short = {"time_budget": 20} if name == "interest-evolution" else {"step_limit": 9}
    spec, starts = preset(name, **short), []
    for policy in ("random", "greedy"):
        env, behaviour = batched_environment(spec, 40), behaviour_policy(policy, spec)
        observation, _ = env.reset(seed=8)
        rng, seen = np.random.default_rng(1), []
        for _ in range(60):
            users = np.where(observation["step"] == 0, observation["user"], np.nan)
            seen.append((observation["candidates"], users))
            observation, *_ = env.step(behaviour.act(observation, rng)[0])
        starts.append(seen)
    followers = 0
    for one, other in zip(*starts, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        both = ~np.isnan(one[1]) & ~np.isnan(other[1])  # who begins in both at this step
        np.testing.assert_array_equal(one[1][both], other[1][both])
        followers += both.any(axis=1).sum()
    assert followers > 40 or spec.user_size == 0


def test_a_lane_never_shifts_the_numbers_of_another():
    env, runs = batched_environment(preset("interest-evolution", time_budget=15), 6), []
    for mine in ([0, 1, 2], [9, 8, 7]):
        slates = np.tile([7, 3, 5], (6, 1))
        slates[0] = mine
        env.reset(seed=9)
        run = []
        for _ in range(80):
            observation, reward, *ends, _ = env.step(slates)
            run.append(np.column_stack([observation["user"], reward, observation["step"], *ends]))
        runs.append(np.array(run))
    np.testing.assert_array_equal(runs[0][:, 1:], runs[1][:, 1:])
    assert (runs[0][:, 0] != runs[1][:, 0]).any()


def test_statistics_of_gymnasium_are_returns_by_hand():
    spec = preset("interest-evolution", time_budget=20)
    env = gym.wrappers.vector.RecordEpisodeStatistics(batched_environment(spec, 5))
    env.reset(seed=1)
    slates, total, length, ended = np.tile([0, 1, 2], (5, 1)), np.zeros(5), np.zeros(5), 0
    over = np.zeros(5, dtype=bool)
    for _ in range(150):
        observation, reward, terminated, truncated, infos = env.step(slates)
        total, length = np.where(over, 0, total + reward), np.where(over, 0, length + 1)
        assert (reward[over] == 0).all()
        np.testing.assert_array_equal(observation["step"][:, 0], length)
        assert observation in env.observation_space
        over = terminated | truncated
        for lane in np.flatnonzero(over):
            assert infos["episode"]["r"][lane] == pytest.approx(total[lane])
            assert infos["episode"]["l"][lane] == length[lane]
            ended += 1
    assert ended > 10


def test_observations_do_not_change_afterwards():
    spec = preset("interest-evolution")
    for env, slate in [
        (recsim_environment(spec, 1), np.arange(3)),
        (batched_environment(spec, 1), np.arange(3)[None]),
    ]:
        seen = [env.reset(seed=1)[0]]
        kept = [seen[0]["user"].copy()]
        for _ in range(20):
            seen.append(env.step(slate)[0])
            kept.append(seen[-1]["user"].copy())
        for observation, copy in zip(seen, kept, strict=True):
            np.testing.assert_array_equal(observation["user"], copy)
        assert (kept[0] != kept[-1]).any()
