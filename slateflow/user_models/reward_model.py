"""Expected rewards, fitted to the logs: rewards without their noise.

The noise of a reward contains no information on a policy, but values propagate it from step to
step. So rewards are replaced by their expectation, regressed on a polynomial of the user and the
clicked candidate. Watch times are positive and skewed, and their logarithm is nearly linear in what
drives them: where all rewards are positive the logarithm may be regressed instead.

The noise may differ from candidate to candidate, and then so does the factor between the
exponential of an expected logarithm and the expected reward. So the variance has a polynomial of
its own, fitted to the squared residuals (Harvey 1976, "Estimating Regression Models with
Multiplicative Heteroscedasticity", section 4). A prediction μ with variance v has the expected
reward exp(μ + v / 2), times the mean of exp(residual − v / 2): with the same variance for all, this
is Duan's factor (Duan 1983, "Smearing Estimate: A Nonparametric Retransformation Method").

The variance depends on the user only where held-out episodes are likelier so by a standard error.
Otherwise the chance in a user's variance would become a preference: a learner of values would lead
users to where the logs were noisy.

The likelihood of held-out episodes chooses the degrees, and between reward and logarithm. At degree
1 the mean has the products of user and candidate: users may differ in what pays, however few the
logs are. A chosen prior (`prior`) keeps effects without evidence small. Where rewards bend more
than a cubic, the likelihood chooses a spline; finer bends are lost with the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from slateflow.held_out_choice import least_lost, simplest
from slateflow.policies.slate_choice import RandomFeatures
from slateflow.trajectories.schema import Trajectories, blocks
from slateflow.user_models.bilinear import LinearStatistics
from slateflow.user_models.clock import rewards_by_the_clock, same_length
from slateflow.user_models.polynomial import MOST_PRODUCTS, Polynomial, bends, term_count
from slateflow.user_models.prior import WeightGroups, chosen_prior
from slateflow.user_models.random_features import MOST_BESIDE, drawn
from slateflow.user_models.splines import Knots

Array = NDArray[np.float64]

DEGREES = (1, 2, 3)
"""Degrees of the mean among which held-out visitors choose."""

NOISE_DEGREES = (0, 1, 2, 3, 4)
"""Degrees of the variance's logarithm; 0 is the same variance for all."""

REWARD_MODEL_FOLDS = 5
"""Parts of the visitors; each is held out in turn."""

REWARD_MODEL_TERMS = 200
"""Most terms of a polynomial beyond the products."""

CHOOSING_ROWS = 40_000
"""Most rows on which the model is chosen; with more than `REWARD_MODEL_TERMS` products, fewer."""

LEAST_GAIN = 0.1
"""Gain in a fold's log-likelihood that random features need before the other folds are tried."""

MOST_ALIKE = 0.1
"""Largest share of identical rewards, such as 0 for visits without an order, with which the noise
is modelled: weights by a variance that follows the mean would pull the mean down."""

REWEIGHTINGS = 2
"""Rounds of fitting the mean given the variance, and the variance given the mean."""


@dataclass(frozen=True)
class Kind:
    """The choices that define a model: degrees, whether the logarithm is regressed, and knots."""

    degree: int
    logarithmic: bool
    noise_degree: int = 0
    noise_of_users: bool = False  # whether the noise depends on the user, not on items alone
    knots: Knots | None = None
    random: RandomFeatures | None = None


@dataclass(frozen=True)
class RewardModel:
    """Polynomials of (user, clicked candidate) for the reward or its logarithm, and for its noise.

    Attributes:
        polynomial: The terms of the mean.
        weights: (P,) weights of the mean's terms.
        logarithmic: Whether the logarithm of the reward is regressed.
        noise: The terms of the logarithm of the variance, in the last of the features.
        noise_weights: (Q,) weights of the noise's terms.
        smearing: Factor that scales exponentiated predictions to the mean; 1 without logarithm.
    """

    polynomial: Polynomial
    weights: Array
    logarithmic: bool
    noise: Polynomial
    noise_weights: Array
    smearing: float

    @classmethod
    def fit(cls, kind: Kind, x: Array, reward: Array, users: int = 0) -> RewardModel:
        """Fit to features (R, F) and rewards (R,), by weighted least squares for the mean.

        The first `users` of the features are the user's.
        """
        target = np.log(reward) if kind.logarithmic else reward
        polynomial = Polynomial.over(x, kind.degree, users, kind.knots, kind.random)
        noise_x = x[:, 0 if kind.noise_of_users else users :]
        noise = Polynomial.over(noise_x, kind.noise_degree)
        noise_design = noise.design(noise_x)
        groups = WeightGroups.of_degrees(*polynomial.degrees(users), len(polynomial.random))
        # A thousandth of the deviation: noise below it does not matter, and without a lower limit
        # an error near 0 would have such a density that a single episode decided between models
        least = 1e-6 * (float(target.var()) or 1.0)
        precision = np.ones(len(target))
        for _ in range(1 + REWEIGHTINGS * (kind.noise_degree > 0)):
            weights = _shrunk_weights(polynomial, x, target, precision, groups)
            residual = target - _times(polynomial, x, weights)
            noise_weights = _fit_log_variance(noise_design, np.square(residual) + least)
            precision = np.exp(-noise_design @ noise_weights)
            precision /= precision.mean()
        variance = np.exp(noise_design @ noise_weights)
        smearing = float(np.exp(residual - variance / 2).mean()) if kind.logarithmic else 1.0
        return cls(polynomial, weights, kind.logarithmic, noise, noise_weights, smearing)

    def expected(self, x: Array) -> Array:
        """(R,) expected rewards at features (R, F)."""
        mean = self._mean(x)
        if not self.logarithmic:
            return mean
        return np.asarray(np.exp(mean + self._variance(x) / 2) * self.smearing)

    def log_likelihoods(self, x: Array, reward: Array) -> Array:
        """(R,) log-densities of rewards (R,), normal or log-normal."""
        target, variance = np.log(reward) if self.logarithmic else reward, self._variance(x)
        squares = np.square(target - self._mean(x)) / variance
        jacobian = target if self.logarithmic else 0.0
        return np.asarray(-0.5 * (squares + np.log(2 * np.pi * variance)) - jacobian)

    def _mean(self, x: Array) -> Array:
        return _times(self.polynomial, x, self.weights)

    def _variance(self, x: Array) -> Array:
        features = x[:, x.shape[1] - len(self.noise.offset) :]
        return np.asarray(np.exp(self.noise.design(features) @ self.noise_weights))


def _shrunk_weights(
    polynomial: Polynomial, x: Array, target: Array, precision: Array, groups: WeightGroups
) -> Array:
    """Weights (P,) by least squares, with the prior that the rows choose."""
    total = LinearStatistics.none(len(polynomial))
    for block in blocks(len(x), len(polynomial)):
        design = polynomial.design(x[block])
        total += LinearStatistics.of_weighted(design, target[block], precision[block])
    factor = linalg.cho_factor(total.gram + chosen_prior(total, groups))
    return np.asarray(linalg.cho_solve(factor, total.moment))


def _times(polynomial: Polynomial, x: Array, weights: Array) -> Array:
    """(R,) values of the polynomial with these weights at features (R, F)."""
    found = np.empty(len(x))
    for block in blocks(len(x), len(weights)):
        found[block] = polynomial.design(x[block]) @ weights
    return found


def _fit_log_variance(design: Array, squares: Array) -> Array:
    """Weights (Q,) of the logarithm of the variance, from squared residuals (R,).

    Fisher scoring on the normal likelihood (Harvey 1976, equation 4.2): its information is the
    same at every step, X'X / 2, and factored once.
    """
    weights = np.zeros(design.shape[1])
    weights[0] = np.log(squares.mean())
    if len(weights) == 1:
        return weights
    information = design.T @ design
    ridge = 1e-9 * np.trace(information) * np.eye(len(information))
    factor = linalg.cho_factor(information + ridge, lower=True)
    for _ in range(50):
        surprise = squares * np.exp(-design @ weights) - 1
        step = np.asarray(linalg.cho_solve(factor, design.T @ surprise), np.float64)
        largest = float(np.abs(step).max())
        weights = weights + step * min(1.0, 1.0 / (largest or 1.0))
        if largest < 1e-4:
            break
    return weights


@dataclass(frozen=True)
class RewardScale:
    """Replaces rewards by their expectations, centred and divided by their standard deviation.

    Attributes:
        model: Model of the rewards; None where rewards are used as they are.
        mean: Mean of the expected rewards.
        deviation: Standard deviation of the expected rewards.
    """

    model: RewardModel | None
    mean: float
    deviation: float
    centred: bool  # whether all sessions have the same number of steps

    @classmethod
    def from_rows(cls, rows: Trajectories, user_size: int | None = None) -> RewardScale:
        """Fit the model, and the scale of its expectations; see `fitted_model`."""
        model = fitted_model(rows, user_size)
        expected = expected_rewards(rows, model)
        mean, deviation = float(expected.mean()), float(expected.std())
        if deviation < 1e-9 * abs(mean):  # constant up to rounding
            deviation = 1.0
        return cls(model, mean, deviation or 1.0, same_length(rows.lengths))

    def scaled(self, rows: Trajectories, centred: bool) -> NDArray[np.float32]:
        """(R,) expected rewards, less their mean if `centred`, over their standard deviation."""
        expected = expected_rewards(rows, self.model) - self.mean * centred
        return np.asarray(expected / self.deviation, dtype=np.float32)


def fitted_model(rows: Trajectories, user_size: int | None = None) -> RewardModel | None:
    """The model that held-out visitors choose, or held-out episodes if visitors are unknown.

    None if there are too few of them, if rewards are all the same or depend on the number of steps
    left, which the model does not know, or if user and candidate have too many products.

    Args:
        rows: Whole sessions.
        user_size: Number of the user's features that may bend, those before the session memory;
            None for all.
    """
    reward, clicked = rows.reward.astype(np.float64), rows.clicked >= 0
    x, y, visitor = _features(rows)[clicked], reward[clicked], rows.visitors[clicked]
    if (
        len(np.unique(visitor % REWARD_MODEL_FOLDS)) < REWARD_MODEL_FOLDS
        or (y == y[0]).all()
        or rewards_by_the_clock(rows)
    ):
        return None
    sizes = rows.user.shape[1], x.shape[1] - rows.user.shape[1]
    products = term_count(*sizes, 1)
    if products > MOST_PRODUCTS:
        return None
    most = CHOOSING_ROWS * REWARD_MODEL_TERMS // max(products, REWARD_MODEL_TERMS)
    few = visitor // REWARD_MODEL_FOLDS % -(-len(y) // most) == 0
    asked, users = (x[few], y[few], visitor[few]), sizes[0]
    own = users if user_size is None else user_size
    plain = _best_kind(*asked, sizes)
    knots = bends(x[few], plain.degree, users, own)
    bent = [replace(plain, degree=degree, knots=one) for degree, one in knots]
    kind = least_lost(plain, bent, lambda one: _losses(one, *asked, users))
    if products <= MOST_BESIDE:
        counted = np.ones(x.shape[1], np.bool_)
        counted[own:users] = False
        random = replace(kind, degree=1, knots=None, random=drawn(counted))
        first, other = (_losses(one, *asked, users, folds=1).sum() for one in (kind, random))
        if first - other > LEAST_GAIN:  # in one fold, as most never need them
            kind = least_lost(kind, [random], lambda one: _losses(one, *asked, users))
    return RewardModel.fit(kind, x, y, users)


def expected_rewards(rows: Trajectories, model: RewardModel | None) -> Array:
    """(R,) expected rewards; a row without a click keeps its reward."""
    reward, clicked = rows.reward.astype(np.float64), rows.clicked >= 0
    if model is not None:
        reward[clicked] = model.expected(_features(rows)[clicked])
    return reward


def _best_kind(x: Array, reward: Array, visitor: NDArray[np.intp], sizes: tuple[int, int]) -> Kind:
    """Choose the mean, then the noise, then the mean again if the noise varies."""

    def fits(degree: int) -> bool:
        return degree <= 1 or term_count(*sizes, degree) <= REWARD_MODEL_TERMS

    losses = cache(lambda kind: _losses(kind, x, reward, visitor, sizes[0]))
    means = [
        Kind(degree, logarithmic)
        for degree in DEGREES
        if fits(degree)
        for logarithmic in (False, True)
        if not logarithmic or (reward > 0).all()
    ]
    best = _likeliest(means, losses)
    if np.unique(reward, return_counts=True)[1].max() > MOST_ALIKE * len(reward):
        return best  # clicks, orders: their noise is that of their mean, and no normal one
    noises = [
        replace(best, noise_degree=degree, noise_of_users=True)
        for degree in NOISE_DEGREES
        if fits(degree)
    ]
    noise = _likeliest(noises, losses)
    if not noise.noise_degree:
        return best
    noises = [replace(noise, noise_of_users=of_users) for of_users in (False, True)]
    noise = _likeliest(noises, losses)
    means = [replace(noise, degree=mean.degree, logarithmic=mean.logarithmic) for mean in means]
    return _likeliest(means, losses)


def _likeliest(kinds: list[Kind], losses: Callable[[Kind], Array]) -> Kind:
    """The first kind whose held-out log-likelihood is within a standard error of the best."""
    if len(kinds) == 1:
        return kinds[0]
    return simplest({kind: losses(kind) for kind in kinds})


def _losses(
    kind: Kind,
    x: Array,
    reward: Array,
    visitor: NDArray[np.intp],
    users: int,
    folds: int = REWARD_MODEL_FOLDS,
) -> Array:
    """(V,) losses of log-likelihood of the visitors, each by a fit without its fold.

    Those of some folds only are 0 elsewhere.
    """
    fold, (_, number) = visitor % REWARD_MODEL_FOLDS, np.unique(visitor, return_inverse=True)
    values = np.zeros(len(reward))
    for one in range(folds):
        out = fold == one
        model = RewardModel.fit(kind, x[~out], reward[~out], users)
        values[out] = model.log_likelihoods(x[out], reward[out])
    return -np.bincount(number, values).astype(np.float64)


def _features(rows: Trajectories) -> Array:
    """(R, U + D) features of user and clicked item, or the item shown first without a click."""
    place = np.maximum(rows.clicked, 0)
    chosen = rows.features_at(rows.slate[np.arange(len(rows)), place])
    return np.concatenate([rows.user, chosen], axis=1).astype(np.float64)
