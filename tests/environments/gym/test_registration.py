"""The presets under Gymnasium's `make` and `make_vec`."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from slateflow.environments import preset, presets
from slateflow.environments.gym.registration import gymnasium_id, register_gymnasium
from slateflow.environments.interest_evolution.recsim import RecSimInterestEvolution
from slateflow.environments.interest_evolution.simulator import BatchedInterestEvolution
from slateflow.environments.interest_exploration.recsim import RecSimInterestExploration
from slateflow.environments.interest_exploration.simulator import BatchedInterestExploration
from slateflow.environments.long_term_satisfaction.recsim import RecSimLongTermSatisfaction
from slateflow.environments.long_term_satisfaction.simulator import BatchedLongTermSatisfaction
from slateflow.errors import InputError

CLASSES = {  # of a world: RecSim's own, and the batched simulator
    "long_term_satisfaction": (RecSimLongTermSatisfaction, BatchedLongTermSatisfaction),
    "interest_evolution": (RecSimInterestEvolution, BatchedInterestEvolution),
    "interest_exploration": (RecSimInterestExploration, BatchedInterestExploration),
}


@pytest.fixture(autouse=True)
def _registered():
    register_gymnasium()
    register_gymnasium()  # a second call neither warns nor registers twice


def test_the_ids_are_public():
    ours = {name for name, spec in gym.registry.items() if spec.namespace == "slateflow"}
    assert ours == {
        "slateflow/modified-lts-20-2-v0",
        "slateflow/modified-lts-10-1-v0",
        "slateflow/modified-lts-20-2-hidden-v0",
        "slateflow/lts-20-2-v0",
        "slateflow/lts-10-1-v0",
        "slateflow/interest-evolution-v0",
        "slateflow/interest-exploration-v0",
    }


@pytest.mark.parametrize("name", presets())
def test_make_gives_recsim_itself(name):
    env = gym.make(gymnasium_id(name), num_candidates=7)
    spec = preset(name, num_candidates=7)
    assert type(env.unwrapped) is CLASSES[spec.world][0]
    assert env.unwrapped.environment_spec == spec
    observation, _ = env.reset(seed=1)
    assert observation in env.observation_space


@pytest.mark.parametrize("name", presets())
def test_make_vec_gives_the_batched_simulator(name):
    env = gym.make_vec(gymnasium_id(name), num_envs=3, num_candidates=7)
    spec = preset(name, num_candidates=7)
    assert type(env) is CLASSES[spec.world][1]
    assert env.num_envs == 3
    assert env.environment_spec == spec
    observation, _ = env.reset(seed=1)
    assert observation in env.observation_space
    observation, *_ = env.step(env.action_space.sample())
    assert observation in env.observation_space
    env.close()


@pytest.mark.parametrize("preset_name", presets())
def test_gymnasiums_own_vector_gives_observations_of_the_same_form(preset_name):
    name = gymnasium_id(preset_name)
    ours = gym.make_vec(name, num_envs=3)
    theirs = gym.make_vec(name, num_envs=3, vectorization_mode="sync")
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    theirs.reset(seed=0)
    slates = theirs.action_space.sample()
    observation, *_ = theirs.step(slates)
    assert observation in ours.observation_space
    assert slates in ours.action_space
    theirs.close()


def test_statistics_of_gymnasium_are_returns_by_hand():
    env = gym.make_vec(gymnasium_id("modified-lts-10-1"), num_envs=2, time_budget=4)
    recorded = gym.wrappers.vector.RecordEpisodeStatistics(env)
    recorded.reset(seed=1)
    total = np.zeros(2)
    for _ in range(4):
        *_, infos = step = recorded.step(np.zeros((2, 1), dtype=np.int64))
        total += step[1]
    np.testing.assert_allclose(infos["episode"]["r"], total)
    assert infos["episode"]["l"].tolist() == [4, 4]


def test_bad_parameters_are_refused():
    with pytest.raises(InputError, match="unknown config key 'candidates'"):
        gym.make(gymnasium_id("lts-20-2"), candidates=3)
    with pytest.raises(InputError, match="unknown config key 'candidates'"):
        gym.make_vec(gymnasium_id("lts-20-2"), candidates=3)
