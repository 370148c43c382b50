"""Users who look from the top, against SciPy's optimiser and a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize

from slateflow.policies.slate_choice import ChoiceModel
from slateflow.user_models.cascade import CascadeModel, Habit
from slateflow.user_models.choice_model import USUAL
from slateflow.user_models.choices import Choices
from tests.user_models.test_choice_model import TASTES, simulate

TASTE, NONE = np.array([1.5, -1.0]), 0.5


def taken(shown: np.ndarray) -> list[float]:
    """Probabilities of each place, and of no click, place by place."""
    found, left = [], 1.0
    for item in shown:
        likes = 1 / (1 + math.exp(NONE - float(TASTE @ item)))
        found.append(left * likes)
        left *= 1 - likes
    return [*found, left]


def sessions(episodes: int = 30, steps: int = 40, places: int = 3) -> Choices:
    """Sessions of users with one taste."""
    rng = np.random.default_rng(1)
    shown = rng.normal(size=(episodes * steps, places, 2))
    clicked = [rng.choice(places + 1, p=taken(slate)) for slate in shown]
    clicked = np.where(np.array(clicked) == places, -1, clicked).astype(np.int32)
    return Choices(shown, clicked, np.arange(episodes) * steps)


def test_probabilities_are_those_of_going_on():
    shown = np.random.default_rng(0).normal(size=(20, 4, 2))
    model = CascadeModel(TASTE[None], np.array([NONE]), np.ones(1))
    found = np.exp(model.log_probabilities(shown)[0])
    np.testing.assert_allclose(found, [taken(slate) for slate in shown], atol=1e-12)


@pytest.mark.parametrize("kind", [ChoiceModel, CascadeModel])
def test_slopes_are_those_of_differences(kind):
    rng = np.random.default_rng(2)
    shown, worth = rng.normal(size=(5, 3, 2)), rng.normal(size=(5, 4))

    def expected(logits: np.ndarray, paid: np.ndarray) -> float:
        """Worth of a slate whose items' only feature is their logit."""
        model = kind(np.ones((1, 1)), logits[-1:], np.ones(1))
        return float(np.exp(model.log_probabilities(logits[None, :-1, None])[0, 0]) @ paid)

    for slate, paid in zip(shown, worth, strict=True):
        logits = np.append(slate @ TASTE, NONE)
        model = kind(TASTE[None], np.array([NONE]), np.ones(1))
        probabilities = np.exp(model.log_probabilities(slate[None])[0])
        found = model.slope(probabilities, paid[None])[0]
        differences = [
            (expected(logits + step, paid) - expected(logits - step, paid)) / 2e-6
            for step in 1e-6 * np.eye(4)
        ]
        np.testing.assert_allclose(found, differences, atol=1e-8)


def test_the_habit_is_told_and_fitted_as_scipy_fits_it():
    choices = sessions()

    def negative(parameters: np.ndarray) -> float:
        """Logarithm of the likelihood, with the precision of the prior."""
        total = 0.05 * float(parameters @ parameters)
        for shown, clicked in zip(choices.shown, choices.clicked, strict=True):
            for place, item in enumerate(shown):
                logit = float(parameters[:2] @ item - parameters[2])
                total += math.log1p(math.exp(-logit if place == clicked else logit))
                if place == clicked:
                    break
        return total

    model = Habit.of(choices, 0.1, USUAL).model
    assert isinstance(model, CascadeModel)
    best = optimize.minimize(negative, np.zeros(3))
    np.testing.assert_allclose(np.append(model.weights[0], model.no_click), best.x, atol=1e-3)


def test_users_who_look_at_all_at_once_are_told_too():
    choices = simulate(TASTES[:1], np.ones(1), episodes=30)
    model = Habit.of(choices, 0.1, USUAL).model
    assert type(model) is ChoiceModel
