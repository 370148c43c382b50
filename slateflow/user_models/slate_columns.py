"""Columns of users and items as regressions on slates see them, fitted to logs.

Held-out sessions choose whether clicks bend with a column of the user more than its products with
the items' do, and at how many knots.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from slateflow.policies.slate_scorer import Columns, item_features, user_features
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.schema import Trajectories
from slateflow.user_models.choice_model import with_places
from slateflow.user_models.held_out_choice import least_lost, other_half_errors
from slateflow.user_models.polynomial import KNOTS
from slateflow.user_models.splines import Knots

Array = NDArray[np.float64]

OF_USERS, MOST_TERMS = 4, 400
"""Terms that a column of the user has beside its products with the items, and most terms in all."""

ROWS_PER_TERM = 100
"""Logged slates for each term from which more knots are tried; with fewer there is no verdict."""

MOST_ROWS = 50_000
"""Shown items that are asked."""

LEAST_SESSIONS = 10
"""Of fewer nobody asks."""


def chosen_columns(rows: Trajectories, features_match: bool) -> Columns | None:
    """The columns of logged slates, with hinges where held-out sessions say that clicks bend.

    None where users are observed in the features of the candidates: these stay as they are, as it
    is a power of the affinity that a user is to a candidate.
    """
    if features_match:
        return None
    user, items = rows.user.astype(np.float64), rows.candidate_features(slice(1)).shape[2]
    shown = rows.shown_features().reshape(-1, items).astype(np.float64)
    plain = _columns(user, shown, Knots.none())
    options: list[Columns] = []
    if len(rows.starts) < LEAST_SESSIONS:
        return plain
    for count in KNOTS:
        knots = Knots.at_quantiles(user, count)
        terms = (user.shape[1] + len(knots.feature)) * (items + OF_USERS)
        most = len(rows) // ROWS_PER_TERM if options else MOST_TERMS
        if not len(knots.feature) or terms > most:
            break
        options.append(_columns(user, shown, knots))
    few = rows.where(rows.sessions % -(-rows.slate.size // MOST_ROWS) == 0)
    return least_lost(plain, options, lambda one: _click_losses(seen_in(one, few)))


def seen_in(columns: Columns | None, rows: Trajectories) -> Trajectories:
    """The rows with these columns in place of their own."""
    if columns is None:
        return rows
    rows = replace(rows, user=columns.users(rows.user).astype(np.float32))
    if rows.catalogue is None:
        return replace(rows, candidates=columns.items(rows.candidates).astype(np.float32))
    items = columns.items(rows.catalogue.features).astype(np.float32)
    return replace(rows, catalogue=Catalogue(items))


def _columns(user: Array, shown: Array, knots: Knots) -> Columns:
    bent = np.concatenate([user, knots.hinges(user)], axis=1)
    standards = _standards(bent), _standards(shown)
    return Columns(knots.feature.astype(np.int64), knots.value, *standards[0], *standards[1])


def _standards(x: Array) -> tuple[Array, Array]:
    """Mean and deviation (F,) of features (R, F); 0 and 1 of those that have two values or one."""
    few = ((x == x.min(axis=0)) | (x == x.max(axis=0))).all(axis=0)
    return np.where(few, 0.0, x.mean(axis=0)), np.where(few, 1.0, x.std(axis=0))


def _click_losses(rows: Trajectories) -> Array:
    """(E,) squared errors of what the shown items paid, by the other half of the sessions."""
    places = rows.slate.shape[1]
    shown = with_places(item_features(rows.user, rows.shown_features(), features_match=False))
    state = np.repeat(user_features(rows.user), places, axis=0)
    clicked = (np.arange(places) == rows.clicked[:, None]).ravel()
    paid = np.column_stack([clicked, clicked * np.repeat(rows.reward, places)])
    paid /= np.maximum(paid.std(axis=0), np.finfo(float).tiny)
    design = np.concatenate([state, shown.reshape(len(state), -1)], axis=1)
    half = np.repeat(rows.sessions % 2 == 0, places)
    errors = np.square(other_half_errors(design, paid, half)).sum(axis=1)
    return np.asarray(np.add.reduceat(errors.reshape(-1, places).sum(axis=1), rows.starts))
