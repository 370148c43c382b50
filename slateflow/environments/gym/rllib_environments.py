"""The worlds under the names that RLlib's users know; the only file here that imports Ray."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from slateflow.environments.gym.config import make_batched, make_recsim
from slateflow.environments.worlds import WORLDS


def rllib_names() -> dict[str, str]:
    """Names in RLlib's registry, and the presets behind them."""
    return {name: preset for world in WORLDS.values() for name, preset in world.rllib_names.items()}


def register_rllib() -> None:
    """Make the worlds available as `config.environment("modified_lts", env_config={…})`.

    The keys of `env_config` are those of `EnvironmentConfig`. By default RLlib plays RecSim's own
    worlds; with `config.env_runners(gym_env_vectorize_mode="vector_entry_point")` it plays the
    batched simulators, in `num_envs_per_env_runner` lanes. With a `seed` in `env_config` all
    samplers of a batched simulator play the same users; `config.debugging(seed=…)` gives each its
    own.

    Algorithms that choose the places of a slate one by one sometimes show a candidate twice, which
    is refused: let them choose among whole slates with `convert_to_discrete_action_space`.
    """
    from ray.tune.registry import register_env

    for name, preset in rllib_names().items():
        register_env(name, partial(_make, preset))


def _make(preset: str, env_config: Mapping[str, Any]) -> Any:
    if "num_envs" in env_config:  # RLlib adds it where it wants a vector
        config = {key: value for key, value in env_config.items() if key != "num_envs"}
        return make_batched(config, env_config["num_envs"], preset)
    return make_recsim(env_config, preset)
