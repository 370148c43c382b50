"""Fits the choice model to logged clicks: conditional logit, of latent classes where it pays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.held_out_choice import BEYOND_CHANCE, LEAST_SESSIONS, better
from slateflow.policies.slate_choice import ChoiceModel
from slateflow.user_models.choices import Choices
from slateflow.user_models.conditional_logit import Prior, fit_conditional_logit
from slateflow.user_models.latent_classes import fit_classes

MOST_CLASSES = 8
"""Of users at most, if their number is not given."""


@dataclass(frozen=True)
class Search:
    """When the number of classes is doubled.

    Attributes:
        standard_errors: By how many of them sessions have to become likelier, by models of the
            other half of the sessions.
        most: Classes at most.
    """

    standard_errors: float = BEYOND_CHANCE
    most: int = MOST_CLASSES


USUAL = Search()
OF_SINGLE_DECISIONS = Search(-1.0, 2)
"""One choice of a user tells little of several classes, and what one class gets wrong goes
unnoticed. So there are two unless others become less likely, beyond chance."""


def fit_choice_model(
    choices: Choices, classes: int, prior: Prior, search: Search = USUAL
) -> ChoiceModel:
    """The model of that many classes of users; with 0 as many as make the others likeliest.

    Args:
        choices: The logged ones.
        classes: G, or 0. Then the number is doubled from 1 for as long as the search goes on.
        prior: Precision on the weights (P + 1,), or the items' groups (P,), whose precision the
            evidence chooses, of one class.
        search: For the number, if it is not given.

    Raises:
        InputError: No clicks, or no finite features.
    """
    if not (choices.clicked >= 0).any():
        raise InputError("dataset: expected rows with a click, got none")
    if not np.isfinite(choices.shown).all():
        raise InputError("user, candidates: expected finite numbers, got NaN or infinity")
    one = fit_conditional_logit(choices, prior)
    wanted = classes or _classes(choices, prior, search)
    return fit_classes(choices, one, wanted, prior)


def _classes(choices: Choices, prior: Prior, search: Search) -> int:
    """The number of classes with which sessions are likelier than with fewer."""
    if (sessions := len(choices.starts)) < LEAST_SESSIONS:
        return 1
    even = np.arange(sessions) % 2 == 0
    halves = [(choices.only(out), choices.only(~out)) for out in (even, ~even)]
    models = [fit_conditional_logit(told, prior) for _, told in halves]

    def losses() -> NDArray[np.float64]:
        pairs = zip(halves, models, strict=True)
        return -np.concatenate([asked.evidence(one) for (asked, _), one in pairs])

    classes, lost = 1, losses()
    while classes < search.most:
        models = [
            fit_classes(told, one, 2 * classes, prior)
            for (_, told), one in zip(halves, models, strict=True)
        ]
        before, lost = lost, losses()
        if not better(before, lost, search.standard_errors):
            break
        classes *= 2
    return classes
