"""The batched simulators with the keys of RLlib's former wrapper, and both checked by Gymnasium."""

from __future__ import annotations

import itertools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from slateflow.environments import preset, presets
from slateflow.environments.gym.config import make_batched, make_recsim, parse_config

SWITCHES = [
    {},
    {"convert_to_discrete_action_space": True},
    {"wrap_for_bandits": True},
    {"convert_to_discrete_action_space": True, "wrap_for_bandits": True},
]


class OneLane(gym.Env):
    """A batched environment of one lane as a single environment, for checkers without vectors."""

    metadata = {"render_modes": []}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(self, env: gym.vector.VectorEnv) -> None:
        self._env = env
        self.observation_space = env.single_observation_space
        self.action_space = env.single_action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        observation, infos = self._env.reset(seed=seed, options=options)
        return self._only(observation), infos

    def step(self, action):
        observation, *scalars, infos = self._env.step(np.array([action]))
        reward, terminated, truncated = (values[0].item() for values in scalars)
        return self._only(observation), reward, terminated, truncated, self._only(infos)

    @staticmethod
    def _only(values):
        return {name: value[0] for name, value in values.items()}


class Bare(gym.Env):
    """A wrapped environment as one without wrappers, which the checker requires."""

    metadata = {"render_modes": []}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(self, env: gym.Env) -> None:
        self._env = env
        self.observation_space, self.action_space = env.observation_space, env.action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._env.reset(seed=seed, options=options)

    def step(self, action):
        return self._env.step(action)


@pytest.mark.parametrize("switches", SWITCHES)
@pytest.mark.parametrize("name", presets())
def test_gymnasiums_checker_has_nothing_to_say(name, switches):  # warnings are errors here
    config = {"preset": name, **switches}
    check_env(OneLane(make_batched(config, 1)), skip_render_check=True)
    check_env(Bare(make_recsim(config)), skip_render_check=True)


@pytest.mark.parametrize("switches", SWITCHES)
def test_reference_and_batch_have_the_same_spaces(switches):
    for name in presets():
        config = {"preset": name, **switches}
        one, many = make_recsim(config), make_batched(config, 3)
        assert one.observation_space == many.single_observation_space
        assert one.action_space == many.single_action_space
        observation, _ = many.reset(seed=0)
        assert observation in many.observation_space
        observation, *_ = many.step(many.action_space.sample())
        assert observation in many.observation_space


def test_discrete_actions_are_the_permutations_in_order():
    config = {"preset": "modified-lts-10-1", "num_candidates": 5, "slate_size": 3}
    permutations = np.array(list(itertools.permutations(range(5), 3)))
    plain = make_batched(config, len(permutations))
    discrete = make_batched({**config, "convert_to_discrete_action_space": True}, len(permutations))
    for env in (plain, discrete):
        env.reset(seed=3)
    np.testing.assert_array_equal(
        plain.step(permutations)[1], discrete.step(np.arange(len(permutations)))[1]
    )


def test_bandits_see_the_candidates_as_items():
    plain, bandit = (make_batched({"wrap_for_bandits": switch}, 4) for switch in (False, True))
    item, _ = bandit.reset(seed=2)
    assert list(item) == ["item"]
    np.testing.assert_array_equal(item["item"], plain.reset(seed=2)[0]["candidates"])


def test_the_seed_of_the_config_starts_the_streams():
    first, again, other, none = (
        make_batched({"seed": seed}, 4).reset()[0]["candidates"] for seed in (1, 1, 2, None)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()
    assert (first != none).all()


@pytest.mark.parametrize("resample", [True, False])
@pytest.mark.parametrize("name", presets())
def test_candidates_move_or_stay_in_both(name, resample):
    config = {"preset": name, "resample_documents": resample}
    one, many = make_recsim(config), make_batched(config, 3)
    slate = np.arange(one.unwrapped.environment_spec.slate_size)
    for env, action in ((one, slate), (many, np.tile(slate, (3, 1)))):
        start = env.reset(seed=5)[0]["candidates"]
        moved = (env.step(action)[0]["candidates"] != start).any()
        assert moved == resample


def test_sizes_and_parameters_arrive_in_both():
    config = {"preset": "interest-evolution", "num_candidates": 6, "slate_size": 2}
    config |= {"video_length": 3.5, "seed": 4}
    spec = preset("interest-evolution", num_candidates=6, slate_size=2, video_length=3.5)
    parsed, keys = parse_config(config)
    assert (parsed, keys.seed) == (spec, 4)
    assert not keys.convert_to_discrete_action_space
    assert not keys.wrap_for_bandits
    assert make_recsim(config).unwrapped.environment_spec == spec
    assert make_batched(config, 2).unwrapped.environment_spec == spec


def test_interest_exploration_is_cut_off_at_its_step_limit():
    config = {"preset": "interest-exploration", "step_limit": 4}
    one, many = make_recsim(config), make_batched(config, 2)
    one.reset(seed=0)
    many.reset(seed=0)
    single = [one.step(np.arange(3))[2:4] for _ in range(4)]
    assert single == [(False, False)] * 3 + [(False, True)]
    for step in range(4):
        _, _, terminated, truncated, _ = many.step(np.tile(np.arange(3), (2, 1)))
        assert not terminated.any()
        assert truncated.tolist() == [step == 3] * 2
