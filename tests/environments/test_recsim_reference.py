"""RecSim behind Gymnasium: conventions, streams, and the keys of RLlib's former wrapper."""

from __future__ import annotations

import dataclasses
import itertools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from slateflow.environments import preset, presets
from slateflow.environments.gym.config import make_recsim
from slateflow.environments.gym.registration import gymnasium_id, register_gymnasium
from slateflow.environments.long_term_satisfaction.recsim import RecSimLongTermSatisfaction
from slateflow.errors import InputError


def episode(env, seed=None, steps=10):
    """All results of an episode with the first slate, as one flat list."""
    observation, _ = env.reset(seed=seed)
    trace = [observation]
    for _ in range(steps):
        observation, reward, *_ = env.step(np.arange(env.environment_spec.slate_size))
        trace += [observation, {"reward": np.array([reward])}]
    return np.concatenate([value.ravel() for one in trace for value in one.values()])


@pytest.mark.parametrize("name", presets())
def test_gymnasium_finds_nothing_to_complain_about(name):
    register_gymnasium()
    check_env(gym.make(gymnasium_id(name)).unwrapped)  # warnings are errors here


@pytest.mark.parametrize(
    "config",
    [
        {"convert_to_discrete_action_space": True},
        {"wrap_for_bandits": True},
        {"convert_to_discrete_action_space": True, "wrap_for_bandits": True},
    ],
)
def test_wrapped_environments_keep_gymnasiums_conventions(config):
    register_gymnasium()
    env = gym.make(gymnasium_id("modified-lts-10-1"), slate_size=2, **config)
    observation, _ = env.reset(seed=1)
    assert observation in env.observation_space
    observation, *_ = env.step(env.action_space.sample())
    assert observation in env.observation_space


def test_an_episode_ends_with_the_time_budget_and_has_to_be_reset():
    env = make_recsim({"preset": "modified-lts-10-1", "time_budget": 3})
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        env.step(np.array([0]))
    env.reset(seed=0)
    ends = [env.step(np.array([0]))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (True, False)]
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        env.step(np.array([0]))
    observation, _ = env.reset()
    assert observation["step"].tolist() == [0]


def test_reward_is_unclipped_and_watch_time_is_clipped():
    env = make_recsim({"preset": "lts-10-1", "choc_mean": 14.0, "kale_mean": 14.0})
    env.reset(seed=0)
    _, reward, *_, info = env.step(np.array([0]))
    assert reward > 101
    assert info == {"clicked": 0, "watch_time": np.float32(100)}


def test_satisfaction_is_that_of_the_hidden_user_and_only_where_it_is_observed():
    env = make_recsim({"preset": "modified-lts-10-1"})
    observation, _ = env.reset(seed=4)
    user = env._world.user_model._user_state
    by_hand = 1 / (1 + np.exp(-0.058 * user.net_positive_exposure))
    assert observation["user"] == pytest.approx(by_hand, rel=1e-6)
    assert make_recsim({"preset": "lts-10-1"}).reset()[0]["user"].shape == (0,)


def test_seeds_reproduce_and_differ():
    env = make_recsim({})
    first, again, other = (episode(env, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.9
    continued = episode(env)  # without a seed the streams go on
    assert (continued != other).mean() > 0.9
    np.testing.assert_array_equal(episode(make_recsim({}), seed=1), first)


def test_the_seed_of_the_config_starts_the_streams():
    first, again, other = (episode(make_recsim({"seed": seed})) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.9
    # Unlike in RecSim, where every environment has the same users and documents.
    assert (episode(make_recsim({})) != episode(make_recsim({}))).mean() > 0.9


def exposures(env, seed, users=3):
    """Initial net positive exposure of the first users of a seed."""
    started = []
    for user in range(users):
        env.reset(seed=None if user else seed)
        started.append(env._world.user_model._user_state.net_positive_exposure)
    return started


def test_users_are_those_of_the_seed_and_not_recsims_own():
    env = make_recsim({})
    first, again, other = (exposures(env, seed) for seed in (1, 1, 2))
    assert first == again
    recsims_own = ((np.random.RandomState(0).random_sample(10) - 0.5) / 0.3).tolist()
    assert len({*first, *other, *recsims_own}) == 16


def test_users_do_not_depend_on_what_was_drawn_of_documents():
    fixed, moving = (make_recsim({"resample_documents": resample}) for resample in (False, True))
    assert exposures(fixed, 3) == exposures(moving, 3)


@pytest.mark.parametrize("resample", [True, False])
def test_candidates_move_or_stay(resample):
    env = make_recsim({"resample_documents": resample})
    start, _ = env.reset(seed=5)
    following, *_ = env.step(np.array([0, 1]))
    later, _ = env.reset()
    for one in (following, later):
        assert (one["candidates"] != start["candidates"]).all() == resample
    assert (env.reset(seed=6)[0]["candidates"] != start["candidates"]).all()


def test_interleaved_environments_do_not_disturb_each_other():
    alone = episode(make_recsim({}), seed=1, steps=20)
    env, other = make_recsim({}), make_recsim({})
    observation, _ = env.reset(seed=1)
    other.reset(seed=2)
    together = [observation]
    for _ in range(20):
        other.step(np.array([5, 6]))
        observation, reward, *_ = env.step(np.array([0, 1]))
        together += [observation, {"reward": np.array([reward])}]
        other.step(np.array([7, 8]))
    flat = np.concatenate([value.ravel() for one in together for value in one.values()])
    np.testing.assert_array_equal(flat, alone)


def test_the_global_generator_is_neither_read_nor_seeded():
    def state():
        return np.random.get_state()[1:3]  # noqa: NPY002 - to see that nobody touches it

    keys, position = state()
    keys = keys.copy()
    episode(make_recsim({"seed": 1}), seed=2, steps=60)
    np.testing.assert_array_equal(state()[0], keys)
    assert state()[1] == position


def test_every_parameter_of_the_user_arrives_at_recsim():
    values = {
        "memory_discount": 0.5,
        "sensitivity": 0.02,
        "innovation_stddev": 0.03,
        "choc_mean": 4.5,
        "choc_stddev": 0.4,
        "kale_mean": 3.5,
        "kale_stddev": 0.6,
        "time_budget": 17,
    }
    env = make_recsim({**values, "num_candidates": 7, "slate_size": 3})
    env.reset(seed=0)
    user = env._world.user_model._user_state
    assert {name: getattr(user, name) for name in values} == values
    assert (env._world.num_candidates, env._world.slate_size) == (7, 3)
    default = RecSimLongTermSatisfaction(preset("lts-20-2"))
    recsims_own = default._recsim.long_term_satisfaction.LTSStaticUserSampler()
    for name, value in recsims_own._state_parameters.items():
        assert getattr(default.environment_spec, name) == value


def test_config_may_say_everything():
    spec = preset("modified-lts-10-1")
    fields = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    del fields["name"]
    assert make_recsim({"preset": "modified-lts-10-1", **fields}).environment_spec == spec
    assert make_recsim({}).environment_spec == preset("modified-lts-20-2")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_candidate": 5}, r"unknown config key 'num_candidate': expected one of preset, seed"),
        ({"name": "x"}, "unknown config key 'name'"),
        ({"preset": "lts"}, "unknown environment 'lts': expected one of modified-lts-20-2"),
        ({"num_candidates": "5"}, "num_candidates: expected a whole number, got '5'"),
        ({"slate_size": 21}, r"num_candidates: expected at least slate_size \(21\), got 20"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"seed": True}, "seed: expected a whole number, got True"),
        ({"wrap_for_bandits": 1}, "wrap_for_bandits: expected true or false, got 1"),
        (
            {"convert_to_discrete_action_space": "yes"},
            "convert_to_discrete_action_space: expected true or false, got 'yes'",
        ),
        ({"resample_documents": 0}, "resample_documents: expected true or false, got 0"),
        ({"time_budget": 0}, "time_budget: expected at least 1, got 0"),
        ({"memory_discount": 1.0}, "memory_discount: expected less than 1, got 1.0"),
    ],
)
def test_bad_configs_are_refused_in_one_line(config, message):
    with pytest.raises(InputError, match=message) as refused:
        make_recsim(config)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "action", [[0, 0], [0, 20], [-1, 0], [0], [0, 1, 2], [[0, 1]], [0.0, 1.0], 3]
)
def test_what_is_no_slate_is_refused(action):
    env = make_recsim({})
    env.reset(seed=0)
    with pytest.raises(InputError, match="expected 2 distinct positions below 20, got") as refused:
        env.step(np.array(action))
    assert str(refused.value).endswith(f"got {action}")


def test_discrete_actions_are_the_permutations_in_order():
    config = {"num_candidates": 5, "slate_size": 3, "preset": "modified-lts-20-2"}
    discrete = make_recsim({**config, "convert_to_discrete_action_space": True})
    plain = make_recsim(config)
    permutations = list(itertools.permutations(range(5), 3))
    assert discrete.action_space == gym.spaces.Discrete(len(permutations))
    for number, slate in enumerate(permutations):
        discrete.reset(seed=8)
        plain.reset(seed=8)
        assert discrete.step(number)[1] == plain.step(np.array(slate))[1]
    with pytest.raises(InputError, match="number of a slate below 60, got 60"):
        discrete.step(60)


def test_bandits_see_the_candidates_as_items():
    bandit = make_recsim({"wrap_for_bandits": True})
    plain = make_recsim({})
    item = bandit.reset(seed=2)[0]
    assert list(item) == list(bandit.observation_space) == ["item"]
    np.testing.assert_array_equal(item["item"], plain.reset(seed=2)[0]["candidates"])


def test_workers_of_rllib_meet_different_users():
    class Context(dict):  # as RLlib hands it to the creator
        worker_index = 0

    contexts = [Context(seed=1) for _ in range(3)]
    contexts[1].worker_index = 1
    zero, one, again = (episode(make_recsim(context)) for context in contexts)
    np.testing.assert_array_equal(zero, again)
    assert (zero != one).mean() > 0.9
    np.testing.assert_array_equal(zero, episode(make_recsim({"seed": 1})))


def test_render_and_close_do_not_raise():
    env = make_recsim({})
    env.reset()
    assert env.render() is None
    env.close()
