"""A policy exactly as good as random, where candidates come in no order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import Observation


class FirstOnOffer:
    """Shows the candidates in the order in which they are offered."""

    def __init__(self, slate_size: int) -> None:
        self.slate_size = slate_size

    def act(self, observation: Observation, rng: Any) -> Any:
        """The first places."""
        del rng
        slates = np.tile(np.arange(self.slate_size, dtype=np.int32), (self._users(observation), 1))
        return slates, np.ones(len(slates))

    def propensities(self, observation: Observation, slates: NDArray[Any]) -> Any:
        """1 for that slate."""
        same = slates == np.arange(self.slate_size)
        return np.asarray(same.all(axis=1), np.float64)

    def first_place(self, observation: Observation) -> Any:
        """1 for the first."""
        shown = np.zeros(observation["candidates"].shape[:2])
        shown[:, 0] = 1.0
        return shown

    def _users(self, observation: Observation) -> int:
        return len(observation["candidates"])
