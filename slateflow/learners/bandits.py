"""Linear bandits, from logs and while they act: exact from sufficient statistics.

The statistics add up over parts, workers and days, and have one size whatever the number of rows.
So what was learnt from logs is where a bandit that acts can start.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from slateflow.environments import EnvironmentSpec, Observation
from slateflow.errors import InputError
from slateflow.learners.config import LearnerConfig, NonNegative, Progress, Trained
from slateflow.learners.search_space import Range, Space
from slateflow.policies import Scorer, Slates, top_slates
from slateflow.ray_cluster import cluster_address, connected, map_tasks
from slateflow.trajectories import Dataset, Trajectories
from slateflow.trajectories.variation import no_variation_message
from slateflow.validation import validated

Array = NDArray[np.float64]

_RIDGE = Range(1e-3, 1e3, log=True)


@validated
class LinUCBConfig(LearnerConfig):
    """Ridge regression of the reward (Li et al. 2010, algorithm 1), served by its mean.

    The confidence bound of LinUCB is for exploring while it acts; from logs nothing is explored.
    """

    learner: ClassVar[str] = "linucb"
    user_chooses: ClassVar[bool | None] = None
    search_space: ClassVar[Space] = {"ridge": _RIDGE}

    ridge: NonNegative = 1.0
    """Precision of the prior on the weights."""

    def train(
        self, dataset: Dataset, seed: int, progress: Progress, checkpoints: Path | None
    ) -> Trained:
        """Serve the mean of the posterior."""
        posterior = _posterior(dataset, self.ridge)
        progress(1, 1)
        return Trained(linear_scorer(posterior.mean, dataset.spec))


@validated
class LinTSConfig(LearnerConfig):
    """Thompson sampling with a Gaussian posterior (Agrawal and Goyal 2013)."""

    learner: ClassVar[str] = "lints"
    user_chooses: ClassVar[bool | None] = None
    search_space: ClassVar[Space] = {"ridge": _RIDGE, "exploration": Range(1e-2, 2.0, log=True)}

    ridge: NonNegative = 1.0
    """Precision of the prior on the weights."""
    exploration: NonNegative = 1.0
    """Factor on the posterior's standard deviation."""

    def train(
        self, dataset: Dataset, seed: int, progress: Progress, checkpoints: Path | None
    ) -> Trained:
        """Serve weights that are drawn from the posterior once."""
        rng = np.random.Generator(np.random.SFC64(seed))
        weights = _posterior(dataset, self.ridge).draw(rng, self.exploration)
        progress(1, 1)
        return Trained(linear_scorer(weights, dataset.spec))


def _posterior(dataset: Dataset, ridge: float) -> LinearPosterior:
    statistics = dataset_statistics(dataset)
    statistics.check_candidates(dataset.spec.document_size)
    return LinearPosterior.from_statistics(statistics, ridge)


@dataclass(frozen=True)
class LinearStatistics:
    """Sufficient statistics of a linear regression over any number of rows.

    Attributes:
        gram: (P, P) sum of the outer products of the features.
        moment: (P,) sum of features × reward.
        reward_squares: Sum of the squared rewards.
        rows: Number of rows.
    """

    gram: Array
    moment: Array
    reward_squares: float
    rows: int

    def __add__(self, other: LinearStatistics) -> LinearStatistics:
        return LinearStatistics(
            self.gram + other.gram,
            self.moment + other.moment,
            self.reward_squares + other.reward_squares,
            self.rows + other.rows,
        )

    @classmethod
    def none(cls, features: int) -> LinearStatistics:
        """Make the statistics of no rows."""
        return cls(np.zeros((features, features)), np.zeros(features), 0.0, 0)

    def save(self, path: str | Path) -> None:
        """Write them as an `.npz` that loads without pickle; what is learnt later is added."""
        np.savez(path, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path: str | Path) -> LinearStatistics:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(
                stored["gram"],
                stored["moment"],
                float(stored["reward_squares"]),
                int(stored["rows"]),
            )

    def check_candidates(self, document_size: int) -> None:
        """Raise if the clicked candidates do not vary; their features are the last D."""
        if not self.rows:
            raise InputError("dataset: expected rows with a click, got none")
        mean = self.gram[0, -document_size:] / self.rows
        squares = np.diag(self.gram)[-document_size:] / self.rows
        if (squares - mean**2 <= 1e-12 * squares).all():
            raise InputError(no_variation_message(mean))

    @classmethod
    def from_rows(cls, rows: Trajectories) -> LinearStatistics:
        """Sum up the clicked candidates; features (1, user, candidate)."""
        clicked = np.flatnonzero(rows.clicked >= 0)
        chosen = rows.clicked_features(clicked)
        user = rows.user[clicked].astype(np.float64)
        reward = rows.reward[clicked].astype(np.float64)
        for name, values in (("user", user), ("candidates", chosen), ("reward", reward)):
            if not np.isfinite(values).all():
                raise InputError(f"{name}: expected finite numbers, got NaN or infinity")
        features = np.column_stack([np.ones(len(clicked)), user, chosen])
        return cls(features.T @ features, features.T @ reward, float(reward @ reward), len(clicked))


@dataclass(frozen=True)
class LinearPosterior:
    """Gaussian posterior of the weights, N(mean, noise² (gram + ridge · I)⁻¹)."""

    mean: Array  # (P,)
    precision_factor: Array  # (P, P), lower Cholesky factor of gram + ridge · I
    noise: float  # standard deviation of the reward around the regression

    @classmethod
    def from_statistics(cls, statistics: LinearStatistics, ridge: float) -> LinearPosterior:
        """Solve the ridge regression (gram + ridge · I) mean = moment.

        The noise has a prior of a single row with residual 1, for a bandit that has seen nothing.
        """
        precision = statistics.gram + ridge * np.eye(len(statistics.gram))
        if _singular(precision):
            raise InputError(
                "user, candidates: expected values that vary, got constant ones; set ridge above 0"
            )
        factor = linalg.cholesky(precision, lower=True)
        mean = linalg.cho_solve((factor, True), statistics.moment)
        explained = float(2 * mean @ statistics.moment - mean @ statistics.gram @ mean)
        residual = max(statistics.reward_squares - explained, 0.0)
        return cls(mean, factor, float(np.sqrt((residual + 1) / (statistics.rows + 1))))

    def draw(self, rng: np.random.Generator, exploration: float, count: int | None = None) -> Array:
        """Draw weights (P,) or (count, P), with `exploration` times the posterior's deviation."""
        shape = len(self.mean) if count is None else (len(self.mean), count)
        normal = rng.standard_normal(shape)
        deviation = linalg.solve_triangular(self.precision_factor, normal, lower=True, trans="T")
        return self.mean + exploration * self.noise * np.asarray(deviation).T

    def deviations(self, features: Array) -> Array:
        """Standard deviations (R,) of the expected rewards at features (R, P)."""
        whitened = linalg.solve_triangular(self.precision_factor, features.T, lower=True)
        return np.asarray(self.noise * np.sqrt(np.square(whitened).sum(axis=0)))


def _singular(precision: Array) -> bool:
    """Whether a feature follows from the others, up to rounding."""
    deviation = np.sqrt(np.diag(precision))
    if not deviation.all():
        return True
    return bool(np.linalg.eigvalsh(precision / np.outer(deviation, deviation))[0] < 1e-12)


def dataset_statistics(dataset: Dataset) -> LinearStatistics:
    """Pass once over the Parquet, one part in memory at a time.

    Where there is a Ray cluster, its processors take a part each, and their statistics are added
    up here, in the order of the parts.
    """
    address = cluster_address()
    if address is None or len(dataset.parts) == 1:
        return _local_statistics(dataset)
    with connected(address):
        folder = dataset.folder.absolute()
        parts = [
            (dataclasses.replace(dataset, folder=folder, parts=(part,)),) for part in dataset.parts
        ]
        total = LinearStatistics.none(dataset.spec.user_size + dataset.spec.document_size + 1)
        return sum(map_tasks(_local_statistics, parts), start=total)


def _local_statistics(dataset: Dataset) -> LinearStatistics:
    total: LinearStatistics | None = None
    for rows in dataset.iter_parts():
        statistics = LinearStatistics.from_rows(rows)
        total = statistics if total is None else total + statistics
    if total is None:
        raise InputError("dataset: expected rows to train from, got none")
    return total


def linear_scorer(weights: Array, spec: EnvironmentSpec) -> Scorer:
    """Weights of (1, user, candidate) as a scorer that knows no time."""
    features = spec.user_size + 1 + spec.document_size
    powers = np.delete(np.eye(features, dtype=np.int64), spec.user_size, axis=0)
    return Scorer(
        user_size=spec.user_size,
        slate_size=spec.slate_size,
        horizon=spec.horizon,
        window=1,
        offset=np.zeros(features),
        scale=np.ones(features),
        powers=powers,
        head=weights[None, 1:],
        head_bias=weights[:1],
    )


@dataclass
class LinearBandit(ABC):
    """Ridge regression of the reward on (1, user, clicked candidate), and a way to explore.

    Attributes:
        spec: The world.
        ridge: Precision of the prior on the weights.
        exploration: Factor on the posterior's standard deviation; 0 is greedy.
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
            raise InputError(f"exploration: expected at least 0, got {self.exploration}")
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
        self.statistics += LinearStatistics.from_rows(rows)

    def scorer(self) -> Scorer:
        """The mean of what is known as a scorer, which explores no more."""
        return linear_scorer(self.posterior().mean, self.spec)

    @abstractmethod
    def _scores(self, features: Array, rng: np.random.Generator) -> Array:
        """Scores (B, N) of candidates with features (B, N, P)."""

    def posterior(self) -> LinearPosterior:
        """The posterior of the weights."""
        return LinearPosterior.from_statistics(self.statistics, self.ridge)

    def _features(self, observation: Observation) -> Array:
        user, candidates = observation["user"], observation["candidates"]
        batch, count = candidates.shape[:2]
        known = np.broadcast_to(user[:, None], (batch, count, user.shape[1]))
        ones = np.ones((batch, count, 1))
        return np.concatenate([ones, known, candidates], axis=2).astype(np.float64)


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
