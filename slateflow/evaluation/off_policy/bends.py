"""Whether values bend more than a polynomial does: held-out sessions choose the knots.

Where they do and nobody follows, values are wrong in one place and another, and weights that are
learnt from the same features do not correct them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.backward_stages import Transitions
from slateflow.evaluation.off_policy.what_moves import changes, standardised
from slateflow.policies.slate_scorer import item_features, user_features
from slateflow.trajectories import Trajectories
from slateflow.user_models.choice_model import with_places
from slateflow.user_models.clock import steps_left
from slateflow.user_models.held_out_choice import least_lost, other_half_errors
from slateflow.user_models.polynomial import KNOTS, Polynomial, bends
from slateflow.user_models.splines import Knots

Array = NDArray[np.float64]

MOST_ROWS = 50_000
"""Rows that are asked."""

OF_USERS, MOST_OF_SLATES = 4, 400
"""Terms that a column of the user has beside its products with the items, and most terms in all."""

ROWS_PER_TERM = 100
"""Logged slates for each term from which more knots are tried; with fewer there is no verdict."""

LEAST_SESSIONS = 10
"""Of fewer nobody asks."""

LEAST_ERROR = 1e-6
"""Squared errors, in variances, below which regressions are equally good."""


def chosen_polynomial(
    rows: Trajectories, x: Array, transitions: Transitions, degree: int, users: int, own: int
) -> Polynomial:
    """The polynomial that explains held-out sessions: with knots where it does so better.

    Explained are the rewards, the ends of sessions, and how the user's columns change.

    Args:
        rows: Whole sessions.
        x: (R, F) features of the user, which come first, and of what was shown.
        transitions: Rows to which values are fitted: their range is that of the polynomial.
        degree: Of the polynomial without knots.
        users: How many features the user has.
        own: How many of them are the user's own, and may bend.
    """
    fitted = x[transitions.rows]
    plain = Polynomial.over(fitted, degree, users)
    if len(rows.starts) < LEAST_SESSIONS:
        return plain
    options = [
        Polynomial.over(fitted, bent_degree, users, knots)
        for bent_degree, knots in bends(fitted, degree, users, own)
    ]
    asked = rows.sessions % -(-len(rows) // MOST_ROWS) == 0
    few = rows.where(asked)
    stage = np.zeros(len(few), np.intp) if transitions.left is None else steps_left(few)
    explained = standardised(np.column_stack([few.reward, ~few.last, changes(few)]))

    def losses(polynomial: Polynomial) -> Array:
        return _held_out_losses(polynomial.design(x[asked]), explained, stage, few)

    return least_lost(plain, options, losses)


def with_bends(rows: Trajectories, features_match: bool) -> Trajectories:
    """Logged slates as regressions see them: the user's columns, and hinges where clicks bend.

    All have a mean of 0 and a deviation of 1, so that a prior is the same whatever their unit.
    Users who are observed in the features of the candidates stay as they are: what they are to a
    candidate is a power of the affinity.
    """
    if features_match:
        return rows
    user, items = rows.user.astype(np.float64), rows.candidate_features(slice(1)).shape[2]
    standard = replace(rows, user=standardised(user).astype(np.float32))
    if len(rows.starts) < LEAST_SESSIONS:
        return standard
    options: list[Trajectories] = []
    for count in KNOTS:
        hinges = Knots.at_quantiles(user, count).hinges(user)
        bent = np.concatenate([user, hinges], axis=1)
        terms = bent.shape[1] * (items + OF_USERS)
        if not hinges.size or terms > (len(rows) // ROWS_PER_TERM if options else MOST_OF_SLATES):
            break
        options.append(replace(rows, user=standardised(bent).astype(np.float32)))
    asked = rows.sessions % -(-rows.slate.size // MOST_ROWS) == 0
    return least_lost(standard, options, lambda one: _click_losses(one.where(asked)))


def _click_losses(rows: Trajectories) -> Array:
    """(1, E) squared errors of what the shown items paid, by the other half of the sessions."""
    places = rows.slate.shape[1]
    shown = with_places(item_features(rows.user, rows.shown_features(), features_match=False))
    state = np.repeat(user_features(rows.user), places, axis=0)
    clicked = (np.arange(places) == rows.clicked[:, None]).ravel()
    paid = standardised(np.column_stack([clicked, clicked * np.repeat(rows.reward, places)]))
    design = np.concatenate([state, shown.reshape(len(state), -1)], axis=1)
    half = np.repeat(rows.sessions % 2 == 0, places)
    errors = np.square(other_half_errors(design, paid, half)).sum(axis=1)
    return np.add.reduceat(errors.reshape(-1, places).sum(axis=1), rows.starts)[None]


def _held_out_losses(
    design: Array, explained: Array, stage: NDArray[np.intp], rows: Trajectories
) -> Array:
    """(3, E) squared errors of regressions, for each stage, on the other half of the sessions."""
    errors, half = np.empty_like(explained), rows.sessions % 2 == 0
    for one in np.unique(stage):
        own = stage == one
        errors[own] = other_half_errors(design[own], explained[own], half[own])
    losses = np.add.reduceat(np.maximum(np.square(errors), LEAST_ERROR), rows.starts)
    return np.stack([losses[:, 0], losses[:, 1], losses[:, 2:].sum(axis=1)])
