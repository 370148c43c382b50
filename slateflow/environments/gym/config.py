"""Environments from the keys that RLlib's former RecSim wrapper had."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import TransformAction, TransformObservation
from gymnasium.wrappers import vector as batched
from pydantic import Field

from slateflow.environments.observation import observation_space
from slateflow.environments.slates import slates_of
from slateflow.environments.spec import EnvironmentSpec
from slateflow.environments.worlds import (
    DEFAULT_PRESET,
    batched_environment,
    preset,
    recsim_environment,
)
from slateflow.errors import unknown
from slateflow.validation import validated


@validated
class EnvironmentConfig:
    """The keys of an environment's config, beside the fields of its spec."""

    preset: Any = DEFAULT_PRESET  # preset of the world
    # Where the streams of the first episodes start; None for an unpredictable start
    seed: Annotated[int | None, Field(ge=0)] = None
    # Actions are numbers of ordered slates, in the order of `itertools.permutations`
    convert_to_discrete_action_space: bool = False
    # Observations are the candidates alone, under the name that RLlib's bandits used, `item`
    wrap_for_bandits: bool = False


def parse_config(
    config: Mapping[str, Any], default_preset: str = DEFAULT_PRESET
) -> tuple[EnvironmentSpec, EnvironmentConfig]:
    """Read a config; all keys are optional, and every field of the preset's spec is a key.

    Raises:
        InputError: A key does not exist, or a value does not fit.
    """
    chosen = preset(config.get("preset", default_preset))
    own = [field.name for field in dataclasses.fields(EnvironmentConfig)]
    fields = [field.name for field in dataclasses.fields(chosen) if field.name != "name"]
    for key in config:
        if key not in [*own, *fields]:
            raise unknown("config key", key, [*own, *fields])
    spec = preset(chosen.name, **{key: config[key] for key in fields if key in config})
    return spec, EnvironmentConfig(**{key: config[key] for key in own if key in config})


def make_recsim(
    config: Mapping[str, Any], default_preset: str = DEFAULT_PRESET
) -> gym.Env[Any, Any]:
    """RecSim's own environment.

    Args:
        config: Keys of `EnvironmentConfig`.
        default_preset: Preset where the config names none.

    Example:
        >>> make_recsim({"convert_to_discrete_action_space": True}).action_space
        Discrete(380)
    """
    spec, parsed = parse_config(config, default_preset)
    # RLlib gives all its workers the same config, but they should not meet the same users.
    worker = getattr(config, "worker_index", 0)
    seed = None if parsed.seed is None else [parsed.seed, worker]
    env: gym.Env[Any, Any] = recsim_environment(spec, seed)
    if parsed.convert_to_discrete_action_space:
        sizes = spec.num_candidates, spec.slate_size
        numbers: gym.spaces.Discrete[Any] = gym.spaces.Discrete(math.perm(*sizes))
        env = TransformAction(env, lambda one: slates_of(np.array([one]), *sizes)[0], numbers)
    if parsed.wrap_for_bandits:
        item = gym.spaces.Dict(item=observation_space(spec)["candidates"])
        env = TransformObservation(env, _candidates_alone, item)
    return env


def _candidates_alone(observation: Mapping[str, Any]) -> dict[str, Any]:
    return {"item": observation["candidates"]}


def make_batched(
    config: Mapping[str, Any], num_envs: int, default_preset: str = DEFAULT_PRESET
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """The batched simulator with `num_envs` lanes; the other arguments are those of `make_recsim`.

    Example:
        >>> make_batched({"convert_to_discrete_action_space": True}, num_envs=3).action_space
        MultiDiscrete([380 380 380])
    """
    spec, parsed = parse_config(config, default_preset)
    env: gym.vector.VectorEnv[Any, Any, Any]
    env = batched_environment(spec, num_envs, seed=parsed.seed)
    if parsed.convert_to_discrete_action_space:
        sizes = spec.num_candidates, spec.slate_size
        number: gym.spaces.Discrete[Any] = gym.spaces.Discrete(math.perm(*sizes))
        numbers = batch_space(number, num_envs)
        env = batched.TransformAction(
            env, lambda some: slates_of(np.asarray(some), *sizes), numbers, number
        )
    if parsed.wrap_for_bandits:
        item = gym.spaces.Dict(item=observation_space(spec)["candidates"])
        items = batch_space(item, num_envs)
        env = batched.TransformObservation(env, _candidates_alone, items, item)
    return env
