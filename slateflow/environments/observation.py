"""The observation of a policy, the same in every world and from every simulator."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from slateflow.environments.spec import EnvironmentSpec


class Observation(TypedDict):
    """An observation of B users."""

    user: NDArray[np.float32]  # (B, U)
    candidates: NDArray[np.float32]  # (B, N, D)
    step: NDArray[np.int32]  # (B, 1), steps taken in this episode
    # (B,), number of candidates on offer, the first of the N; absent where all are
    offered: NotRequired[NDArray[np.intp]]


def observation_space(spec: EnvironmentSpec) -> gym.spaces.Dict:
    """The space of one user's observation, in RecSim's environment and the batched simulator."""
    candidates = (spec.num_candidates, spec.document_size)
    return gym.spaces.Dict(
        user=gym.spaces.Box(*spec.user_bounds, (spec.user_size,), np.float32),
        candidates=gym.spaces.Box(*spec.candidate_bounds, candidates, np.float32),
        step=gym.spaces.Box(0, spec.horizon, (1,), np.int32),
    )
