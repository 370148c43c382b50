"""Linear bandits, exact from sufficient statistics that add up over parts, workers and days."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.policies import Scorer
from slateflow.ray_cluster import cluster_address, connected, map_tasks
from slateflow.trajectories import Dataset, Trajectories
from slateflow.trajectories.clicked import constant

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LinearStatistics:
    """What a linear regression needs to know of any number of rows.

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
        """Those of no rows at all."""
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
            raise InputError(constant(mean))

    @classmethod
    def of(cls, rows: Trajectories) -> LinearStatistics:
        """The statistics of the clicked candidates; features (1, user, candidate)."""
        position = rows.clicked_candidate()
        clicked = np.flatnonzero(position >= 0)
        chosen = rows.candidates[clicked, position[clicked]]
        user = rows.user[clicked].astype(np.float64)
        reward = rows.reward[clicked].astype(np.float64)
        for name, values in (("user", user), ("candidates", chosen), ("reward", reward)):
            if not np.isfinite(values).all():
                raise InputError(f"{name}: expected finite numbers, got NaN or infinity")
        features = np.column_stack([np.ones(len(clicked)), user, chosen])
        return cls(features.T @ features, features.T @ reward, float(reward @ reward), len(clicked))


@dataclass(frozen=True)
class LinearPosterior:
    """Gaussian posterior of the weights: mean, and the factor of its precision."""

    mean: Array  # (P,)
    precision_factor: Array  # (P, P), lower Cholesky factor of gram + ridge · I
    noise: float  # standard deviation of the reward around the regression

    @classmethod
    def of(cls, statistics: LinearStatistics, ridge: float) -> LinearPosterior:
        """Ridge regression: (gram + ridge · I) mean = moment."""
        if not statistics.rows:
            raise InputError("dataset: expected rows with a click, got none")
        precision = statistics.gram + ridge * np.eye(len(statistics.gram))
        if _singular(precision):
            raise InputError(
                "user, candidates: expected values that vary, got constant ones; set ridge above 0"
            )
        factor = linalg.cholesky(precision, lower=True)
        mean = linalg.cho_solve((factor, True), statistics.moment)
        explained = float(2 * mean @ statistics.moment - mean @ statistics.gram @ mean)
        residual = max(statistics.reward_squares - explained, 0.0) / statistics.rows
        return cls(mean, factor, float(np.sqrt(residual)))

    def draw(self, rng: np.random.Generator, exploration: float) -> Array:
        """Weights drawn from the posterior, its deviation times `exploration`; (P,)."""
        normal = rng.standard_normal(len(self.mean))
        deviation = linalg.solve_triangular(self.precision_factor, normal, lower=True, trans="T")
        return self.mean + exploration * self.noise * np.asarray(deviation)


def _singular(precision: Array) -> bool:
    """Whether a feature follows from the others, up to rounding."""
    deviation = np.sqrt(np.diag(precision))
    if not deviation.all():
        return True
    return bool(np.linalg.eigvalsh(precision / np.outer(deviation, deviation))[0] < 1e-12)


def dataset_statistics(dataset: Dataset) -> LinearStatistics:
    """One pass over the Parquet, one part in memory at a time.

    Where there is a Ray cluster, its processors take a part each, and what they say of it is added
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
        statistics = LinearStatistics.of(rows)
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
