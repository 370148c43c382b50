"""The worlds under Gymnasium's `make` and `make_vec`."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from slateflow.environments.gym.config import make_batched, make_recsim
from slateflow.environments.worlds import presets


def gymnasium_id(name: str) -> str:
    """The id of a preset in Gymnasium's registry."""
    return f"slateflow/{name}-v0"


def register_gymnasium() -> None:
    """Register every preset; `make` gives RecSim's own world, `make_vec` the batched one.

    Repeated calls are harmless. Keywords of both are the keys of `EnvironmentConfig`.

    Example:
        >>> register_gymnasium()
        >>> env = gym.make_vec("slateflow/modified-lts-20-2-v0", num_envs=3, num_candidates=5)
        >>> env.reset(seed=0)[0]["candidates"].shape
        (3, 5, 1)
    """
    for name in presets():
        if gymnasium_id(name) not in gym.registry:
            gym.register(
                gymnasium_id(name),
                entry_point=f"{__name__}:make_single",
                vector_entry_point=f"{__name__}:make_vector",
                kwargs={"preset": name},
            )


def make_single(**config: Any) -> gym.Env[Any, Any]:
    """RecSim's own environment of a preset."""
    return make_recsim(config)


def make_vector(num_envs: int = 1, **config: Any) -> gym.vector.VectorEnv[Any, Any, Any]:
    """The batched simulator of a preset."""
    return make_batched(config, num_envs)
