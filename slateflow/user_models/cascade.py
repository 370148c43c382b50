"""Users who go through a slate from the top and take the first item that they like.

The cascade model of clicks (Craswell et al. 2008, "An experimental comparison of click
position-bias models"), with logits of features. At each place a user takes the item or moves on,
which is a choice from a slate of one item. So the model is fitted like the conditional logit, to
the places that users have reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from slateflow.policies.slate_choice import ChoiceModel
from slateflow.user_models.choice_model import Search, fit_choice_model, number_of_classes
from slateflow.user_models.choices import Choices
from slateflow.user_models.conditional_logit import Prior

Array = NDArray[np.float64]


class CascadeModel(ChoiceModel):
    """A user of class g takes the item i with probability 1 / (1 + exp(c_g − w_g · x_i)).

    Otherwise the user moves on to the next place, and after the last place takes nothing.
    """

    def log_probabilities(self, features: Array) -> Array:
        """Log-probabilities (G, B, K + 1) of the choices from slates (B, K, P), no click last."""
        logits = np.einsum("bkp,gp->gbk", features, self.weights) - self.no_click[:, None, None]
        goes_on = np.cumsum(-np.logaddexp(0, logits), axis=2)
        comes = np.concatenate([np.zeros((*logits.shape[:2], 1)), goes_on], axis=2)
        comes[:, :, :-1] -= np.logaddexp(0, -logits)
        return np.asarray(comes)

    def slope(self, probabilities: Array, worth: Array) -> Array:
        """Slope (B, K + 1) of the expected worth in the logits of the items and of no click."""
        taken, paid = probabilities[:, :-1], probabilities * worth
        comes = 1 - np.cumsum(probabilities, axis=1)[:, :-1] + taken
        share = np.divide(taken, comes, out=np.zeros_like(taken), where=comes > 0)
        later = paid.sum(axis=1, keepdims=True) - np.cumsum(paid, axis=1)[:, :-1]
        of_items = paid[:, :-1] * (1 - share) - share * later
        return np.column_stack([of_items, -of_items.sum(axis=1)])


def place_by_place(choices: Choices) -> Choices:
    """The choices of users who look from the top, as choices from slates of one item.

    Example:
        >>> slates = np.arange(6.0).reshape(2, 3, 1)
        >>> one = place_by_place(Choices(slates, np.array([1, -1], np.int32), np.array([0, 1])))
        >>> one.shown.ravel().tolist(), one.clicked.tolist(), one.starts.tolist()
        ([0.0, 1.0, 3.0, 4.0, 5.0], [-1, 0, -1, -1, -1], [0, 2])
    """
    places, clicked = choices.shown.shape[1], choices.clicked[:, None]
    come = (clicked < 0) | (np.arange(places) <= clicked)  # (R, K)
    taken = np.where(np.arange(places) == clicked, 0, -1)[come]
    before = np.append(0, np.cumsum(come.sum(axis=1)))
    return Choices(choices.shown[come][:, None], taken.astype(np.int32), before[choices.starts])


@dataclass(frozen=True)
class Habit:
    """The way in which users look at slates, and the number of their classes.

    Attributes:
        one: The model of one class.
        choices: The logged choices.
        prior: Precision on the weights.
        classes: The number of classes.
        losses: (E,) negative log-likelihoods of the sessions, by models of the other half.
    """

    one: ChoiceModel
    choices: Choices
    prior: float | Array
    classes: int
    losses: Array

    @classmethod
    def of(cls, choices: Choices, prior: float | Array, search: Search) -> Habit:
        """The likelier habit for logged choices."""
        one = likelier_habit(choices, prior)
        made = _made(one, choices)
        return cls(one, choices, prior, *number_of_classes(made, prior, search))

    @cached_property
    def made(self) -> Choices:
        """The choices as users make them: at once, or place by place."""
        return _made(self.one, self.choices)

    @cached_property
    def model(self) -> ChoiceModel:
        """The model of all classes."""
        found = fit_choice_model(self.made, self.classes, self.prior)
        return _cascade(found) if isinstance(self.one, CascadeModel) else found


def _made(model: ChoiceModel, choices: Choices) -> Choices:
    return place_by_place(choices) if isinstance(model, CascadeModel) else choices


def likelier_habit(choices: Choices, prior: Prior) -> ChoiceModel:
    """The model of users who look at all items at once, or from the top, whichever is likelier.

    Both have one class and equally many weights, so the comparison needs no held-out sessions.

    Raises:
        InputError: There are no clicks, or features are not finite.
    """
    at_once = fit_choice_model(choices, 1, prior)
    cascade = _cascade(fit_choice_model(place_by_place(choices), 1, prior))
    both = (at_once, cascade)
    return max(both, key=lambda model: float(choices.session_log_likelihoods(model).sum()))


def fit_alike(model: ChoiceModel | None, choices: Choices, prior: Prior) -> ChoiceModel:
    """Fit one class of users with a model's way to look; without a model, at all items at once."""
    if isinstance(model, CascadeModel):
        return _cascade(fit_choice_model(place_by_place(choices), 1, prior))
    return fit_choice_model(choices, 1, prior)


def _cascade(model: ChoiceModel) -> CascadeModel:
    return CascadeModel(model.weights, model.no_click, model.shares)
