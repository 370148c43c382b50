"""Linear bandits that learn while they act, a user or a batch at a time.

What they know is the statistics of `LinearStatistics`, of one size whatever the number of rows;
so what was learnt from logs is where they start, and what they learn can be saved and added.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from slateflow.environments import EnvironmentSpec, Observation
from slateflow.errors import InputError
from slateflow.learners.bandits import LinearStatistics, linear_scorer
from slateflow.policies import Scorer, Slates, top_slates
from slateflow.trajectories import Trajectories

Array = NDArray[np.float64]


@dataclass
class OnlineBandit(ABC):
    """Ridge regression of the reward on (1, user, clicked candidate), and a way to explore.

    Attributes:
        spec: The world.
        ridge: Precision of the prior on the weights.
        exploration: How much uncertainty is sought; 0 is greedy.
        statistics: What has been learnt; by default nothing.
    """

    spec: EnvironmentSpec
    ridge: float = 1.0
    exploration: float = 1.0
    statistics: LinearStatistics = field(default_factory=lambda: LinearStatistics.none(0))

    def __post_init__(self) -> None:
        if not self.ridge > 0:
            raise InputError(f"ridge: expected more than 0, got {self.ridge}")
        if not self.exploration >= 0:
            raise InputError(f"exploration: expected 0 or more, got {self.exploration}")
        features = 1 + self.spec.user_size + self.spec.document_size
        if not self.statistics.moment.size:
            self.statistics = LinearStatistics.none(features)
        if self.statistics.moment.shape != (features,):
            raise InputError(
                f"statistics: expected those of {features} features, "
                f"got {len(self.statistics.moment)}"
            )

    def select(self, observation: Observation, rng: np.random.Generator) -> Slates:
        """Slates (B, K) that pay, or of which little is known."""
        return top_slates(self._scores(self._features(observation), rng), self.spec.slate_size)

    def update(
        self,
        observation: Observation,
        slates: Slates,
        clicked: NDArray[np.int32],
        rewards: NDArray[np.float64],
    ) -> None:
        """Learn from a step: the clicked places (B,), −1 for none, and the rewards (B,)."""
        users = np.flatnonzero(clicked >= 0)
        candidates = slates[users, clicked[users]]
        seen, reward = self._features(observation)[users, candidates], rewards[users]
        self.statistics += LinearStatistics(
            seen.T @ seen, seen.T @ reward, float(reward @ reward), len(users)
        )

    def partial_fit(self, rows: Trajectories) -> None:
        """Learn from logs, to what is known already; the same as from all rows at once."""
        self.statistics += LinearStatistics.of(rows)

    def scorer(self) -> Scorer:
        """The mean of what is known as a scorer, which explores no more."""
        return linear_scorer(self._posterior()[0], self.spec)

    @abstractmethod
    def _scores(self, features: Array, rng: np.random.Generator) -> Array:
        """Scores (B, N) of candidates with features (B, N, P)."""

    def _posterior(self) -> tuple[Array, Array]:
        """Mean of the weights (P,), and the lower Cholesky factor (P, P) of their precision."""
        precision = self.statistics.gram + self.ridge * np.eye(len(self.statistics.gram))
        factor = linalg.cholesky(precision, lower=True)
        return linalg.cho_solve((factor, True), self.statistics.moment), factor

    def _features(self, observation: Observation) -> Array:
        user, candidates = observation["user"], observation["candidates"]
        batch, count = candidates.shape[:2]
        known = np.broadcast_to(user[:, None], (batch, count, user.shape[1]))
        ones = np.ones((batch, count, 1))
        return np.concatenate([ones, known, candidates], axis=2).astype(np.float64)


class LinUCB(OnlineBandit):
    """Mean plus confidence bound, x·θ + α √(xᵀ A⁻¹ x) (Li et al. 2010, algorithm 1)."""

    def _scores(self, features: Array, rng: np.random.Generator) -> Array:
        del rng  # deterministic
        mean, factor = self._posterior()
        flat = features.reshape(-1, len(mean))
        deviation = linalg.solve_triangular(factor, flat.T, lower=True)
        bound = np.sqrt(np.square(deviation).sum(axis=0)).reshape(features.shape[:2])
        return np.asarray(features @ mean + self.exploration * bound)


class LinTS(OnlineBandit):
    """Weights drawn anew for every user from N(θ, v² A⁻¹) (Agrawal and Goyal 2013)."""

    def _scores(self, features: Array, rng: np.random.Generator) -> Array:
        mean, factor = self._posterior()
        normal = rng.standard_normal((len(mean), len(features)))
        deviation = linalg.solve_triangular(factor, normal, lower=True, trans="T")
        weights = mean + self.exploration * deviation.T  # (B, P)
        return np.asarray(np.matmul(features, weights[:, :, None])[:, :, 0])
