"""Online learners: views and counts, a problem with a known answer, and a clean process."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from slateflow.environments import preset
from slateflow.environments.long_term_satisfaction.simulator import BatchedLongTermSatisfaction
from slateflow.errors import InputError
from slateflow.learners import learner_config, train, train_live
from slateflow.learners.rllib.quiet import quiet_rllib
from slateflow.policies import ScoringPolicy

with quiet_rllib():
    from slateflow.learners.rllib.live_world import LiveWorld, survey

ONE_STEP = preset("modified-lts-10-1", num_candidates=4, time_budget=1)
"""Nothing comes after the first step, so the sweetest candidate is the best."""

LIVE = ["ppo", pytest.param("dqn", marks=pytest.mark.slow)]

SHORT = {"survey_episodes": 50, "users": 32, "width": 8}


def short(name: str, **settings):
    """A configuration that trains in seconds."""
    if name == "dqn":
        return learner_config("dqn", **{**SHORT, "live_steps": 50 + 1600 * 2, **settings})
    return learner_config("ppo", **{**SHORT, "steps": 20, "live_steps": 50 + 640 * 4, **settings})


def world(spec, num_envs: int = 6, **changes) -> LiveWorld:
    config = {"window": 3, "reward_mean": 2.0, "reward_scale": 4.0, "seed": 1}
    return LiveWorld({"spec": spec, "num_envs": num_envs, **config, **changes})


def test_the_world_is_the_batched_one_with_flat_features_and_scaled_rewards():
    spec = preset("modified-lts-20-2", time_budget=4)
    ours, theirs = world(spec), BatchedLongTermSatisfaction(spec, 6)
    flat, _ = ours.reset(seed=5)
    seen, _ = theirs.reset(seed=5)
    rng = np.random.default_rng(0)
    for step in range(6):  # the episode ends after four, and the fifth call resets
        for lane in range(6):
            left = min(4 - int(seen["step"][lane, 0]), 3) / 3
            expected = [*seen["user"][lane], left, *seen["candidates"][lane, :, 0]]
            np.testing.assert_allclose(flat[lane], expected, rtol=1e-6)
        action = rng.integers(0, 20, 6)
        flat, rewards, ends, _, _ = ours.step(action)
        others = np.array([[a, (a + 1) % 20] for a in action])
        seen, watched, terminated, _, _ = theirs.step(others)
        np.testing.assert_allclose(rewards, [(w - 2) / 4 for w in watched])
        assert ends.all() == terminated.all() == (step == 3)


def test_samplers_meet_users_of_their_own_and_go_on_with_others():
    def first_users(runner: int) -> tuple[float, float]:
        env = world(ONE_STEP)
        env.runner = runner
        return float(env.reset()[0][0, 0]), float(env.reset()[0][0, 0])

    assert first_users(0) == first_users(0)
    assert len({*first_users(0), *first_users(1)}) == 4


def test_the_survey_counts_its_steps():
    spec = preset("modified-lts-20-2", time_budget=30)
    found = survey(spec, 200, seed=0)
    assert found.live_steps == 6000
    # A random candidate is worth 8.9 to 10.7 a step, whatever the satisfaction (exact dynamics)
    assert found.reward_mean == pytest.approx(1157.81 / 120, abs=0.15)
    assert found.moments.offset[2] == pytest.approx(0.5, abs=0.01)
    assert found.moments.scale[2] == pytest.approx(1 / np.sqrt(12), abs=0.01)


@pytest.mark.parametrize("name", LIVE)
def test_where_nothing_follows_the_sweetest_is_found(name):
    settings = {
        "ppo": {"live_steps": 8_000, "learning_rate": 0.02},
        "dqn": {"live_steps": 8_500, "exploration_steps": 3_000, "learning_rate": 0.01},
    }
    scorer, _ = train_live(ONE_STEP, short(name, **settings[name]), seed=0)
    observation, _ = BatchedLongTermSatisfaction(ONE_STEP, 1000).reset(seed=99)
    slates, _ = ScoringPolicy(scorer).act(observation, np.random.default_rng(0))
    sweetest = observation["candidates"][:, :, 0].argmax(axis=1)
    assert (slates[:, 0] == sweetest).mean() > 0.95


@pytest.mark.parametrize("name", LIVE)
def test_every_live_step_is_counted_and_the_process_left_as_it_was(name, monkeypatch):
    import ray

    taken = []
    step = LiveWorld.step

    def counted(self, actions):
        taken.append(int((~self.world._over).sum()))  # a reset is not a step
        return step(self, actions)

    monkeypatch.setattr(LiveWorld, "step", counted)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    calls: list[int] = []
    _, report = train_live(ONE_STEP, short(name), 3, lambda done, total: calls.append(done))
    assert report.live_steps == 50 + sum(taken) == calls[-1] <= short(name).live_steps
    assert report.rows == 0
    assert all(np.isfinite(curve).all() for curve in report.curves.values())
    assert report.curves
    assert not ray.is_initialized()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    np.testing.assert_array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_the_same_seed_gives_the_same_weights(name):
    def weights(seed: int, noise: int) -> np.ndarray:
        torch.manual_seed(noise)
        return train_live(ONE_STEP, short(name), seed)[0].weights[0]

    first = weights(5, 1)
    np.testing.assert_array_equal(first, weights(5, 2))
    assert not np.array_equal(first, weights(6, 1))


@pytest.mark.parametrize("environment", ["interest-exploration", "interest-evolution"])
def test_worlds_whose_users_choose_are_refused(environment):
    with pytest.raises(InputError, match="expected a world whose users click the first"):
        train_live(preset(environment), learner_config("ppo"))


def test_too_few_steps_are_refused():
    with pytest.raises(InputError, match=r"ppo.live_steps: expected at least 690 .*, got 100"):
        train_live(ONE_STEP, short("ppo", live_steps=100))


def test_logs_and_live_users_are_not_mistaken_for_each_other(small_logs):
    with pytest.raises(InputError, match="dqn: expected a learner that learns from logs"):
        train(small_logs, learner_config("dqn"))
    with pytest.raises(InputError, match="cql: expected a learner that needs live users"):
        train_live(ONE_STEP, learner_config("cql"))
