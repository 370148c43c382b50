"""A policy that now and then shows a slate at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import Observation
from slateflow.errors import InputError
from slateflow.policies.base import Propensities, Rng, SlateDistribution, Slates


@dataclass(frozen=True)
class EpsilonMixture:
    """With probability ε a slate of `explore`, otherwise one of `exploit`.

    One coin decides about the whole slate, not about each place. Both ways may lead to the same
    slate, so its propensity is ε × explore's + (1 − ε) × exploit's.
    """

    exploit: SlateDistribution
    explore: SlateDistribution
    epsilon: float

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise InputError(f"epsilon: expected a number in [0, 1], got {self.epsilon}")

    def act(self, observation: Observation, rng: Rng) -> tuple[Slates, Propensities]:
        """All numbers are drawn whatever the coins say, so lanes do not shift each other's."""
        coins = rng.random(len(observation["candidates"])) < self.epsilon
        explored, _ = self.explore.act(observation, rng)
        exploited, _ = self.exploit.act(observation, rng)
        slates = np.where(coins[:, None], explored, exploited)
        return slates, self.propensities(observation, slates)

    def propensities(self, observation: Observation, slates: NDArray[Any]) -> Propensities:
        """Probabilities (B,) of showing exactly these slates (B, K)."""
        explored = self.explore.propensities(observation, slates)
        exploited = self.exploit.propensities(observation, slates)
        return self.epsilon * explored + (1 - self.epsilon) * exploited
