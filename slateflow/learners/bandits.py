"""Contextual linear bandits, from logs and while they act: exact from sufficient statistics.

A bandit regresses the reward of every candidate that was seen on the products of (1, user) and
(1, candidate), and on its place in the slate: the reward where it was clicked, 0 where not. Where
users always click the first place, that is the only one they see.

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
from slateflow.trajectories.schema import blocks
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
        return Trained(bilinear_scorer(posterior.mean, dataset.spec))


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
        return Trained(bilinear_scorer(weights, dataset.spec))


def _posterior(dataset: Dataset, ridge: float) -> LinearPosterior:
    statistics = dataset_statistics(dataset)
    statistics.check_candidates(dataset.spec)
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

    def check_candidates(self, spec: EnvironmentSpec) -> None:
        """Raise if nothing was ever clicked, or the seen candidates do not vary."""
        if not self.reward_squares:
            raise InputError("dataset: expected rows with a click, got none with a reward")
        own = slice(1, 1 + spec.document_size)  # of the candidate alone
        mean = self.gram[0, own] / self.rows
        squares = np.diag(self.gram)[own] / self.rows
        if (squares - mean**2 <= 1e-12 * squares).all():
            raise InputError(no_variation_message(mean))

    @classmethod
    def from_rows(cls, rows: Trajectories, spec: EnvironmentSpec) -> LinearStatistics:
        """Sum up the candidates that were seen, a block of rows in memory at a time."""
        total = cls.none(feature_count(spec))
        for block in blocks(len(rows)):
            shown = rows.shown_features(block)[:, : places_seen(spec)]
            total += cls.from_shown(
                rows.user[block], shown, rows.clicked[block], rows.reward[block]
            )
        return total

    @classmethod
    def from_shown(
        cls,
        user: NDArray[np.floating],
        shown: NDArray[np.floating],
        clicked: NDArray[np.integer],
        reward: NDArray[np.floating],
    ) -> LinearStatistics:
        """Sum up slates.

        Args:
            user: (B, U).
            shown: (B, K, D), the places that users see.
            clicked: (B,) the clicked place, −1 for none.
            reward: (B,).
        """
        for name, values in (("user", user), ("candidates", shown), ("reward", reward)):
            if not np.isfinite(values).all():
                raise InputError(f"{name}: expected finite numbers, got NaN or infinity")
        seen = shown.shape[1]
        products = bilinear_features(user, shown)  # (B, K, P)
        place = np.broadcast_to(np.eye(seen)[:, 1:], (len(user), seen, seen - 1))
        x = np.concatenate([products, place], axis=2).reshape(len(user) * seen, -1)
        paid = np.where(clicked[:, None] == np.arange(seen), reward[:, None], 0.0)
        y = paid.reshape(-1).astype(np.float64)
        return cls(x.T @ x, x.T @ y, float(y @ y), len(y))


def bilinear_features(user: NDArray[np.floating], candidates: NDArray[np.floating]) -> Array:
    """Products (B, N, (1 + U) (1 + D)) of (1, user) (B, U) and (1, candidate) (B, N, D).

    Example:
        >>> bilinear_features(np.array([[2.0]]), np.array([[[3.0], [5.0]]])).tolist()
        [[[1.0, 3.0, 2.0, 6.0], [1.0, 5.0, 2.0, 10.0]]]
    """
    batch, count, _ = candidates.shape
    of_user = np.concatenate([np.ones((batch, 1)), user], axis=1)
    of_candidate = np.concatenate([np.ones((batch, count, 1)), candidates], axis=2)
    products = of_user[:, None, :, None] * of_candidate[:, :, None, :]
    return np.asarray(products.reshape(batch, count, -1), np.float64)


def places_seen(spec: EnvironmentSpec) -> int:
    """Places of the slate that users see: all where they choose, otherwise the first."""
    return spec.slate_size if spec.user_chooses else 1


def feature_count(spec: EnvironmentSpec) -> int:
    """P: the products, and the places but the first."""
    return (1 + spec.user_size) * (1 + spec.document_size) + places_seen(spec) - 1


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
        total = LinearStatistics.none(feature_count(dataset.spec))
        return sum(map_tasks(_local_statistics, parts), start=total)


def _local_statistics(dataset: Dataset) -> LinearStatistics:
    parts = (LinearStatistics.from_rows(rows, dataset.spec) for rows in dataset.iter_parts())
    total = sum(parts, start=LinearStatistics.none(feature_count(dataset.spec)))
    if not total.rows:
        raise InputError("dataset: expected rows to train from, got none")
    return total


def bilinear_scorer(weights: Array, spec: EnvironmentSpec) -> Scorer:
    """Weights (P,) of the products as a scorer; time and place make no difference to it."""
    users, documents = spec.user_size, spec.document_size
    exponents = np.eye(1 + users + 1 + documents, dtype=np.int64)
    of_user, of_candidate = exponents[: 1 + users], exponents[1 + users :]
    powers = (of_user[:, None] + of_candidate[None]).reshape(-1, exponents.shape[1])
    powers = np.delete(powers, 0, axis=1)  # the constant of the user
    powers[:, users] = 0  # the candidate's constant, in the column of the time
    return Scorer(
        user_size=users,
        slate_size=spec.slate_size,
        horizon=spec.horizon,
        window=1,
        offset=np.zeros(users + 1 + documents),
        scale=np.ones(users + 1 + documents),
        powers=powers,
        head=weights[None, : len(powers)],
        head_bias=np.zeros(1),
    )


@dataclass
class LinearBandit(ABC):
    """Ridge regression of the reward on user, candidate and place, and a way to explore.

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
        features = feature_count(self.spec)
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
        places = slates[:, : places_seen(self.spec), None]
        shown = np.take_along_axis(observation["candidates"], places, axis=1)
        self.statistics += LinearStatistics.from_shown(observation["user"], shown, clicked, rewards)

    def partial_fit(self, rows: Trajectories) -> None:
        """Add logs to what is known, as if all rows had come at once."""
        self.statistics += LinearStatistics.from_rows(rows, self.spec)

    def scorer(self) -> Scorer:
        """The mean of what is known as a scorer, which explores no more."""
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
