"""Contextual linear bandits that learn while they act, from scratch or from logs.

Their regression is that of bandits trained on logs (`bandits.py`), and they explore according to
the uncertainty of its posterior.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec, Observation
from slateflow.errors import InputError
from slateflow.learners.bandits import LinearPosterior
from slateflow.policies import Scorer, Slates, top_slates
from slateflow.trajectories import Trajectories
from slateflow.user_models.bilinear import (
    Block,
    LinearStatistics,
    bilinear_features,
    feature_count,
    places_seen,
)
from slateflow.user_models.bilinear_scorer import bilinear_scorer

Array = NDArray[np.float64]


@dataclass
class LinearBandit(ABC):
    """Ridge regression of the reward on user, candidate and place, and a way to explore.

    Attributes:
        spec: The world.
        ridge: Precision of the prior on the weights.
        exploration: Factor on the posterior's standard deviation; 0 is greedy.
        statistics: Sums of the steps so far; by default none.
    """

    spec: EnvironmentSpec
    ridge: float = 1.0
    exploration: float = 1.0
    statistics: LinearStatistics = field(default_factory=lambda: LinearStatistics.none(0))

    def __post_init__(self) -> None:
        if not self.ridge > 0:
            raise InputError(f"ridge: expected more than 0, got {self.ridge}")
        if not self.exploration >= 0:
            raise InputError(f"exploration: expected at least 0, got {self.exploration}")
        features = feature_count(self.spec)
        if not self.statistics.moment.size:
            self.statistics = LinearStatistics.none(features)
        if self.statistics.moment.shape != (features,):
            raise InputError(
                f"statistics: expected those of {features} features, "
                f"got {len(self.statistics.moment)}"
            )

    def select(self, observation: Observation, rng: np.random.Generator) -> Slates:
        """Slates (B, K) of candidates that pay, or of which too little is known."""
        return top_slates(self._scores(self._features(observation), rng), self.spec.slate_size)

    def update(
        self,
        observation: Observation,
        slates: Slates,
        clicked: NDArray[np.int32],
        rewards: NDArray[np.float64],
    ) -> None:
        """Learn from a step: the clicked places (B,), −1 for none, and the rewards (B,).

        Raises:
            InputError: A click is not at a place of the slate, or numbers are not finite.
        """
        if ((clicked < -1) | (clicked >= slates.shape[1])).any():
            raise InputError(
                f"clicked: expected places from 0 to {slates.shape[1] - 1}, or -1 for none, got "
                f"{clicked.min()} to {clicked.max()}"
            )
        places = slates[:, : places_seen(self.spec), None]
        shown = np.take_along_axis(observation["candidates"], places, axis=1)
        block = Block.from_shown(observation["user"], shown, clicked, rewards)
        self.statistics += LinearStatistics.from_block(block)

    def partial_fit(self, rows: Trajectories) -> None:
        """Add logs to the statistics, as if all rows had come at once."""
        self.statistics += LinearStatistics.from_rows(rows, self.spec)

    def scorer(self) -> Scorer:
        """The posterior mean as a scorer, which does not explore."""
        return bilinear_scorer(self.posterior().mean, self.spec)

    @abstractmethod
    def _scores(self, features: Array, rng: np.random.Generator) -> Array:
        """Scores (B, N) of candidates with features (B, N, P)."""

    def posterior(self) -> LinearPosterior:
        """The posterior of the weights."""
        return LinearPosterior.from_statistics(self.statistics, self.ridge)

    def _features(self, observation: Observation) -> Array:
        """Features (B, N, P) of all candidates in the first place."""
        products = bilinear_features(observation["user"], observation["candidates"])
        return np.pad(products, ((0, 0), (0, 0), (0, places_seen(self.spec) - 1)))


class LinUCB(LinearBandit):
    """Mean plus confidence bound, x·θ + α σ √(xᵀ A⁻¹ x) (Li et al. 2010, algorithm 1).

    α is `exploration`, and σ the noise of the rewards, which the paper bounds by 1.
    """

    def _scores(self, features: Array, rng: np.random.Generator) -> Array:
        del rng  # deterministic
        posterior = self.posterior()
        flat = features.reshape(-1, features.shape[2])
        bound = posterior.deviations(flat).reshape(features.shape[:2])
        return np.asarray(features @ posterior.mean + self.exploration * bound)


class LinTS(LinearBandit):
    """Weights drawn anew for every user from N(θ, (v σ)² A⁻¹) (Agrawal and Goyal 2013).

    v is `exploration`, and σ the noise of the rewards.
    """

    def _scores(self, features: Array, rng: np.random.Generator) -> Array:
        weights = self.posterior().draw(rng, self.exploration, len(features))  # (B, P)
        return np.asarray(np.matmul(features, weights[:, :, None])[:, :, 0])
