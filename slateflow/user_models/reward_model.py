"""Expected rewards, fitted to the logs: rewards without their noise.

The noise of a reward does not depend on the policy, but values carry it from step to step. So the
expectation takes the reward's place, regressed on a polynomial of the user and the clicked
candidate. Watch times are positive and skewed, and their logarithm is nearly linear in what drives
them: where all rewards are positive the logarithm may be regressed instead, and its prediction
brought back to the scale of the rewards by the mean of the exponentiated residuals (Duan 1983,
"Smearing Estimate: A Nonparametric Retransformation Method"). The likelihood of held-out episodes
chooses between the two, and the degree.

What a reward has beyond a cubic is lost with the noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slateflow.trajectories.schema import Trajectories
from slateflow.user_models.polynomial import Polynomial, terms

Array = NDArray[np.float64]

DEGREES = (1, 2, 3)
"""Degrees of the polynomials among which held-out episodes choose."""

FOLDS = 5
"""Of the episodes."""

MOST_TERMS = 200
"""Polynomials of more terms than that are not tried."""

CHOOSING_ROWS = 60_000
"""Rows by which the model is chosen, at most; whole episodes."""


@dataclass(frozen=True)
class RewardModel:
    """A polynomial of (user, clicked candidate) for the reward or its logarithm.

    Attributes:
        polynomial: The terms.
        logarithmic: Whether it stands for the logarithm of the reward.
        weights: (P,) of the terms.
        smearing: Factor that brings an exponentiated prediction to the mean; 1 without logarithm.
        variance: Of the reward or its logarithm around the polynomial.
    """

    polynomial: Polynomial
    logarithmic: bool
    weights: Array
    smearing: float
    variance: float

    @classmethod
    def fit(cls, degree: int, logarithmic: bool, x: Array, reward: Array) -> RewardModel:
        """By least squares, from features (R, F) and rewards (R,)."""
        polynomial = Polynomial.over(x, degree)
        design = polynomial.design(x)
        target = np.log(reward) if logarithmic else reward
        found = np.linalg.lstsq(design.T @ design, design.T @ target, rcond=None)
        weights = np.asarray(found[0], np.float64)
        residual = target - design @ weights
        smearing = float(np.exp(residual).mean()) if logarithmic else 1.0
        # Not 0, which would make what is exact infinitely likely
        variance = max(float(residual.var()), 1e-12 * (float(target.var()) or 1.0))
        return cls(polynomial, logarithmic, weights, smearing, variance)

    def expected(self, x: Array) -> Array:
        """(R,) expected rewards at features (R, F)."""
        predicted = self._predicted(x)
        return np.exp(predicted) * self.smearing if self.logarithmic else predicted

    def log_likelihoods(self, x: Array, reward: Array) -> Array:
        """(R,) logarithms of the densities of rewards (R,), normal or log-normal."""
        target = np.log(reward) if self.logarithmic else reward
        squares = np.square(target - self._predicted(x)) / self.variance
        jacobian = target if self.logarithmic else 0.0
        return np.asarray(-0.5 * (squares + np.log(2 * np.pi * self.variance)) - jacobian)

    def _predicted(self, x: Array) -> Array:
        return np.asarray(self.polynomial.design(x) @ self.weights)


@dataclass(frozen=True)
class RewardScale:
    """Replaces rewards by their expectations, centred and divided by their deviation.

    Attributes:
        model: Of the rewards; None where they are taken as they are.
        mean: Of the expected rewards.
        deviation: Of the expected rewards, by which they are divided.
    """

    model: RewardModel | None
    mean: float
    deviation: float

    @classmethod
    def from_rows(cls, rows: Trajectories) -> RewardScale:
        """Fit the model, and the scale of its expectations."""
        model = fitted_model(rows)
        expected = expected_rewards(rows, model)
        mean, deviation = float(expected.mean()), float(expected.std())
        if deviation < 1e-9 * abs(mean):  # constant but for rounding
            deviation = 1.0
        return cls(model, mean, deviation or 1.0)

    def scaled(self, rows: Trajectories) -> NDArray[np.float32]:
        """(R,) expected rewards less their mean, over their deviation."""
        expected = expected_rewards(rows, self.model)
        return np.asarray((expected - self.mean) / self.deviation, dtype=np.float32)


def fitted_model(rows: Trajectories) -> RewardModel | None:
    """The model that held-out episodes choose.

    None where there are too few of them, or the rewards are all the same.
    """
    reward, clicked = rows.reward.astype(np.float64), rows.clicked >= 0
    session = rows.sessions
    x, y, session = _features(rows)[clicked], reward[clicked], session[clicked]
    if len(np.unique(session % FOLDS)) < FOLDS or (y == y[0]).all():
        return None
    few = session // FOLDS % -(-len(y) // CHOOSING_ROWS) == 0
    return RewardModel.fit(*_best_kind(x[few], y[few], session[few]), x, y)


def expected_rewards(rows: Trajectories, model: RewardModel | None) -> Array:
    """(R,) expected rewards; a row without a click keeps its reward."""
    reward, clicked = rows.reward.astype(np.float64), rows.clicked >= 0
    if model is not None:
        reward[clicked] = model.expected(_features(rows)[clicked])
    return reward


def _best_kind(x: Array, reward: Array, session: NDArray[np.intp]) -> tuple[int, bool]:
    """Degree, and whether of the logarithm, by cross-validation over episodes.

    Choose the lowest degree whose log-likelihood is within a standard error of the best.
    """
    fold, (_, episode) = session % FOLDS, np.unique(session, return_inverse=True)

    def log_likelihoods(kind: tuple[int, bool]) -> Array:
        """(E,) of the held-out episodes."""
        values = np.empty(len(reward))
        for one in range(FOLDS):
            out = fold == one
            model = RewardModel.fit(*kind, x[~out], reward[~out])
            values[out] = model.log_likelihoods(x[out], reward[out])
        return np.asarray(np.bincount(episode, values), np.float64)

    found = {
        (degree, logarithmic): log_likelihoods((degree, logarithmic))
        for degree in DEGREES
        if degree == 1 or len(terms(x.shape[1], degree)) <= MOST_TERMS
        for logarithmic in (False, True)
        if not logarithmic or (reward > 0).all()
    }
    best = max(found.values(), key=np.sum)
    return next(
        kind
        for kind, ours in found.items()
        if (best - ours).sum() <= (best - ours).std() * np.sqrt(len(best))
    )


def _features(rows: Trajectories) -> Array:
    """(R, U + D) user and clicked candidate, the first shown one where nothing was clicked."""
    place = np.maximum(rows.clicked, 0)
    chosen = rows.features_at(rows.slate[np.arange(len(rows)), place])
    return np.concatenate([rows.user, chosen], axis=1).astype(np.float64)
