"""The batched simulator: published returns, common random numbers, Gymnasium's conventions."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
from scipy.stats import linregress

from slateflow.environments import preset
from slateflow.environments.long_term_satisfaction.simulator import BatchedLongTermSatisfaction
from slateflow.errors import InputError
from slateflow.policies import behaviour_policy
from slateflow.policies.play import play
from tests.reference import RETURNS

EPISODES = 8_000
PUBLISHED = {key: value for key, value in RETURNS.items() if "lts" in key[0]}


@pytest.mark.parametrize(("name", "policy"), PUBLISHED)
def test_mean_return_is_the_published_one(name, policy):
    spec = preset(name)
    env = BatchedLongTermSatisfaction(spec, EPISODES)
    steps = list(play(env, behaviour_policy(policy, spec), seed=20_2))
    assert len(steps) == spec.time_budget
    returns = np.sum([step.rewards for step in steps], axis=0)
    mean, sem = PUBLISHED[name, policy]
    own_sem = returns.std(ddof=1) / math.sqrt(EPISODES)
    assert abs(returns.mean() - mean) < 4 * math.hypot(sem, own_sem)


@pytest.mark.parametrize(
    ("policy", "slope"), [("opposite", 0.00060), ("greedy", -0.00304), ("random", -0.00068)]
)
def test_slope_of_reward_over_an_episode_is_the_published_one(policy, slope):
    # RecSim's candidates in every environment, as its samplers have seed 0.
    scores = np.random.RandomState(0).random_sample(10)
    assert (scores.min().round(4), scores.max().round(4)) == (0.3834, 0.9637)
    spec = preset("modified-lts-10-1", resample_documents=False)
    env = BatchedLongTermSatisfaction(spec, 20_000)
    observation, _ = env.reset(seed=5)
    env._candidates = np.broadcast_to(scores.astype(np.float32)[:, None], (20_000, 10, 1))
    observation["candidates"] = env._candidates
    behaviour, rng = behaviour_policy(policy, spec), np.random.default_rng(6)
    rewards = []
    for _ in range(120):
        observation, reward, *_ = env.step(behaviour.act(observation, rng)[0])
        rewards.append(reward)
    times = np.arange(120)
    slopes = np.polyfit(times, np.array(rewards), 1)[0]
    sem = slopes.std(ddof=1) / math.sqrt(len(slopes))
    assert linregress(times, np.mean(rewards, axis=1)).slope == pytest.approx(slopes.mean())
    assert abs(slopes.mean() - slope) < 4 * math.hypot(0.00001, sem)


@pytest.mark.parametrize("resample", [True, False])
def test_every_policy_meets_the_same_users_and_candidates(resample):
    spec = preset("modified-lts-20-2", resample_documents=resample)
    env = BatchedLongTermSatisfaction(spec, 50)
    runs = [
        list(play(env, behaviour_policy(policy, spec), seed=11)) for policy in ("random", "greedy")
    ]
    random, greedy = runs
    np.testing.assert_array_equal(random[0].observation["user"], greedy[0].observation["user"])
    for one, other in zip(random, greedy, strict=True):
        np.testing.assert_array_equal(
            one.observation["candidates"], other.observation["candidates"]
        )
    assert (random[-1].observation["user"] != greedy[-1].observation["user"]).all()
    moved = random[0].observation["candidates"] != random[1].observation["candidates"]
    assert moved.mean() == (1 if resample else 0)


def test_noise_is_common_where_the_slates_are():
    env = BatchedLongTermSatisfaction(preset("lts-20-2"), 30)
    slates = np.tile([4, 2], (30, 1))
    rewards = []
    for _ in range(2):
        env.reset(seed=3)
        rewards.append([env.step(slates)[1] for _ in range(60)])
    np.testing.assert_array_equal(*rewards)


def test_a_lane_never_shifts_the_numbers_of_another():
    env = BatchedLongTermSatisfaction(preset("modified-lts-20-2"), 6)
    runs = []
    for mine in ([0, 1], [19, 18]):
        slates = np.tile([7, 3], (6, 1))
        slates[0] = mine
        observation, _ = env.reset(seed=9)
        run = [observation["user"]]
        for _ in range(120):
            observation, reward, *_ = env.step(slates)
            run.append(np.column_stack([observation["user"], reward]))
        runs.append(run)
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one[1:], other[1:])
    assert (runs[0][-1][0] != runs[1][-1][0]).all()


def test_lanes_differ_and_cover_what_users_start_with():
    spec = preset("modified-lts-10-1")
    env = BatchedLongTermSatisfaction(spec, 4_000)
    started = np.sort(env.reset(seed=2)[0]["user"][:, 0])
    # Exposure is uniform in ±0.5 / (1 − memory discount); satisfaction is monotone in it.
    edge = 0.058 * 0.5 / 0.3
    lowest, highest = 1 / (1 + math.exp(edge)), 1 / (1 + math.exp(-edge))
    assert lowest <= started[0] < lowest + 0.001
    assert highest - 0.001 < started[-1] <= highest
    assert len(np.unique(started)) > 3_900


def test_seeds_reproduce_and_differ():
    env = BatchedLongTermSatisfaction(preset("modified-lts-10-1"), 5)
    first, again, other = (env.reset(seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first["candidates"], again["candidates"])
    np.testing.assert_array_equal(first["user"], again["user"])
    assert (first["candidates"] != other["candidates"]).all()
    assert (first["candidates"] != env.reset()[0]["candidates"]).all()
    unseeded = [
        BatchedLongTermSatisfaction(preset("lts-10-1")).reset()[0]["candidates"] for _ in range(2)
    ]
    assert (unseeded[0] != unseeded[1]).all()


def test_observations_stay_in_their_space_and_episodes_reset_one_step_late():
    spec = preset("modified-lts-20-2", time_budget=3)
    env = BatchedLongTermSatisfaction(spec, 4)
    assert env.metadata["autoreset_mode"] is gym.vector.AutoresetMode.NEXT_STEP
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space
    slates = env.action_space.sample()
    for step in (1, 2, 3):
        observation, reward, terminated, truncated, infos = env.step(slates)
        assert observation in env.observation_space
        assert observation["step"].tolist() == [[step]] * 4
        assert terminated.tolist() == [step == 3] * 4
        assert not truncated.any()
        assert set(infos) == {"clicked", "watch_time"}
        assert (reward > 0).all()
    last = observation["user"]
    observation, reward, terminated, truncated, infos = env.step(slates)
    assert observation["step"].tolist() == [[0]] * 4
    assert (observation["user"] != last).all()
    assert not reward.any()
    assert not terminated.any()
    assert not truncated.any()
    assert infos == {}


def test_satisfaction_can_be_hidden():
    env = BatchedLongTermSatisfaction(preset("lts-20-2"), 3)
    observation, _ = env.reset(seed=0)
    assert observation["user"].shape == (3, 0)
    assert observation in env.observation_space


def test_watch_time_is_clipped_and_the_reward_is_not():
    env = BatchedLongTermSatisfaction(preset("lts-10-1", choc_mean=9.0, kale_mean=9.0), 200)
    env.reset(seed=0)
    _, reward, *_, infos = env.step(np.zeros((200, 1), dtype=np.int32))
    assert reward.max() > 200
    np.testing.assert_allclose(infos["watch_time"], [min(one, 100.0) for one in reward], rtol=1e-6)


@pytest.mark.parametrize(
    ("actions", "came"),
    [
        (np.array([[0, 0], [1, 2]]), r"int64 \(2, 2\): \[\[0, 0\], \[1, 2\]\]"),
        (np.array([[0, 20], [1, 2]]), r"\[\[0, 20\]"),
        (np.array([[0, -1], [1, 2]], dtype=np.int32), r"int32 .*\[\[0, -1\]"),
        (np.array([[0, 1]]), r"\(1, 2\)"),
        (np.array([[0.0, 1.0], [1.0, 2.0]]), "float64"),
    ],
)
def test_what_is_no_slate_is_refused(actions, came):
    env = BatchedLongTermSatisfaction(preset("modified-lts-20-2"), 2)
    env.reset(seed=0)
    with pytest.raises(InputError, match=r"expected 2 slates of 2 distinct positions.*" + came):
        env.step(actions)


def test_steps_and_lanes_are_checked():
    with pytest.raises(InputError, match="num_envs: expected at least 1, got 0"):
        BatchedLongTermSatisfaction(preset("lts-20-2"), 0)
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        BatchedLongTermSatisfaction(preset("lts-20-2")).step(np.array([[0, 1]]))
