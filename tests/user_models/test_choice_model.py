"""The choice model against SciPy's optimiser, and on clicks with known probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize

from slateflow.errors import InputError
from slateflow.policies.slate_choice import ChoiceModel
from slateflow.user_models.choice_model import fit_choice_model
from slateflow.user_models.choices import Choices, SlateFeatures
from slateflow.user_models.prior import WeightGroups

TASTES = np.array([[2.0, -1.0], [-1.0, 2.0]])
SHARES = np.array([0.3, 0.7])


def simulate(weights, shares, seed=0, episodes=300, steps=40, places=3) -> Choices:
    """Sessions of users of these classes; no click has logit 0.5. A plain loop."""
    rng = np.random.default_rng(seed)
    shown = rng.normal(size=(episodes, steps, places, weights.shape[1]))
    clicked = np.empty((episodes, steps), dtype=np.int32)
    for episode in range(episodes):
        taste = weights[rng.choice(len(shares), p=shares)]
        for step in range(steps):
            likes = [math.exp(float(taste @ x)) for x in shown[episode, step]] + [math.exp(0.5)]
            place = rng.choice(places + 1, p=np.array(likes) / sum(likes))
            clicked[episode, step] = -1 if place == places else place
    return Choices(
        shown.reshape(-1, places, weights.shape[1]),
        clicked.ravel(),
        np.arange(episodes) * steps,
    )


def negative_log_likelihood(parameters, choices: Choices, ridge: float) -> float:
    """Negative log-likelihood of one class, row by row."""
    total = 0.5 * ridge * float(parameters @ parameters)
    for shown, clicked in zip(choices.shown, choices.clicked, strict=True):
        logits = [*(shown @ parameters[:-1]).tolist(), float(parameters[-1])]
        total -= logits[clicked] - math.log(sum(map(math.exp, logits)))
    return total


def test_one_class_is_the_maximum_that_scipy_finds():
    choices = simulate(TASTES[:1], np.ones(1), episodes=8)
    model = fit_choice_model(choices, 1, 0.1)
    found = optimize.minimize(negative_log_likelihood, np.zeros(3), args=(choices, 0.1))
    ours = np.append(model.weights[0], model.no_click)
    np.testing.assert_allclose(ours, found.x, atol=1e-3)


def test_some_users_click_more_than_others_whatever_is_shown():
    """The effect of a user's column itself, not of products with the items'."""
    rng, rows, places = np.random.default_rng(5), 20_000, 3
    user = rng.normal(size=(rows, 1)).astype(np.float32)
    documents = rng.normal(size=(rows, places, 1)).astype(np.float32)
    odds = -1.0 + 0.8 * documents[:, :, 0] + 1.5 * user
    best = np.column_stack([odds, np.zeros(rows)]) + rng.gumbel(size=(rows, places + 1))
    clicked = best.argmax(axis=1).astype(np.int32)
    clicked[clicked == places] = -1
    features = SlateFeatures(features_match=False)
    choices = Choices(features.of(user, documents), clicked, np.arange(rows))
    model = fit_choice_model(choices, 1, 0.1)
    found = [*model.weights[0], *model.no_click]  # the user, the item, their product, no click
    np.testing.assert_allclose(found, [1.5, 0.8, 0.0, 1.0], atol=0.1)


def test_features_that_do_not_matter_are_shrunk_away():
    """Only the two features of the first group matter; weights of the other six are chance."""
    weights = np.array([[2.0, -1.0, 0, 0, 0, 0, 0, 0]])
    choices = simulate(weights, np.ones(1), episodes=30)
    groups = WeightGroups(np.repeat([1, 4], [2, 6]), np.zeros((0, 8)))
    shrunk = fit_choice_model(choices, 1, groups).weights[0]
    plain = fit_choice_model(choices, 1, 0.1).weights[0]
    np.testing.assert_allclose(shrunk[:2], plain[:2], rtol=0.05)
    assert np.square(shrunk[2:]).sum() < 0.3 * np.square(plain[2:]).sum()


def test_two_classes_are_told_apart():
    choices = simulate(TASTES, SHARES)
    model = fit_choice_model(choices, 2, 0.1)
    order = np.argsort(model.shares)
    # About 3,600 and 8,400 choices: standard errors of 0.03 to 0.06; 0.027 for a share
    np.testing.assert_allclose(model.weights[order], TASTES, atol=0.2)
    np.testing.assert_allclose(model.no_click[order], [0.5, 0.5], atol=0.2)
    np.testing.assert_allclose(model.shares[order], SHARES, atol=0.1)


def test_steps_that_go_too_far_are_halved():
    """Features twenty times as large, and two classes that explain no less than one."""
    choices = simulate(TASTES[:1], np.ones(1), episodes=500, steps=1)
    wide = Choices(20 * choices.shown, choices.clicked, choices.starts)
    models = (fit_choice_model(wide, classes, 0.1) for classes in (1, 2))
    one, two = (wide.session_log_likelihoods(model).sum() for model in models)
    assert two > one - 1


def test_the_other_half_of_the_sessions_says_how_many_classes():
    alone = simulate(TASTES[:1], np.ones(1), seed=1)
    assert len(fit_choice_model(alone, 0, 0.1).shares) == 1
    mixed = simulate(TASTES, SHARES, seed=1)
    assert len(fit_choice_model(mixed, 0, 0.1).shares) == 2


def test_log_likelihoods_of_sessions_are_those_of_a_plain_loop():
    choices = simulate(TASTES, SHARES, episodes=5, steps=3)
    model = ChoiceModel(TASTES, np.array([0.5, 0.2]), SHARES)
    expected = []
    for start in choices.starts:
        likelihood = 0.0
        for taste, none, share in zip(TASTES, (0.5, 0.2), SHARES, strict=True):
            product = share
            for row in range(start, start + 3):
                logits = [*(choices.shown[row] @ taste).tolist(), none]
                chosen = logits[choices.clicked[row]]
                product *= math.exp(chosen) / sum(map(math.exp, logits))
            likelihood += product
        expected.append(math.log(likelihood))
    np.testing.assert_allclose(choices.session_log_likelihoods(model), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: Choices(c.shown, np.full_like(c.clicked, -1), c.starts), "rows with a click"),
        (lambda c: Choices(c.shown * np.nan, c.clicked, c.starts), "finite numbers, got NaN"),
    ],
)
def test_what_cannot_be_learnt_from_is_named(spoil, message):
    with pytest.raises(InputError, match=message):
        fit_choice_model(spoil(simulate(TASTES, SHARES, episodes=4)), 1, 0.1)
