"""Latent classes against the likelihood in a plain loop, and on choices from a known model."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slateflow.user_models.choice_model import fit_choice_model
from slateflow.user_models.choices import Choices
from slateflow.user_models.influences import Influences
from tests.user_models.test_choice_model import TASTES, simulate

PRIOR = 0.1
APART = np.array([[2.0, 0.0], [-2.0, 0.0]])


def log_posterior(parameters: np.ndarray, choices: Choices, classes: int) -> float:
    """Log posterior of weights, including no click's, and log shares, session by session."""
    weights, shares = parameters[:-classes].reshape(classes, -1), np.exp(parameters[-classes:])
    total = -0.5 * PRIOR * float((weights**2).sum())
    ends = [*choices.starts[1:].tolist(), len(choices.clicked)]
    for start, end in zip(choices.starts.tolist(), ends, strict=True):
        likelihood = 0.0
        for own, share in zip(weights, shares / shares.sum(), strict=True):
            product = share
            for row in range(start, end):
                logits = [*(choices.shown[row] @ own[:-1]).tolist(), float(own[-1])]
                chosen = math.exp(logits[choices.clicked[row]])
                product *= chosen / sum(math.exp(one) for one in logits)
            likelihood += product
        total += math.log(likelihood)
    return total


def parameters(model) -> np.ndarray:
    weights = np.column_stack([model.weights, model.no_click])
    return np.append(weights.ravel(), np.log(model.shares))


@pytest.mark.parametrize("classes", [2, 3])
def test_no_other_weights_nearby_are_likelier(classes):
    choices = simulate(TASTES, np.array([0.4, 0.6]), episodes=60, steps=8)
    found = parameters(fit_choice_model(choices, classes, PRIOR))
    best = log_posterior(found, choices, classes)
    for number in range(len(found)):
        for step in (-0.05, 0.05):
            near = found.copy()
            near[number] += step
            assert log_posterior(near, choices, classes) < best + 1e-3


def test_opposite_tastes_are_told_apart_by_single_choices():
    """Single sessions do not identify a class; all are likelier than under the true model."""
    choices = simulate(APART, np.full(2, 0.5), episodes=6_000, steps=1)
    model = fit_choice_model(choices, 0, PRIOR)
    assert len(model.shares) >= 2
    truth = np.append(np.column_stack([APART, np.full(2, 0.5)]).ravel(), np.log([0.5, 0.5]))
    found, classes = parameters(model), len(model.shares)
    assert log_posterior(found, choices, classes) > log_posterior(truth, choices, 2)
    # Two similar items attract half of the users little more than one, and the others not
    alike = np.array([[[3.0, 0.0], [3.0, 0.0]]])
    none = np.exp(model.log_probabilities(alike)[:, 0, -1]) @ model.shares
    expected = [math.exp(0.5) / (math.exp(0.5) + 2 * math.exp(logit)) for logit in (6, -6)]
    assert none == pytest.approx(np.mean(expected), abs=0.03)


def test_users_who_are_alike_are_one_class():
    choices = simulate(TASTES[:1], np.ones(1), episodes=4_000, steps=1)
    assert len(fit_choice_model(choices, 0, PRIOR).shares) == 1


@pytest.mark.parametrize(("weights", "shares"), [(TASTES[:1], [1.0]), (TASTES, [0.4, 0.6])])
def test_a_session_moves_the_model_as_far_as_it_would_if_it_came_twice(weights, shares):
    choices = simulate(weights, np.array(shares), episodes=150, steps=6)
    classes = len(shares)
    model = fit_choice_model(choices, classes, PRIOR)
    influences = Influences.of(choices, model, PRIOR)
    sessions, size = len(choices.starts), weights.shape[1] + 1
    worth = np.zeros((sessions, classes))
    by_model = []
    for number in range(classes * size):
        slopes = np.zeros(classes * size)
        slopes[number] = 1.0
        by_model.append(influences.moves(slopes.reshape(classes, size), worth))
    before, moved = parameters(model)[: classes * size], []
    for session in range(20):
        rows = slice(6 * session, 6 * session + 6)
        twice = Choices(
            np.concatenate([choices.shown, choices.shown[rows]]),
            np.concatenate([choices.clicked, choices.clicked[rows]]),
            np.append(choices.starts, len(choices.clicked)),
        )
        after = parameters(fit_choice_model(twice, classes, PRIOR))[: classes * size]
        moved.append(after - before)
    expected, found = np.array(moved).T, np.array(by_model)[:, :20]
    for ours, theirs in zip(found - found.mean(1, keepdims=True), expected, strict=True):
        theirs = theirs - theirs.mean()
        assert np.corrcoef(ours, theirs)[0, 1] > 0.97
        assert ours.std() == pytest.approx(theirs.std(), rel=0.15)
