"""Logistic regression of clicks on logged products of user and candidate, by Newton's method.

The reward is scaled to [0, 1], and its expectation is a logistic function of products of user and
candidate. Rewards of 0 and 1 are clicks; for other rewards the regression is the fractional logit
of Papke and Wooldridge (1996, "Econometric Methods for Fractional Response Variables"), whose
likelihood needs only the right expectation. Features come with their squares, so a user may like
the middle of a range best. Those that are far from zero are squared less an origin near them.

Each Newton step is a weighted regression, whose statistics add up over parts and workers. The
marginal likelihood of that regression chooses the prior (Breslow and Clayton 1993, "Approximate
Inference in Generalized Linear Mixed Models", section 2).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.trajectories import Dataset, Trajectories
from slateflow.user_models.additive import Additive
from slateflow.user_models.bilinear import (
    Block,
    LinearStatistics,
    Sizes,
    Squares,
    Sums,
    feature_count,
    seen_blocks,
)
from slateflow.user_models.centring import bilinear_prior
from slateflow.user_models.normal_equations import NormalEquations
from slateflow.user_models.origin import Origin, Ranges
from slateflow.user_models.prior import PRIOR_STEPS
from slateflow.user_models.storable import Storable
from slateflow.user_models.sums_of_parts import sum_over_parts

Array = NDArray[np.float64]

LEAST_WEIGHT = 1e-6
"""Least weight of a row: one with a certain outcome would have a variance of 0."""

MOST_WITH_SQUARES = 1_000
"""Most products of features and squares; squares beyond that are left out."""

TOLERANCE = 1e-8
"""Mean squared change in the log-odds below which the steps end."""

MOST_PRIORS = 4
"""Largest number of priors that are chosen at a maximum."""

SETTLED = 0.01
"""Mean squared change in the log-odds, where clicks are likely, below which a prior is settled."""


@dataclass(frozen=True)
class SeenRewards(Storable):
    """Facts about the seen candidates that are needed before the first step.

    Attributes:
        values: Up to three distinct rewards, the smallest first and the largest last; a candidate
            without a click has the reward 0.
        total: Sum of the rewards.
        rows: Number of candidates.
        graded_user: (U,) whether a user's feature has values other than 0 and 1.
        graded_candidate: (D,) whether a candidate's feature has such values.
        least: (U + D,) least values of the features.
        greatest: (U + D,) greatest values of the features.
    """

    values: Array
    total: float
    rows: int
    graded_user: NDArray[np.bool_]
    graded_candidate: NDArray[np.bool_]
    least: Array
    greatest: Array

    @classmethod
    def from_rows(cls, rows: Trajectories, spec: EnvironmentSpec) -> Self:
        """Collect facts about the seen candidates, one block of rows in memory at a time."""
        return reduce(operator.add, (cls._from_block(block) for block in seen_blocks(rows, spec)))

    @classmethod
    def _from_block(cls, block: Block) -> Self:
        ranges = [Ranges.of(block.user[:, 1:]), Ranges.of(block.seen[:, :, 1:])]
        return cls(
            values=_ends(block.paid),
            total=float(block.paid.sum()),
            rows=block.paid.size,
            graded_user=_graded(block.user[:, 1:]),
            graded_candidate=_graded(block.seen[:, :, 1:]),
            least=np.concatenate([one.low for one in ranges]),
            greatest=np.concatenate([one.high for one in ranges]),
        )

    def __add__(self, other: Self) -> Self:
        return replace(
            self,
            values=_ends(np.concatenate([self.values, other.values])),
            total=self.total + other.total,
            rows=self.rows + other.rows,
            graded_user=self.graded_user | other.graded_user,
            graded_candidate=self.graded_candidate | other.graded_candidate,
            least=np.minimum(self.least, other.least),
            greatest=np.maximum(self.greatest, other.greatest),
        )

    def check(self) -> None:
        """Raise if nothing was ever clicked, or everything paid the same."""
        if not self.values.any():
            raise InputError("dataset: expected rows with a click, got none with a reward")
        if len(self.values) == 1:
            raise InputError(
                f"reward: expected rewards that vary, got {self.values[0]:g} every time; log what "
                "was not clicked, too"
            )

    def squares(self, spec: EnvironmentSpec) -> Squares:
        """The features that differ from their squares, if these are few enough.

        If not, only those of the candidate, or none. Where users are observed in the features of
        the candidates, the users' squares are left out: the items liked most are shown beside
        similar items, which take clicks from them, and a square would turn that into a dislike.
        """
        user, candidate = (
            tuple(np.flatnonzero(graded).tolist())
            for graded in (self.graded_user, self.graded_candidate)
        )
        if spec.features_match:
            user = ()
        for squares in (Squares(user, candidate), Squares((), candidate)):
            users = 1 + spec.user_size + len(squares.user)
            if users * (1 + spec.document_size + len(squares.candidate)) <= MOST_WITH_SQUARES:
                return squares
        return Squares()

    def origin(self, spec: Sizes) -> Origin:
        """Numbers near those features that are far from zero."""
        if spec.features_match:
            return Origin.none(spec.user_size, spec.document_size)
        found = Ranges(self.least, self.greatest).origin
        return Origin(*np.split(found, [spec.user_size]))

    @property
    def binary(self) -> bool:
        """True if there are only two rewards, as for clicks."""
        return len(self.values) == 2

    @property
    def mean(self) -> float:
        """Mean of the scaled rewards."""
        return float(self.scaled(np.array(self.total / self.rows)))

    def scaled(self, reward: Array) -> Array:
        """Rewards scaled to the range from 0 (the smallest) to 1 (the largest)."""
        return np.asarray((reward - self.values[0]) / (self.values[-1] - self.values[0]))


def _graded(features: Array) -> NDArray[np.bool_]:
    """(F,) whether features (…, F) have values other than 0 and 1."""
    graded = (features != 0) & (features != 1)
    return np.asarray(graded.any(axis=tuple(range(features.ndim - 1))))


def _ends(values: Array) -> Array:
    """The smallest and the largest value, with one between them if there is one."""
    distinct = np.unique(values)
    return distinct if len(distinct) < 3 else distinct[[0, 1, -1]]


@dataclass(frozen=True)
class NewtonStatistics(Additive):
    """Statistics of a Newton step at some weights: a weighted regression, and the likelihood.

    Attributes:
        regression: Regression of the working response η + (y − μ) / w on the features, with
            weights w = μ (1 − μ) (McCullagh and Nelder 1989, section 2.5).
        log_likelihood: Σ y log μ + (1 − y) log(1 − μ).
    """

    regression: Sums
    log_likelihood: float

    @classmethod
    def from_rows(
        cls,
        rows: Trajectories,
        spec: EnvironmentSpec,
        weights: Array,
        rewards: SeenRewards,
        squares: Squares,
        origin: Origin,
    ) -> Self:
        """Sum up the candidates that were seen, one block of rows in memory at a time.

        Args:
            rows: Logged steps.
            spec: The world.
            weights: (P,) at which the step is taken.
            rewards: Bounds of the rewards.
            squares: Features whose squares are added.
            origin: Subtracted from features.
        """
        likelihoods = []

        def working() -> Iterator[tuple[Block, Array, Array]]:
            for block in seen_blocks(origin.less(rows), spec, squares):
                target, odds = rewards.scaled(block.paid), block.predicted(weights)
                expected = special.expit(odds)
                weight = np.maximum(expected * (1 - expected), LEAST_WEIGHT)
                likelihoods.append(float((target * odds - np.logaddexp(0, odds)).sum()))
                yield block, weight, odds + (target - expected) / weight

        regression = Sums.of_blocks(working(), Sums.none(spec, squares))
        return cls(regression, sum(likelihoods))


@dataclass(frozen=True)
class Newton:
    """Logistic regression by Newton's method.

    Attributes:
        rewards: Bounds and mean of the rewards.
        squares: Features whose squares are added.
        ridge: Precision of the prior on the weights; with 0 the marginal likelihood chooses it.
        iterations: Most passes over the logs.
        origin: Subtracted from features before they are squared.
    """

    rewards: SeenRewards
    squares: Squares
    ridge: float
    iterations: int
    origin: Origin

    def fit(self, dataset: Dataset, start: Array | None = None, vary: bool = True) -> Fitted:
        """Find the weights of greatest posterior density.

        Priors are chosen during the first steps, before the maximum: where steps oscillate, a prior
        may shrink all weights to nothing. So another prior is chosen at the maximum. If it would
        move the weights, steps continue with it, and the prior with the greatest marginal
        likelihood is kept.

        Args:
            dataset: The logs, of which one part is in memory at a time.
            start: (P,) the first weights; None to begin with the mean.
            vary: Whether the candidates have to vary; in one day of many they need not.

        Raises:
            InputError: The candidates have to vary, but do not.
        """
        spec, rewards = dataset.spec, self.rewards
        weights = np.zeros(feature_count(spec, self.squares))
        least = 0.5 / rewards.rows  # in a day without a click
        weights[0] = special.logit(min(max(rewards.mean, least), 1 - least))
        if start is not None:
            weights = start
        best = found = self._climb(dataset, weights, None, vary)
        for _ in range(0 if self.ridge else MOST_PRIORS):
            prior = self.prior(found.regression, spec)
            if found.is_settled(prior):
                break
            found = self._climb(dataset, found.fitted.weights, prior, vary)
            noise = 1.0 if self.rewards.binary else min(best.noise, found.noise)
            if found.evidence(noise) > best.evidence(noise):
                best = found
        return best.fitted

    def _climb(self, dataset: Dataset, weights: Array, given: Array | None, vary: bool) -> _Climb:
        """Take Newton steps from the weights (P,) until they end.

        A step that makes the weights less likely is halved.

        Args:
            dataset: The logs.
            weights: (P,) the first weights.
            given: (P, P) precision of the prior; None to choose it during the first steps.
            vary: Whether the candidates have to vary.
        """
        spec, rewards = dataset.spec, self.rewards
        prior = self.ridge * np.eye(len(weights)) if given is None else given
        fitted, reached = Fitted(weights, weights, Sums.none(spec, self.squares)), -math.inf
        for step in range(self.iterations):
            found = sum_over_parts(
                dataset,
                partial(
                    NewtonStatistics.from_rows,
                    weights=weights,
                    rewards=rewards,
                    squares=self.squares,
                    origin=self.origin,
                ),
            )
            density = found.log_likelihood - _penalty(weights, prior)
            if density < reached - TOLERANCE * rewards.rows:
                weights = (fitted.at + weights) / 2
                fitted = replace(fitted, weights=fitted.at)  # until a step is good
                continue
            regression = found.regression.expanded()
            if vary:
                regression.check_candidates(spec)
            if given is None and not self.ridge and step < PRIOR_STEPS:
                prior = self.prior(regression, spec)
            reached = found.log_likelihood - _penalty(weights, prior)
            precision = regression.gram + prior
            moved = NormalEquations.of(precision).solved(regression.moment - precision @ weights)
            fitted = Fitted(weights + moved, weights, found.regression)
            weights = fitted.weights
            if moved @ regression.gram @ moved < TOLERANCE * regression.rows:
                break
        return _Climb(fitted, prior, reached)

    def prior(self, regression: LinearStatistics, spec: EnvironmentSpec) -> Array:
        """(P, P) precision of the prior on the weights."""
        if self.ridge:
            return self.ridge * np.eye(len(regression.moment))
        noise = 1.0 if self.rewards.binary else None
        return bilinear_prior(regression, spec, self.squares, noise)


@dataclass(frozen=True)
class Fitted:
    """Weights, and the regression from which they come.

    Attributes:
        weights: (P,) weights of greatest posterior density.
        at: (P,) weights before the last step.
        regression: Regression of the last step.
    """

    weights: Array
    at: Array
    regression: Sums


@dataclass(frozen=True)
class _Climb:
    """The end of Newton steps.

    Attributes:
        fitted: Weights at the end.
        prior: (P, P) precision of the last prior.
        density: Log posterior density at the weights before the last step, less a constant.
    """

    fitted: Fitted
    prior: Array
    density: float

    @cached_property
    def regression(self) -> LinearStatistics:
        """The regression of the last step."""
        return self.fitted.regression.expanded()

    def is_settled(self, prior: Array) -> bool:
        """True if another prior (P, P) would hardly change the log-odds."""
        regression, weights = self.regression, self.fitted.weights
        moved = NormalEquations.of(regression.gram + prior).solved(regression.moment) - weights
        return bool(moved @ regression.gram @ moved < SETTLED * regression.gram[0, 0])

    @property
    def noise(self) -> float:
        """Variance of the rewards around the regression, in units of that of clicks."""
        regression, at = self.regression, self.fitted.at
        residual = regression.reward_squares - at @ (2 * regression.moment - regression.gram @ at)
        return max(float(residual), TOLERANCE) / regression.rows

    def evidence(self, noise: float) -> float:
        """Log marginal likelihood of the prior, by Laplace's method.

        Args:
            noise: Variance of the rewards around the regression, in units of that of clicks.
        """
        precision = self.regression.gram + self.prior
        before, after = (np.linalg.slogdet(one)[1] for one in (self.prior, precision))
        return float(self.density / noise + (before - after) / 2)


def _penalty(weights: Array, prior: Array) -> float:
    return float(weights @ prior @ weights) / 2
