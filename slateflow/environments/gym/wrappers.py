"""Other forms of the environments that agents know from RLlib's former wrapper."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from slateflow.environments.observation import observation_space
from slateflow.environments.recsim_base import SingleObservation
from slateflow.environments.simulator import BatchedEnvironment
from slateflow.environments.slates import slates_of


class DiscreteSlates(gym.ActionWrapper[SingleObservation, int, NDArray[Any]]):
    """Actions as numbers of ordered slates, in the order of `itertools.permutations`."""

    def __init__(self, env: gym.Env[SingleObservation, NDArray[Any]]) -> None:
        super().__init__(env)
        spec = env.get_wrapper_attr("environment_spec")
        self._sizes = spec.num_candidates, spec.slate_size
        self.action_space = gym.spaces.Discrete(math.perm(*self._sizes))

    def action(self, action: int) -> NDArray[Any]:
        """The slate of that number."""
        return np.asarray(slates_of(np.array([action]), *self._sizes)[0])


class BanditObservation(gym.ObservationWrapper[SingleObservation, Any, SingleObservation]):
    """Only the candidates, under the name that RLlib's bandits knew them by."""

    def __init__(self, env: gym.Env[SingleObservation, Any]) -> None:
        super().__init__(env)
        whole = observation_space(env.get_wrapper_attr("environment_spec"))
        self.observation_space = gym.spaces.Dict(item=whole["candidates"])

    def observation(self, observation: SingleObservation) -> SingleObservation:
        """The candidates as `item` (N, D)."""
        return {"item": observation["candidates"]}


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
