"""Fit the choice model to logged clicks: conditional logit, with latent classes if they help."""

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
"""Most classes of users if their number is not given."""


@dataclass(frozen=True)
class Search:
    """Rule for doubling the number of classes.

    Attributes:
        standard_errors: Number of standard errors by which the log-likelihood of sessions has to
            rise, by models of the other half of the sessions.
        most: Most classes.
    """

    standard_errors: float = BEYOND_CHANCE
    most: int = MOST_CLASSES


USUAL = Search()
OF_SINGLE_DECISIONS = Search(-1.0, 2)
"""A user's only choice contains little information on several classes, and the errors of a single
class would remain unnoticed. So there are two unless they make other sessions less likely, beyond
chance."""


def fit_choice_model(choices: Choices, classes: int, prior: Prior) -> ChoiceModel:
    """The model of `classes` classes of users; 0 for the number that fits held-out sessions best.

    Args:
        choices: The logged choices.
        classes: G, or 0; see `number_of_classes`.
        prior: Precision on the weights (P + 1,), or the items' groups (P,), whose precisions the
            marginal likelihood of the model with one class chooses.

    Raises:
        InputError: There are no clicks, or features are not finite.
    """
    if not (choices.clicked >= 0).any():
        raise InputError("dataset: expected rows with a click, got none")
    if not np.isfinite(choices.shown).all():
        raise InputError("user, candidates: expected finite numbers, got NaN or infinity")
    one = fit_conditional_logit(choices, prior)
    wanted = classes or number_of_classes(choices, prior)[0]
    return fit_classes(choices, one, wanted, prior)


def number_of_classes(
    choices: Choices, prior: Prior, search: Search = USUAL
) -> tuple[int, NDArray[np.float64]]:
    """The number of classes with which sessions are likelier than with fewer, and their losses.

    The number is doubled from 1 for as long as `search` allows. The losses (E,) are negative
    log-likelihoods of the sessions, by models of the other half; 0 with too few sessions.
    """
    if (sessions := len(choices.starts)) < LEAST_SESSIONS:
        return 1, np.zeros(sessions)
    even = np.arange(sessions) % 2 == 0
    halves = [(choices.only(out), choices.only(~out)) for out in (even, ~even)]
    models = [fit_conditional_logit(told, prior) for _, told in halves]

    def losses() -> NDArray[np.float64]:
        found = np.empty(sessions)
        for out, (asked, _), one in zip((even, ~even), halves, models, strict=True):
            found[out] = -asked.session_log_likelihoods(one)
        return found

    classes, lost = 1, losses()
    while classes < search.most:
        models = [
            fit_classes(told, one, 2 * classes, prior)
            for (_, told), one in zip(halves, models, strict=True)
        ]
        finer = losses()
        if not better(lost, finer, search.standard_errors):
            break
        classes, lost = 2 * classes, finer
    return classes, lost
