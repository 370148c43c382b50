"""Fit the choice model of several latent classes of users.

A class is split where its users differ most, and the likelihood of all sessions is maximised from
there by L-BFGS. The EM algorithm would end near its start: a single choice contains little
information on its user's class, and then its steps are short (Dempster, Laird and Rubin 1977,
"Maximum Likelihood from Incomplete Data via the EM Algorithm", section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

from slateflow.policies.slate_choice import ChoiceModel
from slateflow.user_models.choices import Choices
from slateflow.user_models.conditional_logit import (
    CHOICE_RIDGE,
    Prior,
    as_model,
    information_and_score,
    prior_precision,
    surprises,
)
from slateflow.user_models.prior import WeightGroups

Array = NDArray[np.float64]

CLASS_DISTANCES = 0.01 * 4.0 ** np.arange(6)
"""Squared distances of new classes from their origin, scaled by a session's information."""

STEPS, GAIN = 500, 1e-8
"""Most steps of the climb, and the relative gain in likelihood below which it ends."""

LEAST_CLASS_SHARE = 1e-12
"""Least share of a class, so that its logarithm is finite."""

INFORMATION_ADDED = 1e-9
"""Share by which a feature's information is increased, so that uninformative features do no harm.
"""


def fit_classes(choices: Choices, start: ChoiceModel, classes: int, prior: Prior) -> ChoiceModel:
    """The likeliest model of `classes` classes, starting from a model of fewer.

    Args:
        choices: The logged choices.
        start: A model of fewer classes. The largest are split, each in two, until there are enough.
        classes: G at most: a class without any session is left out.
        prior: Precision on the weights; for groups it is `CHOICE_RIDGE`.
    """
    # With a single class a feature may have no effect, though only on average
    ridge = CHOICE_RIDGE if isinstance(prior, WeightGroups) else prior
    precision = prior_precision(ridge, choices.shown.shape[2] + 1)
    model, wanted = start, len(start.shares)
    while wanted < classes:
        wanted = min(2 * wanted, classes)
        model = _split(choices, model, wanted - len(model.shares))
        model = _of_somebody(_likeliest(choices, model, precision), len(choices.starts))
    return model


@dataclass(frozen=True)
class _Class:
    """A class of users and its choices.

    Attributes:
        choices: The logged choices of all users.
        probabilities: (R, K + 1) probabilities of this class's choices.
        member: (E,) probability that a session is of this class.
        weights: (P + 1,) weights of the class.
    """

    choices: Choices
    probabilities: Array
    member: Array
    weights: Array

    @cached_property
    def told(self) -> tuple[Array, Array]:
        """The information on the weights, and their score."""
        of_rows = np.repeat(self.member, self.choices.lengths)
        return information_and_score(self.choices, self.probabilities, of_rows)

    @cached_property
    def scores(self) -> Array:
        """(E, P + 1) slopes of each session's log-likelihood."""
        return np.add.reduceat(surprises(self.choices, self.probabilities), self.choices.starts)

    @cached_property
    def apart(self) -> Array:
        """(P + 1,) direction of the weights in which users of the class differ most.

        Where they do not differ, the squares of the sessions' scores add up to the information; the
        excess is the second derivative of the likelihood in the distance of two classes (McFadden
        and Train 2000, "Mixed MNL Models for Discrete Response").
        """
        information = self.told[0]
        beyond = (self.scores * self.member[:, None]).T @ self.scores - information
        last, whole = len(information) - 1, _invertible(information)
        found = linalg.eigh(beyond, whole, subset_by_index=(last, last))[1][:, 0]
        return np.asarray(found * np.sqrt(self.member.sum()))

    def two(self) -> list[Array]:
        """Weights of two classes, at the likeliest of some distances from those of one."""
        steps = [distance * self.apart for distance in np.sqrt(CLASS_DISTANCES)]
        found = [np.stack([self.weights + step, self.weights - step]) for step in steps]
        models = [as_model(two, np.full(2, 0.5)) for two in found]
        likely = [self.member @ self.choices.session_log_likelihoods(one) for one in models]
        return list(found[int(np.argmax(likely))])


def _classes(choices: Choices, model: ChoiceModel) -> list[_Class]:
    """The classes of a model."""
    members = choices.members(model)[choices.starts].T
    all_probabilities = np.exp(model.log_probabilities(choices.shown))
    weights = np.column_stack([model.weights, model.no_click])
    return [_Class(choices, *one) for one in zip(all_probabilities, members, weights, strict=True)]


def _split(choices: Choices, model: ChoiceModel, count: int) -> ChoiceModel:
    """Split the largest classes, `count` at most, each in two of equal shares."""
    largest = set(np.argsort(-model.shares, kind="stable")[:count].tolist())
    weights: list[Array] = []
    shares: list[float] = []
    for group, one in enumerate(_classes(choices, model)):
        found = one.two() if group in largest else [one.weights]
        weights += found
        shares += [float(model.shares[group]) / len(found)] * len(found)
    return as_model(np.stack(weights), np.array(shares))


def _of_somebody(model: ChoiceModel, sessions: int) -> ChoiceModel:
    """The model without classes whose share is less than one session."""
    kept = model.shares * sessions >= 1
    shares = model.shares[kept]
    return ChoiceModel(model.weights[kept], model.no_click[kept], shares / shares.sum())


def _invertible(information: Array) -> Array:
    """Information (P, P) plus a small part of it, so that uninformative features do no harm."""
    diagonal = np.diag(information)
    least = np.finfo(np.float64).tiny if not diagonal.any() else INFORMATION_ADDED * diagonal.max()
    return np.asarray(information + np.diag(INFORMATION_ADDED * diagonal + least))


@dataclass(frozen=True)
class _Climb:
    """The climb from a model to the likeliest, with a prior on the weights of each class.

    Its coordinates are scaled by the sessions' information in each direction; the last coordinates
    are logarithms of the shares.

    Attributes:
        choices: The logged choices.
        origin: (G, P + 1) weights at which it starts.
        whitened: (P + 1, P + 1) lower Cholesky factor of the sessions' information on each class.
        precision: (P + 1, P + 1) precision of the prior on each class.
    """

    choices: Choices
    origin: Array
    whitened: list[Array]
    precision: Array

    @classmethod
    def of(cls, choices: Choices, start: ChoiceModel, precision: Array) -> Self:
        """The climb that starts at a model."""
        seen = _classes(choices, start)
        told = [_invertible(one.told[0] + precision) for one in seen]
        whitened = [linalg.cholesky(one, lower=True) for one in told]
        return cls(choices, np.stack([one.weights for one in seen]), whitened, precision)

    @cached_property
    def chosen(self) -> NDArray[np.intp]:
        """(R,) the clicked place, K for none."""
        places = self.choices.shown.shape[1]
        return np.where(self.choices.clicked < 0, places, self.choices.clicked)

    def unpacked(self, at: Array) -> tuple[Array, Array]:
        """Weights (G, P + 1) and logarithms of the shares (G,) at a point of the climb."""
        groups = len(self.origin)
        steps = at[:-groups].reshape(groups, -1)
        moved = [
            linalg.solve_triangular(one, step, lower=True, trans=1)
            for one, step in zip(self.whitened, steps, strict=True)
        ]
        return self.origin + np.stack(moved), at[-groups:] - np.logaddexp.reduce(at[-groups:])

    def lost(self, at: Array) -> tuple[float, Array]:
        """Negative log-likelihood plus the prior's, and its slope."""
        weights, log_shares = self.unpacked(at)
        probability, likely = self._probabilities(weights)
        joint = np.add.reduceat(likely, self.choices.starts) + log_shares
        of_sessions = np.logaddexp.reduce(joint, axis=1)
        member = np.exp(joint - of_sessions[:, None])
        shrunk = weights @ self.precision
        of_weights = self._score(probability, member) - shrunk
        of_steps = [
            linalg.solve_triangular(one, own, lower=True)
            for one, own in zip(self.whitened, of_weights, strict=True)
        ]
        of_shares = member.sum(axis=0) - len(member) * np.exp(log_shares)
        value = of_sessions.sum() - 0.5 * (weights * shrunk).sum()
        return -float(value), -np.concatenate([*of_steps, of_shares])

    def _probabilities(self, weights: Array) -> tuple[Array, Array]:
        """(K + 1, R, G) probabilities of choices, and log-probabilities (R, G) of the logged ones.

        Places are the first axis: NumPy adds long rows faster than it sums short ones.
        """
        rows, places, size = self.choices.shown.shape
        of_items = self.choices.shown.reshape(-1, size) @ weights[:, :-1].T
        logits = np.empty((places + 1, rows, len(weights)))
        logits[:-1] = of_items.reshape(rows, places, -1).swapaxes(0, 1)
        logits[-1] = weights[:, -1]
        logits -= logits.max(axis=0)
        likely = logits[self.chosen, np.arange(rows)]
        odds = np.exp(logits, out=logits)
        total = odds.sum(axis=0)
        odds /= total
        return odds, likely - np.log(total)

    def _score(self, probability: Array, member: Array) -> Array:
        """(G, P + 1) slope of the log-likelihood in the weights, for class probabilities (E, G)."""
        _, rows, groups = probability.shape
        surprise = np.negative(probability, out=probability)  # no memory for a second array
        surprise[self.chosen, np.arange(rows)] += 1.0
        surprise *= np.repeat(member, self.choices.lengths, axis=0)
        of_shown = surprise[:-1].swapaxes(0, 1).reshape(-1, groups)
        of_items = of_shown.T @ self.choices.shown.reshape(len(of_shown), -1)
        return np.column_stack([of_items, surprise[-1].sum(axis=0)])


def _likeliest(choices: Choices, start: ChoiceModel, precision: Array) -> ChoiceModel:
    """The likeliest model, by a climb from another, with a prior (P + 1, P + 1) on each class."""
    climb = _Climb.of(choices, start, precision)
    at = np.append(np.zeros(climb.origin.size), np.log(start.shares))
    options = {"maxiter": STEPS, "ftol": GAIN, "maxcor": 20}
    found = optimize.minimize(climb.lost, at, jac=True, method="L-BFGS-B", options=options)  # type: ignore[call-overload]
    weights, log_shares = climb.unpacked(found.x)
    return as_model(weights, np.maximum(np.exp(log_shares), LEAST_CLASS_SHARE))
