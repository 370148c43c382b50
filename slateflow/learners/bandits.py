"""Contextual linear bandits, from logs and while they act: exact from sufficient statistics.

A bandit regresses the reward of every candidate that was seen on the products of (1, user) and
(1, candidate), and on its place in the slate: the reward where it was clicked, 0 where not. Where
users always click the first place, that is the only one they see.

The statistics add up (`bilinear.py`), so what was learnt from logs is where a bandit that acts can
start. From logs the marginal likelihood chooses how far the weights are shrunk (`prior.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from slateflow.environments import EnvironmentSpec, Observation
from slateflow.errors import InputError
from slateflow.learners.code_digest import code_digest
from slateflow.learners.config import LearnerConfig, NonNegative, Trained
from slateflow.learners.search_space import Range, Space
from slateflow.policies import Scorer, Slates, top_slates
from slateflow.progress import Progress
from slateflow.trajectories import Dataset, Trajectories
from slateflow.user_models.bilinear import (
    MOST_FEATURES,
    Block,
    LinearStatistics,
    Sums,
    bilinear_features,
    bilinear_scorer,
    dataset_statistics,
    feature_count,
    places_seen,
)
from slateflow.user_models.item_regressions import (
    ItemPosterior,
    ItemRegression,
    ItemSums,
    by_item,
)
from slateflow.user_models.kept_sums import KeptDays
from slateflow.user_models.normal_equations import NormalEquations
from slateflow.user_models.prior import WeightGroups, chosen_prior
from slateflow.user_models.storable import Storable
from slateflow.user_models.sums_of_parts import sum_over_parts
from slateflow.validation import validated

Array = NDArray[np.float64]
S = TypeVar("S", bound=Storable)

_RIDGE = Range(1e-3, 1e3, log=True)


@validated
class LinUCBConfig(LearnerConfig):
    """Ridge regression of the reward (Li et al. 2010, algorithm 1), served by its mean.

    The confidence bound of LinUCB is for exploring while it acts; from logs nothing is explored.
    """

    learner: ClassVar[str] = "linucb"
    user_chooses: ClassVar[bool | None] = None
    search_space: ClassVar[Space] = {"ridge": _RIDGE}

    ridge: NonNegative = 0.0
    """Precision of the prior on the weights; with 0 the logs choose one for each group of them."""

    @classmethod
    def fits(cls, spec: EnvironmentSpec) -> bool:
        """Worlds whose products of user and candidate are few enough."""
        return _takes(spec)

    def train(
        self, dataset: Dataset, seed: int, progress: Progress, checkpoints: Path | None
    ) -> Trained:
        """Serve the mean of the posterior."""
        weights = _posterior(dataset, self.ridge, checkpoints).mean
        progress(1, 1)
        return Trained(bilinear_scorer(weights, dataset.spec))


@validated
class LinTSConfig(LearnerConfig):
    """Thompson sampling with a Gaussian posterior (Agrawal and Goyal 2013)."""

    learner: ClassVar[str] = "lints"
    user_chooses: ClassVar[bool | None] = None
    search_space: ClassVar[Space] = {"ridge": _RIDGE, "exploration": Range(1e-2, 2.0, log=True)}

    ridge: NonNegative = 0.0
    """Precision of the prior on the weights; with 0 the logs choose one for each group of them."""
    exploration: NonNegative = 1.0
    """Factor on the posterior's standard deviation."""

    @classmethod
    def fits(cls, spec: EnvironmentSpec) -> bool:
        """Worlds whose products of user and candidate are few enough."""
        return _takes(spec)

    def train(
        self, dataset: Dataset, seed: int, progress: Progress, checkpoints: Path | None
    ) -> Trained:
        """Serve weights drawn once from the posterior."""
        rng = np.random.Generator(np.random.SFC64(seed))
        weights = _posterior(dataset, self.ridge, checkpoints).draw(rng, self.exploration)
        progress(1, 1)
        return Trained(bilinear_scorer(weights, dataset.spec))


def _takes(spec: EnvironmentSpec) -> bool:
    """Whether a world's products are few enough."""
    return feature_count(spec, limit=None) <= MOST_FEATURES or by_item(spec)


def _posterior(
    dataset: Dataset, ridge: float, checkpoints: Path | None
) -> LinearPosterior | ItemPosterior:
    def kept(kind: type[S]) -> KeptDays[S] | None:
        if checkpoints is None:
            return None
        return KeptDays.of(kind, dataset, checkpoints, code_digest(kind.__module__))

    if by_item(dataset.spec) and dataset.catalogue is not None:
        sums = sum_over_parts(dataset, ItemSums.from_rows, kept(ItemSums))
        sums.check()
        regression = ItemRegression.of(sums, dataset.catalogue)
        return regression.with_prior(*(ridge, ridge) if ridge else regression.chosen_prior())
    statistics = dataset_statistics(dataset, kept(Sums))
    statistics.check_candidates(dataset.spec)
    prior = ridge or chosen_prior(statistics, WeightGroups.of(dataset.spec))
    return LinearPosterior.from_statistics(statistics, prior)


@dataclass(frozen=True)
class LinearPosterior:
    """Gaussian posterior of the weights, N(mean, noise² (gram + ridge)⁻¹)."""

    mean: Array  # (P,)
    precision_factor: Array  # (P, P), lower Cholesky factor of gram + ridge
    noise: float  # standard deviation of the reward around the regression

    @classmethod
    def from_statistics(cls, statistics: LinearStatistics, ridge: float | Array) -> LinearPosterior:
        """Solve the ridge regression (gram + ridge · I) mean = moment.

        The noise has a prior of a single row with residual 1, for a bandit without any data.

        Args:
            statistics: Statistics of all rows.
            ridge: Precision of the prior in units of the noise's precision: a number for all
                weights, or a matrix (P, P).
        """
        prior = ridge if isinstance(ridge, np.ndarray) else ridge * np.eye(len(statistics.gram))
        if not prior.any() and _singular(statistics.gram):
            raise InputError(
                "user, candidates: expected values that vary, got constant ones; set ridge above 0"
            )
        equations = NormalEquations.of(statistics.gram + prior)
        mean = equations.solved(statistics.moment)
        explained = float(2 * mean @ statistics.moment - mean @ statistics.gram @ mean)
        residual = max(statistics.reward_squares - explained, 0.0)
        return cls(
            mean, equations.unscaled_factor, float(np.sqrt((residual + 1) / (statistics.rows + 1)))
        )

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
    """True if a feature is a linear combination of the others, up to rounding."""
    deviation = np.sqrt(np.diag(precision))
    if not deviation.all():
        return True
    return bool(np.linalg.eigvalsh(precision / np.outer(deviation, deviation))[0] < 1e-12)


@dataclass
class LinearBandit(ABC):
    """Ridge regression of the reward on user, candidate and place, and a way to explore.

    Attributes:
        spec: The world.
        ridge: Precision of the prior on the weights.
        exploration: Factor on the posterior's standard deviation; 0 is greedy.
        statistics: Sums learnt from so far; by default none.
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
        """Learn from a step: the clicked places (B,), −1 for none, and the rewards (B,).

        Raises:
            InputError: A click is at no place of the slate, or a number is none.
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
