"""The prior on a regression's weights, chosen by how likely it makes the logs.

All weights of a group have the same prior variance; nothing more is assumed. The marginal
likelihood of the rewards ("evidence": MacKay 1992, "Bayesian Interpolation") chooses the variances.
So effects for which the logs show no evidence are shrunk to nothing: for example, that an item pays
more with every user, or that an interest in one thing affects another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, special

from slateflow.user_models.bilinear import (
    NO_SQUARES,
    LinearStatistics,
    Sizes,
    Squares,
    places_seen,
)

Array = NDArray[np.float64]

ROUNDS = 50
"""Most rounds of the fixed-point iteration, which takes about ten."""

TOLERANCE = 0.1
"""Change in the effective number of determined weights below which the rounds end."""

MOST_OF_A_STEP = 0.9
"""Largest ratio of successive steps with which steps are extrapolated to their limit."""

LEAST, MOST = 1e-8, 1e8
"""Smallest and largest precision of a prior, in units of the mean information on a weight."""

SAME = 1e-12
"""Share of rewards' mean square that, as a variance, is rounding."""

PRIOR_STEPS = 4
"""Newton steps at which a prior is chosen; after them the regression hardly changes."""

GROUP_BY_CHANCE = 0.05
"""Share of logs in which groups without any effect are not all left no weights."""

CONSTANT, ITEM, USER, PRODUCT, _PLACE, _MATCHING, RANDOM, LINK = 0, 1, 3, 4, 9, 10, 11, 12
"""Groups; those before places are 3 × kind of the user + kind of the candidate."""


@dataclass(frozen=True)
class WeightGroups:
    """Weights that share a prior.

    The group depends on the kind of the factors from user and candidate: the constant, a feature or
    a square. Places are a group. Where users are observed in the features of the candidates, the
    products of a feature with itself are a group of their own, around a common mean: the weight of
    the affinity, which is the sum of these products.

    Attributes:
        numbers: (P,) group of each weight; the constant's group is 0.
        alike: (C, P) one row per group with a common mean: 1 for its weights, 0 for the others.

    Example:
        >>> from slateflow.environments import preset
        >>> WeightGroups.of(preset("modified-lts-20-2")).numbers.tolist()  # 1, item, user, product
        [0, 1, 3, 4]
    """

    numbers: NDArray[np.intp]
    alike: Array

    @classmethod
    def of(cls, spec: Sizes, squares: Squares = NO_SQUARES) -> Self:
        """Group the weights of a world."""
        users, documents = 1 + spec.user_size, 1 + spec.document_size
        of_user = np.repeat([0, 1, 2], [1, users - 1, len(squares.user)])
        of_candidate = np.repeat([0, 1, 2], [1, documents - 1, len(squares.candidate)])
        groups = 3 * of_user[:, None] + of_candidate
        if spec.features_match:
            np.fill_diagonal(groups[1:users, 1:documents], _MATCHING)
        numbers = np.append(groups, np.full(places_seen(spec) - 1, _PLACE))
        alike = (numbers == _MATCHING).astype(np.float64)[None]
        return cls(numbers, alike[:1] if alike.any() else alike[:0])

    @classmethod
    def of_items(cls, users: int, documents: int, features_match: bool, alone: int = 0) -> Self:
        """Group the weights (P,) of `item_features`: the documents', and the products'.

        The last `alone` columns of the documents have no products. The affinity and its powers are
        in the constant's group.
        """
        of_documents = np.repeat(ITEM, documents)
        if features_match:
            products = np.repeat([0, PRODUCT], [3, users])
        else:
            products = np.repeat(PRODUCT, users * (documents - alone))
        numbers = np.append(of_documents, products)
        return cls(numbers, np.zeros((0, len(numbers))))

    @classmethod
    def of_degrees(
        cls, of_user: NDArray[np.intp], of_candidate: NDArray[np.intp], beside: int = 0
    ) -> Self:
        """Group terms (P,) with the same degrees in the user and in the candidate.

        Another `beside` terms, such as random features, are a group.

        Example:
            >>> groups = WeightGroups.of_degrees(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), 2)
            >>> groups.numbers.tolist()
            [0, 1, 2, 3, 4, 4]
        """
        numbers = of_user * (1 + of_candidate.max()) + of_candidate
        numbers = np.append(numbers, np.full(beside, numbers.max() + 1))
        return cls(numbers, np.zeros((0, len(numbers))))

    def after(self, numbers: NDArray[np.intp]) -> Self:
        """The groups, preceded by those of other weights (their `numbers`)."""
        alike = np.pad(self.alike, ((0, 0), (len(numbers), 0)))
        return replace(self, numbers=np.append(numbers, self.numbers), alike=alike)

    def padded(self, before: int, after: int) -> Self:
        """The groups between other weights, which are in the constant's group."""
        beside = (before, after)
        return replace(
            self,
            numbers=np.pad(self.numbers, beside),
            alike=np.pad(self.alike, ((0, 0), beside)),
        )


def chosen_prior(
    statistics: LinearStatistics, groups: WeightGroups, noise: float | None = None
) -> Array:
    """Precision (P, P) of the prior, in units of the noise's precision, as a ridge.

    A feature counts in units of its usual size Σ x² / Σ |x|, so that priors suit years and pounds
    alike, and an indicator is not rescaled, however rare it is. The priors of the constant and of
    common means are flat.

    Args:
        statistics: Statistics of all rows.
        groups: Groups of the weights.
        noise: Variance of the rewards around the regression; None for an estimate.
    """
    alike, size = groups.alike, usual_sizes(np.diag(statistics.gram), statistics.magnitude)
    for row in alike > 0:
        size[row] = size[row].mean()
    # The sum of a group's features is a feature of its own, with the mean of their weights
    summed = np.concatenate([np.eye(len(size)), alike])
    numbers = np.append(groups.numbers, np.zeros(len(alike), np.intp))
    all_sizes = np.append(size, (alike @ size) / alike.sum(axis=1))
    problem = _Dense(
        summed @ statistics.gram @ summed.T / np.outer(all_sizes, all_sizes),
        summed @ statistics.moment / all_sizes,
        numbers,
        statistics,
    )
    precision = fixed_point(problem, noise)[numbers] * np.square(all_sizes)
    own, common = np.split(precision, [len(size)])
    prior = np.diag(own)
    for row, precision_of_mean in zip(alike, common, strict=True):
        # The covariance of weights around a common mean, inverted (Sherman and Morrison 1950)
        between = own * row
        prior -= np.outer(between, between) / (precision_of_mean + between.sum())
    return prior


def beyond_chance(
    precision: Array, gram: Array, moment: Array, numbers: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Mask (P,) of the weights whose groups make the logs likelier beyond chance.

    Groups without any effect keep small weights in half of all logs by the marginal likelihood. One
    group is removed after the other, until the likelihood-ratio test of each keeps it, with the
    variance of its weights at the bound of 0 (Self and Liang 1987, "Asymptotic Properties of
    Maximum Likelihood Estimators and Likelihood Ratio Tests Under Nonstandard Conditions", case 5)
    and Bonferroni's correction for several groups.

    Args:
        precision: (P, P) that of the prior for which the marginal likelihood is greatest.
        gram: (P, P) the features' products, in units of the noise's variance.
        moment: (P,) those with the rewards, in the same unit.
        numbers: (P,) groups; the weights of the constant's are kept.
    """

    def twice_evidence(kept: NDArray[np.bool_]) -> float:
        prior, of_kept = precision[np.ix_(kept, kept)], moment[kept]
        left = gram[np.ix_(kept, kept)] + prior
        sizes = np.linalg.slogdet(prior)[1] - np.linalg.slogdet(left)[1]
        return float(of_kept @ np.linalg.solve(left, of_kept) + sizes)

    kept = np.ones(len(numbers), np.bool_)
    tested = max(len(set(numbers) - {CONSTANT}), 1)
    reached = special.chdtri(1, 2 * GROUP_BY_CHANCE / tested)
    while groups := sorted(set(numbers[kept]) - {CONSTANT}):
        without = [twice_evidence(kept & (numbers != group)) for group in groups]
        least = int(np.argmax(without))
        if twice_evidence(kept) - without[least] > reached:
            break
        kept &= numbers != groups[least]
    return kept


def excluding(weights: NDArray[np.bool_], gram: Array) -> Array:
    """Precision (P,) of a prior that leaves some weights none, whatever the logs say; 0 for others.

    Args:
        weights: (P,) mask of these weights.
        gram: (P, P) the features' products.
    """
    return np.where(weights, MOST * float(np.trace(gram)), 0.0)


def usual_sizes(squares: Array, magnitude: Array) -> Array:
    """Usual sizes Σ x² / Σ |x| of features; 1 for features that are always 0."""
    known = (squares > 0) & (magnitude > 0)
    return np.divide(squares, magnitude, out=np.ones_like(magnitude), where=known)


def group_variances(estimates: Array, errors: Array, groups: NDArray[np.intp]) -> Array:
    """Variances (P,) of true weights, one for each group, by the method of moments.

    True weights vary around 0, and estimates around the true weights: the mean square of a group's
    estimates is its variance plus the mean variance of the errors (Hedges 1983, "A Random Effects
    Model for Effect Sizes", for errors that differ). The likelihood would attribute more to chance:
    one error that all weights share, such as that of the sessions' length, would explain all that
    they have in common.

    Args:
        estimates: (P,) estimated weights.
        errors: (P,) variances of the estimates' errors.
        groups: (P,) groups of the weights.

    Example:
        >>> group_variances(np.array([3.0, -5.0]), np.ones(2), np.array([1, 1])).round(2).tolist()
        [16.0, 16.0]
    """
    least = LEAST * float(errors.mean()) or np.finfo(float).tiny
    return np.maximum(group_means(np.square(estimates) - errors, groups), least)


def group_means(values: Array, groups: NDArray[np.intp]) -> Array:
    """The mean (P,) of the group of each value (P,)."""
    _, group = np.unique(groups, return_inverse=True)
    return np.asarray((np.bincount(group, values) / np.bincount(group))[group])


def shrunk_means(cell: NDArray[np.integer], values: Array, told: NDArray[np.bool_]) -> Array:
    """(S,) mean of each value's cell over the values in `told`, shrunk as far as it may be chance.

    Args:
        cell: (S,) numbers from 0.
        values: (S,) values around 0.
        told: (S,) mask of the values that are used for the means.
    """
    count = np.maximum(np.bincount(cell[told], minlength=cell.max() + 1), 1)
    mean = np.bincount(cell[told], values[told], cell.max() + 1) / count
    error = values.var() / count
    true = group_variances(mean, error, np.zeros(len(mean), np.intp))
    return np.asarray((mean * true / (true + error))[cell])


def noise_deviation(residual: float, rows: int, total: float, squares: float) -> float:
    """Standard deviation of the rewards around a regression, in the rewards' unit.

    It has a prior of a single row, which errs as much as rewards differ from their mean; or from 0,
    if all were the same. Before the first reward, that unit is 1.

    Args:
        residual: Sum of the squared residuals.
        rows: Number of rows.
        total: Sum of the rewards.
        squares: Sum of their squares.

    Example:
        >>> noise_deviation(0.0, 0, 0.0, 0.0), noise_deviation(12.0, 3, 0.0, 12.0)
        (1.0, 2.0)
    """
    power = squares / max(rows, 1)
    spread = power - (total / max(rows, 1)) ** 2
    own = spread if spread > SAME * power else power
    return float(np.sqrt((residual + (own or 1.0)) / (rows + 1)))


class Problem(Protocol):
    """A regression whose weights have one prior per group."""

    @property
    def members(self) -> NDArray[np.intp]:
        """(G,) number of weights in each group; the prior of the first is flat."""
        ...

    @property
    def unit(self) -> float:
        """The mean information on a weight."""
        ...

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    def at(self, precision: Array) -> tuple[Array, Array, float]:
        """Sums (G,) of the posterior's variances and of squared means by group; the residual."""
        ...


@dataclass(frozen=True)
class _Dense:
    """A regression whose normal equations fit into a matrix."""

    gram: Array
    moment: Array
    groups: NDArray[np.intp]
    statistics: LinearStatistics

    @property
    def members(self) -> NDArray[np.intp]:
        return np.bincount(self.groups)

    @property
    def unit(self) -> float:
        return float(np.trace(self.gram)) / len(self.gram)

    @property
    def rows(self) -> int:
        return self.statistics.rows

    def at(self, precision: Array) -> tuple[Array, Array, float]:
        gram, groups = self.gram, self.groups
        # (gram + prior)⁻¹ = inverse' inverse
        factor = linalg.cholesky(gram + np.diag(precision[groups]), lower=True, check_finite=False)
        inverse, _ = linalg.lapack.dtrtri(factor, lower=1)
        mean = inverse.T @ (inverse @ self.moment)
        variance, power = (
            np.asarray(np.bincount(groups, one), np.float64)
            for one in (np.einsum("ij,ij->j", inverse, inverse), np.square(mean))
        )
        residual = self.statistics.reward_squares - mean @ (2 * self.moment - gram @ mean)
        return variance, power, float(residual)


def fixed_point(problem: Problem, noise: float | None) -> Array:
    """Precisions (G,) at which the marginal likelihood is greatest, by MacKay's fixed point.

    Args:
        problem: The regression.
        noise: Variance of the rewards around the regression; None for an estimate.
    """
    members, unit = problem.members, problem.unit
    count = len(members)
    precision, before = np.full(count, 0.1 * unit), np.zeros(count)
    precision[CONSTANT] = LEAST * unit
    moved = np.zeros(count)
    for turn in range(ROUNDS):
        variance, power, residual = problem.at(precision)
        # γ of MacKay's equation 4.8: number of weights of each group that the logs determine
        determined = np.maximum(members - precision * variance, 1e-9)
        settled = (np.abs(determined - before) < 0.01 * before + TOLERANCE).all()
        before = determined
        spread = noise or max(residual, 0.0) / max(problem.rows - determined.sum(), 1.0)
        found = np.divide(spread * determined, power, out=np.full(count, np.inf), where=power > 0)
        if settled:
            precision[1:] = np.clip(found, LEAST * unit, MOST * unit)[1:]
            break
        earlier, moved = moved, np.log(np.clip(found, LEAST * unit, MOST * unit) / precision)
        if turn % 3 == 2:  # extrapolate steps that shrink by a constant ratio
            ratio = np.divide(moved, earlier, out=np.zeros(count), where=earlier != 0)
            moved = moved / (1 - np.clip(ratio, 0, MOST_OF_A_STEP))
        precision[1:] = np.clip(precision * np.exp(moved), LEAST * unit, MOST * unit)[1:]
    return precision
