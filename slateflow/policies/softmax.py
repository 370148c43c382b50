"""Softmax over ordered slates: candidates are drawn one after the other without replacement.

This is the model of Plackett and Luce: the first place goes to candidate i with probability
exp(s_i) / Σ_j exp(s_j), and each next place in the same way to one of those that are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from slateflow.environments import Observation
from slateflow.environments.rules import ScoringRule
from slateflow.errors import InputError
from slateflow.policies.base import Propensities, Rng, Scores, Slates, top_slates

MIN_TEMPERATURE = 1e-6
"""Temperature below which scores would overflow; the policy is greedy there anyway."""


@dataclass(frozen=True)
class SoftmaxPolicy:
    """Draws the places one after the other with probabilities proportional to exp(score / T).

    Example:
        >>> from slateflow.environments.rules import first_feature
        >>> candidates = np.log([[[1.0], [2.0], [3.0]]])
        >>> observation = {"user": np.zeros((1, 0)), "candidates": candidates, "step": [[0]]}
        >>> policy = SoftmaxPolicy(2, first_feature, temperature=1.0)
        >>> policy.propensities(observation, np.array([[2, 1]])).round(6)  # 3/6 × 2/3
        array([0.333333])
    """

    slate_size: int
    rule: ScoringRule
    temperature: float

    def __post_init__(self) -> None:
        if not MIN_TEMPERATURE <= self.temperature < np.inf:
            raise InputError(
                f"temperature: expected a number from {MIN_TEMPERATURE:g}, got {self.temperature}"
            )

    def act(self, observation: Observation, rng: Rng) -> tuple[Slates, Propensities]:
        """Take the K largest of score / T plus Gumbel noise: such a draw (Yellott 1977)."""
        logits = self._logits(observation)
        slates = top_slates(logits + rng.gumbel(size=logits.shape), self.slate_size)
        return slates, sequential_propensities(logits, slates)

    def propensities(self, observation: Observation, slates: NDArray[Any]) -> Propensities:
        """Probabilities (B,) of showing exactly these slates (B, K)."""
        return sequential_propensities(self._logits(observation), slates)

    def first_place(self, observation: Observation) -> Scores:
        """Probabilities (B, N): the softmax of score / T."""
        return np.asarray(special.softmax(self._logits(observation), axis=1))

    def _logits(self, observation: Observation) -> Scores:
        return np.asarray(self.rule(observation), dtype=np.float64) / self.temperature


def sequential_propensities(logits: Scores, slates: NDArray[Any]) -> Propensities:
    """Probability (B,) of each slate (B, K) whose places are drawn by softmax of what is left.

    The remaining weights are summed anew for every place: subtracting the taken ones from the total
    would lose all digits where one candidate outweighs the rest.
    """
    left, rows = logits.copy(), np.arange(len(logits))
    propensities = np.ones(len(logits))
    for place in slates.T:
        weights = np.exp(left - left.max(axis=1, keepdims=True))
        propensities *= weights[rows, place] / weights.sum(axis=1)
        left[rows, place] = -np.inf
    return propensities
