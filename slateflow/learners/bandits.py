"""Contextual linear bandits from logs: exact from sufficient statistics.

A bandit regresses the reward of every candidate that was seen on the products of (1, user) and
(1, candidate), and on its place in the slate: the reward where it was clicked, 0 where not. Where
users always click the first place, that is the only one they see.

The statistics add up (`bilinear.py`), so what was learnt from logs is where a bandit that acts can
start (`acting_bandits.py`). The marginal likelihood chooses how far the weights are shrunk
(`prior.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.learners.code_digest import code_digest
from slateflow.learners.config import LearnerConfig, NonNegative, Trained
from slateflow.learners.search_space import Range, Space
from slateflow.progress import Progress
from slateflow.trajectories import Dataset
from slateflow.user_models.bilinear import (
    MOST_BILINEAR_FEATURES,
    LinearStatistics,
    Sums,
    dataset_sums,
    feature_count,
)
from slateflow.user_models.bilinear_scorer import bilinear_scorer
from slateflow.user_models.centring import bilinear_prior
from slateflow.user_models.item_regressions import (
    ItemPosterior,
    ItemRegression,
    ItemSums,
    by_item,
    item_centring,
)
from slateflow.user_models.kept_sums import KeptDays
from slateflow.user_models.normal_equations import NormalEquations
from slateflow.user_models.origin import Origin
from slateflow.user_models.prior import noise_deviation
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
    def holds(cls, spec: EnvironmentSpec) -> bool:
        """True if products of user and candidate fit into a matrix or an arrow."""
        return _few_products(spec)

    def train(
        self, dataset: Dataset, seed: int, progress: Progress, checkpoints: Path | None
    ) -> Trained:
        """Serve the mean of the posterior."""
        posterior, origin = _posterior(dataset, self.ridge, checkpoints)
        progress(1, 1)
        return Trained(bilinear_scorer(posterior.mean, dataset.spec, origin=origin))


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
    def holds(cls, spec: EnvironmentSpec) -> bool:
        """True if products of user and candidate fit into a matrix or an arrow."""
        return _few_products(spec)

    def train(
        self, dataset: Dataset, seed: int, progress: Progress, checkpoints: Path | None
    ) -> Trained:
        """Serve weights drawn once from the posterior."""
        rng = np.random.Generator(np.random.SFC64(seed))
        posterior, origin = _posterior(dataset, self.ridge, checkpoints)
        weights = posterior.draw(rng, self.exploration)
        progress(1, 1)
        return Trained(bilinear_scorer(weights, dataset.spec, origin=origin))


def _few_products(spec: EnvironmentSpec) -> bool:
    return feature_count(spec, limit=None) <= MOST_BILINEAR_FEATURES or by_item(spec)


def _posterior(
    dataset: Dataset, ridge: float, checkpoints: Path | None
) -> tuple[LinearPosterior | ItemPosterior, Origin]:
    """The posterior of the weights of columns less an origin."""

    def kept(kind: type[S]) -> KeptDays[S] | None:
        if checkpoints is None:
            return None
        return KeptDays.of(kind, dataset, checkpoints, code_digest(kind.__module__))

    if by_item(dataset.spec) and dataset.catalogue is not None:
        return _by_item(sum_over_parts(dataset, ItemSums.from_rows, kept(ItemSums)), dataset, ridge)
    sums = dataset_sums(dataset, kept(Sums))
    if ridge:  # of the columns as they are
        sums = sums.less(Origin.none(dataset.spec.user_size, dataset.spec.document_size))
    statistics = sums.expanded()
    statistics.check_candidates(dataset.spec)
    prior = ridge or bilinear_prior(statistics, dataset.spec)
    return LinearPosterior.from_statistics(statistics, prior), sums.origin


def _by_item(sums: ItemSums, dataset: Dataset, ridge: float) -> tuple[ItemPosterior, Origin]:
    sums.check()
    assert dataset.catalogue is not None
    if ridge:  # of the columns as they are
        none = Origin.none(dataset.spec.user_size, dataset.spec.document_size)
        regression = ItemRegression.of(sums.less(none.user), dataset.catalogue)
        return regression.with_prior(ridge, ridge), none
    origin, items = sums.near(dataset.catalogue)
    regression = ItemRegression.of(sums, items, item_centring(sums, items))
    return regression.with_prior(*regression.chosen_prior()), origin


@dataclass(frozen=True)
class LinearPosterior:
    """Gaussian posterior of the weights, N(mean, noise² (gram + ridge)⁻¹)."""

    mean: Array  # (P,)
    precision_factor: Array  # (P, P), lower Cholesky factor of gram + ridge
    noise: float  # standard deviation of the reward around the regression

    @classmethod
    def from_statistics(cls, statistics: LinearStatistics, ridge: float | Array) -> LinearPosterior:
        """Solve the ridge regression (gram + ridge · I) mean = moment.

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
        rows, total, squares = statistics.rows, statistics.moment[0], statistics.reward_squares
        noise = noise_deviation(residual, rows, float(total), squares)
        return cls(mean, equations.unscaled_factor, noise)

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
