"""Fit the choice model of one class of users: McFadden's conditional logit, by Newton's method."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.policies.slate_choice import ChoiceModel
from slateflow.user_models.bilinear import LinearStatistics
from slateflow.user_models.choices import Choices
from slateflow.user_models.prior import (
    PRIOR_STEPS,
    WeightGroups,
    beyond_chance,
    chosen_prior,
    excluding,
    usual_sizes,
)

Array = NDArray[np.float64]

Prior = float | Array | WeightGroups
"""Precision on all weights, or on each; or groups, for which the marginal likelihood chooses
precisions. The last weight is that of no click."""

CHOICE_RIDGE = 0.1
"""Precision of the prior on all weights where the marginal likelihood does not choose it: in
checks, in estimates, and with several classes."""

ITERATIONS, TOLERANCE = 60, 1e-5
"""Most steps, and gain in the mean log-likelihood of a row below which they end."""


def fit_conditional_logit(choices: Choices, prior: Prior) -> ChoiceModel:
    """Fit the model of one class; groups of weights that may be chance are left none."""
    weights, working, precision = _likeliest(choices, prior)
    if isinstance(prior, WeightGroups):
        kept = beyond_chance(precision, *working, prior.padded(0, 1).numbers)
        if not kept.all():
            without = np.diag(precision) + excluding(~kept, working[0])
            weights = np.where(kept, _likeliest(choices, without, weights * kept)[0], 0.0)
    return as_model(weights[None], np.ones(1))


def _likeliest(
    choices: Choices, prior: Prior, start: Array | float = 0.0
) -> tuple[Array, tuple[Array, Array], Array]:
    """The likeliest weights (P + 1,), the working regression there, and the prior's precision.

    Newton's steps end where the mean log-likelihood of a row rises by less than `TOLERANCE`. A step
    that goes too far is halved.
    """
    size = choices.shown.shape[2] + 1  # the last weight is that of no click
    weights = before = np.zeros(size) + start
    everyone, last = np.ones(len(choices.clicked)), -np.inf
    working, precision = (np.zeros((size, size)), np.zeros(size)), np.zeros((size, size))
    for step in range(ITERATIONS):
        model = as_model(weights[None], np.ones(1))
        log = model.log_probabilities(choices.shown)[0]
        mean = log[np.arange(len(log)), choices.clicked].mean()
        if mean < last - TOLERANCE:
            weights = (before + weights) / 2
            continue
        if mean - last < TOLERANCE:
            break
        last, before = mean, weights
        information, score = information_and_score(choices, np.exp(log), everyone)
        working = information, information @ weights + score
        if step < PRIOR_STEPS:
            precision = chosen_precision(*working, prior, choices)
        weights = np.asarray(np.linalg.solve(information + precision, working[1]), np.float64)
    return weights, working, precision


def as_model(weights: Array, shares: Array) -> ChoiceModel:
    """The model of classes with weights (G, P + 1), no click last, and shares (G,)."""
    return ChoiceModel(weights[:, :-1], weights[:, -1], shares)


def chosen_precision(information: Array, moment: Array, prior: Prior, choices: Choices) -> Array:
    """Precision (P + 1, P + 1) of the prior of a working regression.

    For groups the marginal likelihood of the working regression chooses it (Breslow and Clayton
    1993, "Approximate Inference in Generalized Linear Mixed Models").
    """
    if not isinstance(prior, WeightGroups):
        return prior_precision(prior, len(moment))
    squares, sizes = np.square(choices.shown).sum(axis=(0, 1)), np.abs(choices.shown).sum((0, 1))
    usual = usual_sizes(squares, sizes)
    working = LinearStatistics(
        gram=information,
        moment=moment,
        reward_squares=0.0,
        rows=len(choices.clicked),
        magnitude=np.diag(information) / np.append(usual, 1.0),
    )
    return chosen_prior(working, prior.padded(0, 1), noise=1.0)


def prior_precision(prior: float | Array, weights: int) -> Array:
    """(P, P) precision for P `weights`."""
    return np.diag(np.broadcast_to(prior, weights))


def surprises(choices: Choices, probabilities: Array) -> Array:
    """(R, P + 1) features of the choice, less those expected by probabilities (R, K + 1)."""
    shown, clicked = choices.shown, choices.clicked
    expected = np.einsum("rk,rkp->rp", probabilities[:, :-1], shown)
    place = np.maximum(clicked, 0)[:, None, None]
    chosen = np.take_along_axis(shown, place, axis=1)[:, 0] * (clicked >= 0)[:, None]
    return np.column_stack([chosen - expected, (clicked < 0) - probabilities[:, -1]])


def information_and_score(
    choices: Choices, probabilities: Array, member: Array
) -> tuple[Array, Array]:
    """Information (P + 1, P + 1) and score (P + 1,) of the logit of one class.

    Args:
        choices: The logged choices.
        probabilities: (R, K + 1) of this class's choices, no click last.
        member: (R,) probability that the row's user is of this class.
    """
    shown, clicked = choices.shown, choices.clicked
    places, size = shown.shape[1:]
    of_items = probabilities[:, :-1]
    expected = np.einsum("rk,rkp->rp", of_items, shown)
    surprise = member[:, None] * (
        np.where(clicked < 0, places, clicked)[:, None] == np.arange(places + 1)
    )
    surprise -= member[:, None] * probabilities
    of_shown = surprise[:, :-1].ravel() @ shown.reshape(-1, size)
    score = np.append(of_shown, surprise[:, -1].sum())
    # The information is the covariance of the features, that of no click included.
    spread = (shown * np.sqrt(of_items * member[:, None])[:, :, None]).reshape(-1, size)
    mean = np.column_stack([expected, probabilities[:, -1]]) * np.sqrt(member)[:, None]
    information = -mean.T @ mean
    information[:size, :size] += spread.T @ spread
    information[size, size] += member @ probabilities[:, -1]
    return information, score
