"""RLlib finds the worlds under their names and can play in them."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.environments import BatchedEnvironment, preset
from slateflow.environments.gym.rllib_environments import register_rllib, rllib_names
from slateflow.errors import InputError

# Ray's own imports raise warnings that do not concern this code.
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def creators():
    from ray.tune.registry import ENV_CREATOR, _global_registry

    register_rllib()
    register_rllib()
    return {name: _global_registry.get(ENV_CREATOR, name) for name in rllib_names()}


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("modified_lts", "modified-lts-20-2"),
        ("long_term_satisfaction", "lts-20-2"),
        ("interest_evolution", "interest-evolution"),
        ("interest_exploration", "interest-exploration"),
    ],
)
def test_names_have_their_presets(creators, name, default):
    assert creators[name]({}).environment_spec == preset(default)
    changed = creators[name]({"num_candidates": 6, "slate_size": 3})
    assert changed.environment_spec == preset(default, num_candidates=6, slate_size=3)
    chosen = creators[name]({"preset": "modified-lts-10-1"})
    assert chosen.environment_spec == preset("modified-lts-10-1")
    with pytest.raises(InputError, match="unknown config key 'slates'"):
        creators[name]({"slates": 6})


def test_an_env_runner_of_rllib_plays_whole_episodes(creators):
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.connectors.env_to_module import FlattenObservations
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    config = (
        PPOConfig()
        .environment(
            "modified_lts",
            env_config={"convert_to_discrete_action_space": True, "time_budget": 7, "seed": 3},
        )
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=2,
            env_to_module_connector=lambda env, spaces=None, device=None: FlattenObservations(),
        )
        .debugging(seed=5)
    )
    runner = SingleAgentEnvRunner(config=config, worker_index=1)
    try:
        episodes = runner.sample(num_episodes=4, random_actions=True)
    finally:
        runner.stop()
    assert [len(episode) for episode in episodes] == [7] * 4
    assert all(episode.is_terminated for episode in episodes)
    starts = [episode.get_observations(0) for episode in episodes]
    assert {start.shape for start in starts} == {(20 + 1 + 1,)}  # candidates, step, user
    assert len({start.tobytes() for start in starts}) == 4
    assert all(np.min(episode.get_rewards()) > 0 for episode in episodes)


@pytest.mark.parametrize("vectorize", ["sync", "vector_entry_point"])
@pytest.mark.parametrize("name", rllib_names())
def test_rllib_plays_every_world_in_both_forms(creators, name, vectorize):
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.connectors.env_to_module import FlattenObservations
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    length = {"interest_evolution": {"time_budget": 9.0}, "interest_exploration": {"step_limit": 6}}
    small = length.get(name, {"time_budget": 6}) | {"num_candidates": 4, "slate_size": 2}
    config = (
        PPOConfig()
        .environment(name, env_config={"convert_to_discrete_action_space": True, **small})
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=3,
            gym_env_vectorize_mode=vectorize,
            env_to_module_connector=lambda env, spaces=None, device=None: FlattenObservations(),
        )
        .debugging(seed=5)
    )
    runner = SingleAgentEnvRunner(config=config, worker_index=1)
    try:
        batched = isinstance(runner.env.unwrapped, BatchedEnvironment)
        assert batched == (vectorize == "vector_entry_point")
        episodes = runner.sample(num_episodes=6, explore=True)  # by PPO's own module
    finally:
        runner.stop()
    spec = preset(rllib_names()[name], **small)
    assert len(episodes) >= 6
    for episode in episodes:
        if name == "interest_evolution":
            assert episode.is_terminated
        else:
            assert len(episode) == spec.horizon
            assert episode.is_truncated == (name == "interest_exploration")
        features = 4 * spec.document_size + spec.user_size + 1
        assert episode.get_observations(0).shape == (features,)
        assert set(episode.get_actions()) <= set(range(12))
        assert set(episode.get_infos(-1)) == {"clicked", *spec.response_columns}
