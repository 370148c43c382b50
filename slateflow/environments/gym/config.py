"""Environments from the keys that RLlib's former RecSim wrapper had."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from slateflow.environments.gym.wrappers import (
    BanditObservation,
    BatchedBanditObservation,
    BatchedDiscreteSlates,
    DiscreteSlates,
)
from slateflow.environments.spec import EnvironmentSpec
from slateflow.environments.worlds import (
    DEFAULT_PRESET,
    batched_environment,
    preset,
)
from slateflow.errors import InputError, unknown


@dataclass(frozen=True)
class EnvironmentConfig:
    """What the keys of a config say.

    Attributes:
        spec: The world: `preset`, and every field of its spec that is given beside it, among
            them `num_candidates`, `slate_size` and `resample_documents`.
        seed: Where the streams of the first episodes start; None for an unpredictable start.
        convert_to_discrete_action_space: Actions are numbers of slates, see `DiscreteSlates`.
        wrap_for_bandits: Observations are the candidates alone, see `BanditObservation`.
    """

    spec: EnvironmentSpec
    seed: int | None
    convert_to_discrete_action_space: bool
    wrap_for_bandits: bool

    @classmethod
    def parse(
        cls, config: Mapping[str, Any], default_preset: str = DEFAULT_PRESET
    ) -> EnvironmentConfig:
        """Read a config; all keys are optional.

        Raises:
            InputError: A key does not exist, or a value does not fit.
        """
        chosen = preset(config.get("preset", default_preset))
        fields = [field.name for field in dataclasses.fields(chosen)][1:]  # all but the name
        own = [field.name for field in dataclasses.fields(cls)][1:]
        for key in config:
            if key not in ["preset", *own, *fields]:
                raise unknown("config key", key, ["preset", *own, *fields])
        overrides = {key: value for key, value in config.items() if key in fields}
        return cls(
            preset(chosen.name, **overrides),
            _seed(config.get("seed")),
            _switch(config, "convert_to_discrete_action_space"),
            _switch(config, "wrap_for_bandits"),
        )


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
    # RecSim is imported when somebody asks for it.
    from slateflow.environments import recsim_environment

    parsed = EnvironmentConfig.parse(config, default_preset)
    # RLlib gives one config to all of its workers, which should not meet the same users.
    worker = getattr(config, "worker_index", 0)
    seed = None if parsed.seed is None else [parsed.seed, worker]
    env: gym.Env[Any, Any] = recsim_environment(parsed.spec, seed)
    if parsed.convert_to_discrete_action_space:
        env = DiscreteSlates(env)
    return BanditObservation(env) if parsed.wrap_for_bandits else env


def make_batched(
    config: Mapping[str, Any], num_envs: int, default_preset: str = DEFAULT_PRESET
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """The batched simulator with `num_envs` lanes; the other arguments are those of the reference.

    Example:
        >>> make_batched({"convert_to_discrete_action_space": True}, num_envs=3).action_space
        MultiDiscrete([380 380 380])
    """
    parsed = EnvironmentConfig.parse(config, default_preset)
    env: gym.vector.VectorEnv[Any, Any, Any]
    env = batched_environment(parsed.spec, num_envs, seed=parsed.seed)
    if parsed.convert_to_discrete_action_space:
        env = BatchedDiscreteSlates(env)
    return BatchedBanditObservation(env) if parsed.wrap_for_bandits else env


def _switch(config: Mapping[str, Any], key: str) -> bool:
    value = config.get(key, False)
    if not isinstance(value, bool):
        raise InputError(f"{key}: expected bool, got {value!r}")
    return value


def _seed(seed: Any) -> int | None:
    if seed is None:
        return None
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"seed: expected a whole number from 0, got {seed!r}")
    return seed
