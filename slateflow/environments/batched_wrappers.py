"""The same other forms for the batched simulators, see `recsim_wrappers`."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
from gymnasium.vector.utils import batch_space

from slateflow.environments.batched_base import BatchedEnvironment
from slateflow.environments.slates import slates_of


class BatchedDiscreteSlates(gym.vector.VectorActionWrapper):
    """Actions (B,) as numbers of ordered slates, in the order of `itertools.permutations`."""

    def __init__(self, env: BatchedEnvironment[Any]) -> None:
        super().__init__(env)
        spec = env.environment_spec
        self._sizes = spec.num_candidates, spec.slate_size
        self.single_action_space = gym.spaces.Discrete(math.perm(*self._sizes))
        self.action_space = batch_space(self.single_action_space, env.num_envs)

    def actions(self, actions: Any) -> Any:
        """The slates of those numbers."""
        return slates_of(actions, *self._sizes)


class BatchedBanditObservation(gym.vector.VectorObservationWrapper):
    """Only the candidates, under the name that RLlib's bandits knew them by."""

    def __init__(self, env: gym.vector.VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        candidates = env.single_observation_space["candidates"]  # type: ignore[index]
        self.single_observation_space = gym.spaces.Dict(item=candidates)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

    def observations(self, observations: Any) -> Any:
        """The candidates as `item` (B, N, D)."""
        return {"item": observations["candidates"]}
