"""Fitted-Q iteration in closed form.

Backwards from the end of the episode, Q₁ regresses the reward on a polynomial of (user,
candidate), and Q_k regresses the reward plus the best Q_{k-1} at the next step's candidates
(Ernst, Geurts and Wehenkel 2005, "Tree-Based Batch Mode Reinforcement Learning", figure 1, with
least squares in place of trees). `backward_stages` is the recursion.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.held_out_choice import BEYOND_CHANCE, better, least_lost, simplest
from slateflow.learners.config import (
    CountOrZero,
    Curves,
    LearnerConfig,
    NonNegative,
    Trained,
)
from slateflow.learners.fitted_stages import PATIENCE, fitted_stages
from slateflow.learners.logged_steps import Basis, LoggedSteps, Parts
from slateflow.learners.search_space import Range, Space
from slateflow.progress import Progress, unwatched
from slateflow.trajectories import Dataset
from slateflow.trajectories.schema import blocks
from slateflow.user_models.bilinear import LinearStatistics
from slateflow.user_models.polynomial import MOST_PRODUCTS, bends, term_count
from slateflow.user_models.prior import WeightGroups, chosen_prior
from slateflow.user_models.session_scorers import with_session_memory
from slateflow.validation import validated

Array = NDArray[np.float64]
Terms = Callable[[slice], Array]  # (B, P) of a slice of the steps

DEGREES = (1, 2, 3, 4, 5)
"""Degrees of the polynomial among which held-out visitors choose."""

MOST_DEGREE_WITH_MEMORY = 3
"""Largest of these degrees where users have a memory of their session.

The learnt policy takes the memory to sums that the logged sessions hardly reach, and there
polynomials of higher degrees bend away.
"""

FITTED_Q_TERMS = 150
"""Most terms of a polynomial beyond the products of user and candidate alone."""

RIDGES = (1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
"""Precisions of the prior per row, among which held-out visitors choose."""

CHOOSING_ROWS = 30_000
"""Approximate most rows on which degree and ridge are chosen; whole episodes."""

FITTED_Q_FOLDS = 5
"""Parts of the visitors; each is held out in turn."""

MOST_FALLING = 0.01
"""Largest share of steps at which the sum of reward and next value may fall as the reward rises."""


@validated
class FittedQConfig(LearnerConfig):
    """Fitted-Q iteration by least squares on polynomials (Ernst et al. 2005)."""

    learner: ClassVar[str] = "fitted-q"
    search_space: ClassVar[Space] = {
        "degree": Range(2, 5, whole=True),
        "window": Range(6, 20, whole=True),
        "ridge": Range(1e-10, 1e-6, log=True),
    }

    window: CountOrZero = 0
    """Number of steps before the end with Q-functions of their own; 0 for as many as change the
    preferences."""
    degree: CountOrZero = 0
    """Degree of the polynomial in user and candidate, 1 for their products alone; 0 for the least
    with which held-out visitors are predicted as well as with any."""
    ridge: NonNegative = 0.0
    """Precision of the prior on the weights, per row; 0 for that which held-out visitors choose."""

    @classmethod
    def holds(cls, spec: EnvironmentSpec) -> bool:
        """True if products are few enough for a polynomial."""
        return term_count(spec.user_size, spec.document_size, 1) <= MOST_PRODUCTS

    def train(
        self, dataset: Dataset, seed: int, progress: Progress, checkpoints: Path | None
    ) -> Trained:
        """Fit stage by stage, on all rows, or on the stage's own if rewards depend on the clock."""
        _check_terms(dataset.spec.user_size, dataset.spec.document_size, self.degree)
        parts = Parts.of(dataset)
        steps = parts.sample
        chosen = chosen_terms(steps, self.degree, self.ridge)
        basis, window = chosen.basis, self.window or (0 if chosen.later else 1)
        curves = Curves()
        if checkpoints is not None and not parts.kept:  # of fewer rows a stage takes no time
            parts = replace(parts, folder=self.checkpoint(checkpoints, dataset, seed))
        while (
            stages := fitted_stages(
                parts, basis, chosen.ridge, window, progress, curves, chosen.prior(basis)
            )
        ) is None:
            # Growing values: drop bends, then lower the degree, at last shorten the horizon
            bent = len(basis.knots.feature) + len(basis.random) > 0
            if self.degree or (basis.degree == 1 and not bent):
                window = PATIENCE
            else:
                basis = steps.basis(basis.degree if bent else basis.degree - 1)
            curves = Curves()
        # Where the number of steps left is unknown, the last stage serves all steps
        served = stages if steps.transitions.timed else stages[-1:]
        fitted = replace(
            steps.scorer(basis),
            window=len(served),
            head=np.stack([stage.weights for stage in served]),
            head_bias=np.zeros(len(served)),
        )
        if parts.folder is not None:
            shutil.rmtree(parts.folder, ignore_errors=True)
        return Trained(with_session_memory(fitted, dataset.spec, parts.memory), curves)


@dataclass(frozen=True, eq=False)
class Chosen:
    """The terms of values, and priors of their weights.

    Attributes:
        basis: The terms.
        ridge: Precision of the prior on the weights, per row.
        later: Whether later rewards may depend on the item shown now.
        steps: Steps on which these were chosen.
        ahead: (T,) next values of these steps where sessions end by themselves; None where next
            values are not used, or a ridge is given.
    """

    basis: Basis
    ridge: float
    later: bool
    steps: LoggedSteps
    ahead: Array | None = None

    def prior(self, basis: Basis) -> Array | None:
        """(P, P) prior on weights of next values, where held-out visitors lose less with it.

        The noise of rewards has been removed by then, but next values keep the noise of the random
        ends of sessions. So the marginal likelihood chooses how far to shrink terms of the same
        degree.
        """
        if self.ahead is None:
            return None
        steps, size, users = self.steps, len(basis), self.steps.rows.user.shape[1]
        total = LinearStatistics.none(size)
        for block in blocks(len(self.ahead), size):
            x = steps.design(basis, block)
            total += LinearStatistics.of_weighted(x, self.ahead[block], steps.weights[block])
        groups = WeightGroups.of_degrees(*basis.degrees(users), len(basis.random))
        prior = chosen_prior(total, groups)
        terms = partial(steps.design, basis)
        plain = held_out_errors(steps, self.ahead, terms, [self.ridge])
        ours = held_out_errors(steps, self.ahead, terms, [0.0], prior)
        return prior if better(plain[:, 0], ours[:, 0], BEYOND_CHANCE) else None


def chosen_terms(steps: LoggedSteps, degree: int, ridge: float) -> Chosen:
    """Polynomial and ridge, and whether later rewards may depend on the shown candidate.

    Held-out visitors choose degree and ridge where these are 0. All options have the same target:
    the reward plus the next values by the largest degree; or the reward alone, where the clock
    matters or next values do not depend on the shown candidate. With degree 0 the user's and the
    candidate's columns may also bend at knots, or have random features beside them.

    Raises:
        InputError: The features make too many terms.
    """
    sizes = steps.rows.user.shape[1], steps.spec.document_size
    _check_terms(*sizes, degree)
    remembers = sizes[0] > steps.spec.user_size
    most = MOST_DEGREE_WITH_MEMORY if remembers else DEGREES[-1]
    small = [d for d in DEGREES if d <= most and term_count(*sizes, d) <= FITTED_Q_TERMS]
    degrees = [degree] if degree else small or [1]
    ridges = [ridge] if ridge else list(RIDGES)
    few = steps.only(steps.rows.in_some_sessions(CHOOSING_ROWS))
    if len(degrees) == len(ridges) == 1 or few.rows.visitors.max() + 1 < FITTED_Q_FOLDS:
        return Chosen(steps.basis(degrees[min(len(degrees), 2) - 1]), ridges[0], True, few)
    target, later, ahead = few.reward, len(few.transitions.following) > 0, None
    if later and not few.by_the_clock:
        for largest in reversed(degrees):
            basis = few.basis(largest)
            stages = fitted_stages(
                Parts.in_memory(few), basis, ridge or 1e-6, 0, unwatched, Curves()
            )
            if stages is not None:
                following = few.best_next(few.scorer(basis, stages[-1].weights))
                ahead = few.transitions.values(following)
                later = few.remembers_items or _depends_on_shown(few, ahead, degrees, ridges)
                target = target + ahead * later
                break
            degrees = degrees[:-1] or degrees
    tried = [_tried(few, target, few.basis(one), ridges) for one in degrees]
    best = simplest({one: one.errors for one in tried})
    shrunk = ahead if later and not ridge and not few.timed else None
    if degree:
        return Chosen(best.basis, best.ridge, later, few, shrunk)
    users = steps.rows.user.shape[1]
    knots = bends(few.shown(), best.basis.degree, users, steps.spec.user_size)
    bent = [_tried(few, target, few.basis(*one), ridges) for one in knots]
    best = least_lost(best, bent, lambda one: one.errors)
    if steps.random:
        random = _tried(few, target, few.basis(1, random=True), ridges)
        best = least_lost(best, [random], lambda one: one.errors)
    return Chosen(best.basis, best.ridge, later, few, shrunk)


def _depends_on_shown(
    steps: LoggedSteps, ahead: Array, degrees: list[int], ridges: list[float]
) -> bool:
    """True if held-out visitors show that next values (T,) depend on the shown candidate.

    They also depend on the user, and on whether chance ends the session. A regression turns that
    chance into preferences, which outweigh those of rewards where sessions are long.

    A higher reward may also reveal a better mood, or end a session. If next values depend only on
    the user and the reward, and reward plus next value rises with the reward, then the candidate
    that earns most now is the best anyway, and next values are not needed.
    """
    bases = [steps.basis(one) for one in degrees]
    of_users = [basis.without_candidate(steps.rows.user.shape[1]) for basis in bases]
    plain, ours = (
        _best(_tried(steps, ahead, basis, ridges) for basis in some) for some in (of_users, bases)
    )
    if not better(plain.errors, ours.errors, BEYOND_CHANCE):
        return False
    plain, ours = (
        _best(
            _tried(steps, ahead, basis, ridges, partial(_by_reward, steps, basis, users))
            for basis, users in zip(some, of_users, strict=True)
        )
        for some in (of_users, bases)
    )
    more = better(plain.errors, ours.errors, BEYOND_CHANCE)
    return more or _falls_with_reward(steps, ahead, plain)


def _best(tried: Iterable[_Tried]) -> _Tried:
    """The polynomial with the least errors."""
    return min(tried, key=lambda one: one.errors.sum())


def _by_reward(steps: LoggedSteps, basis: Basis, users: Basis, block: slice) -> Array:
    """(B, P + Q) terms of a block's rows, and the user's terms times the reward."""
    by_reward = steps.design(users, block) * steps.reward[block, None]
    return np.concatenate([steps.design(basis, block), by_reward], axis=1)


def _falls_with_reward(steps: LoggedSteps, ahead: Array, of_users: _Tried) -> bool:
    """True if the sum of reward and next value falls as the reward rises, in more than a few rows.

    Args:
        steps: The logs.
        ahead: (T,) next values.
        of_users: Terms of the user alone, which explain next values together with the reward.
    """
    basis, size = of_users.basis, len(of_users.basis)
    total = LinearStatistics.none(2 * size)
    for block in blocks(len(ahead), 2 * size):
        x = _by_reward(steps, basis, basis, block)
        total += LinearStatistics.of_weighted(x, ahead[block], steps.weights[block])
    precision = total.gram + of_users.ridge * len(ahead) * np.eye(2 * size)
    slopes = np.linalg.solve(precision, total.moment)[size:]
    falls = sum(
        np.count_nonzero(1 + steps.design(basis, block) @ slopes <= 0)
        for block in blocks(len(ahead), size)
    )
    return bool(falls > MOST_FALLING * len(ahead))


def _check_terms(users: int, documents: int, degree: int) -> None:
    """Raise if features make too many terms; degree 0 is checked as degree 1."""
    if (terms := term_count(users, documents, degree or 1)) > MOST_PRODUCTS:
        lower = "lower the degree or " if degree > 1 else ""
        raise InputError(
            f"user, candidates: expected features that make at most {MOST_PRODUCTS:,} terms of "
            f"degree {degree or 1}, got {terms:,}; {lower}leave features out"
        )


@dataclass(frozen=True, eq=False)
class _Tried:
    """A polynomial, its best ridge, and the squared errors (V,) of held-out visitors."""

    basis: Basis
    ridge: float
    errors: Array


def _tried(
    steps: LoggedSteps,
    target: Array,
    basis: Basis,
    ridges: list[float],
    terms: Terms | None = None,
) -> _Tried:
    errors = held_out_errors(steps, target, terms or partial(steps.design, basis), ridges)
    best = int(errors.sum(axis=0).argmin())
    return _Tried(basis, ridges[best], errors[:, best])


def held_out_errors(
    steps: LoggedSteps,
    target: Array,
    terms: Terms,
    ridges: list[float],
    prior: Array | None = None,
) -> Array:
    """(V, O) squared errors of visitors held out from the regression, for each ridge.

    Where visitors are unknown each episode counts as another's. The precision (P, P) of a prior is
    added to the ridge.
    """
    size = terms(slice(0, 1)).shape[1]
    prior = np.zeros((size, size)) if prior is None else prior
    visitor = steps.rows.visitors[steps.transitions.rows]
    fold = visitor % FITTED_Q_FOLDS
    grams, moments = np.zeros((FITTED_Q_FOLDS, size, size)), np.zeros((FITTED_Q_FOLDS, size))
    for block in blocks(len(target)):
        x = terms(block)
        for one in range(FITTED_Q_FOLDS):
            of_fold = fold[block] == one
            weighted = (x * steps.weights[block, None])[of_fold].T
            grams[one] += weighted @ x[of_fold]
            moments[one] += weighted @ target[block][of_fold]
    weights = np.zeros((FITTED_Q_FOLDS, size, len(ridges)))
    for one in range(FITTED_Q_FOLDS):
        gram, moment = grams.sum(axis=0) - grams[one], moments.sum(axis=0) - moments[one]
        for option, ridge in enumerate(ridges):
            precision = gram + prior + ridge * (fold != one).sum() * np.eye(size)
            weights[one, :, option] = np.linalg.solve(precision, moment)
    errors = np.zeros((int(steps.rows.visitors.max()) + 1, len(ridges)))
    for block in blocks(len(target)):
        x = terms(block)
        for one in range(FITTED_Q_FOLDS):
            of_fold = fold[block] == one
            wrong = target[block][of_fold, None] - x[of_fold] @ weights[one]
            squares = steps.weights[block][of_fold, None] * np.square(wrong)
            np.add.at(errors, visitor[block][of_fold], squares)
    return errors
