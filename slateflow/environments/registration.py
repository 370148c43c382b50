"""The worlds under Gymnasium's `make` and `make_vec`."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from slateflow.environments.batched import batched_environment
from slateflow.environments.batched_base import BatchedEnvironment
from slateflow.environments.presets import PRESETS, preset

NAMESPACE = "slateflow"


def gymnasium_id(name: str) -> str:
    """The id of a preset in Gymnasium's registry."""
    return f"{NAMESPACE}/{name}-v0"


def register_gymnasium() -> None:
    """Register every preset; `make` gives RecSim's own world, `make_vec` the batched one.

    It may be called again. Keywords of `make` are the keys of `make_reference`, those of
    `make_vec` are the fields of the spec.

    Example:
        >>> register_gymnasium()
        >>> env = gym.make_vec("slateflow/modified-lts-20-2-v0", num_envs=3, num_candidates=5)
        >>> env.reset(seed=0)[0]["candidates"].shape
        (3, 5, 1)
    """
    for name in PRESETS:
        if gymnasium_id(name) not in gym.registry:
            gym.register(
                gymnasium_id(name),
                entry_point=f"{__name__}:make_single",
                vector_entry_point=f"{__name__}:make_batched",
                kwargs={"preset": name},
            )


def make_single(**config: Any) -> gym.Env[Any, Any]:
    """RecSim's own environment of a preset."""
    # RecSim is imported when somebody asks for it, not with the registry.
    from slateflow.environments.recsim_reference import make_reference

    return make_reference(config)


def make_batched(preset: str, num_envs: int = 1, **overrides: Any) -> BatchedEnvironment[Any]:
    """The batched simulator of a preset."""
    return batched_environment(_preset(preset, **overrides), num_envs)


_preset = preset  # the function, where a keyword of Gymnasium's has its name
