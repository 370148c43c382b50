"""Features beyond the clicked item that change users or rewards, by held-out sessions.

SlateQ's decomposition assumes that only the clicked item influences rewards and the next state (Ie
et al. 2019, "SlateQ", section 4.2, SC and RTDS). Three kinds of logs violate this:

- Users who remember what they have seen are moved by seen items. A model with features of the
  clicked item alone predicts for every policy the states to which the logs led.
- Rewards come without a click, such as orders of seen items, or from several clicks, only the first
  of which is logged.
- Users' columns do not show how long they will stay. That depends on their clicks so far, as where
  good videos give time back.

So the change of the user's columns from step to step, the ends of sessions, and the rewards are
regressed on the features of the clicked item, with and without those of the shown items; and the
number of steps left with and without sums of the features of items clicked before.

Many more features may predict rewards worse although their effects are real. For rewards the test
is therefore whether their predictions are correlated with the errors without them.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.standardised import standardised
from slateflow.held_out_choice import BEYOND_DOUBT, better, ridge_weights
from slateflow.trajectories import Trajectories
from slateflow.user_models.clock import steps_left
from slateflow.user_models.sessions import Sessions

Array = NDArray[np.float64]

MOST_TESTED_FEATURES = 2_000
"""Most features with which anything is tested: more never have enough steps for a verdict."""

EXPLAINED = 1e-3
"""Share of the variance of rewards below which errors are attributed to the prior on weights."""


def with_selected_features(sessions: Sessions) -> Sessions:
    """The sessions with the features that explain how users change and leave, and rewards."""
    everything = replace(sessions, by_sight=True, by_clicks=True, sight_pays=True)
    moves = _moves(sessions)
    halves = sessions.rows.halves
    size = everything.chosen(np.arange(1)).shape[1]
    if size > MOST_TESTED_FEATURES:
        return sessions
    gram, moment = np.zeros((2, size, size)), np.zeros((2, size, moves.shape[1]))
    for block in everything.blocks():
        x = everything.chosen(block)
        for half in (0, 1):
            own = halves[block] == half
            gram[half] += x[own].T @ x[own]
            moment[half] += x[own].T @ moves[block[own]]
    sight, clicks = everything.sight_size, everything.clicks_size
    plain = np.arange(size - clicks - sight)
    columns = [
        plain,
        np.append(plain, plain.size + np.arange(clicks)),
        np.r_[plain, size - sight : size - sight // 2],
        np.r_[plain, size - sight : size],
    ]
    fitted = [
        [ridge_weights(gram[half][np.ix_(some, some)], moment[half][some]) for half in (0, 1)]
        for some in columns
    ]
    missed = np.zeros((len(columns), *moves.shape))
    for block in everything.blocks():
        x = everything.chosen(block)
        for half, model in product((0, 1), range(len(columns))):
            own, weights = halves[block] == half, fitted[model][1 - half]
            missed[model, block[own]] = moves[block[own]] - x[own][:, columns[model]] @ weights
    losses = np.add.reduceat(np.square(missed), sessions.rows.starts, axis=1)  # (4, E, U + 3)
    plain, ours = losses[:2, :, -1]
    by_clicks = better(plain, ours, BEYOND_DOUBT)
    plain, _, ours, _ = losses[:, :, :-2].sum(axis=2)
    by_sight, rewards = better(plain, ours, BEYOND_DOUBT), missed[:, :, -2]
    pays = any(_goes_with(rewards[0], ours, sessions.rows.visitors) for ours in rewards[2:])
    return replace(sessions, by_clicks=by_clicks, by_sight=by_sight or pays, sight_pays=pays)


def _goes_with(plain: Array, ours: Array, visitor: NDArray[np.intp]) -> bool:
    """True if predictions from more features are correlated with the errors without them.

    Args:
        plain: (R,) errors on the other half of the visitors, in standard deviations.
        ours: (R,) errors with more features.
        visitor: (R,) number of a row's visitor.
    """
    if np.square(plain).mean() <= EXPLAINED:
        return False
    scores = np.bincount(visitor, (plain - ours) * plain).astype(np.float64)
    return better(scores, np.zeros(len(scores)), BEYOND_DOUBT)


def _moves(sessions: Sessions) -> Array:
    """(R, U + 3): changes of the user's columns up to the next step, ends, rewards, and steps left.

    All have a standard deviation of 1.
    """
    rows = sessions.rows
    moves = [changes(rows), ~rows.last, rows.reward.astype(np.float64), steps_left(rows)]
    return standardised(np.column_stack(moves))


def changes(rows: Trajectories) -> Array:
    """(R, U) changes of the user's columns up to the next step; 0 at a session's end."""
    user, goes_on = rows.user.astype(np.float64), ~rows.last
    change = np.zeros_like(user)
    change[goes_on] = user[np.flatnonzero(goes_on) + 1] - user[goes_on]
    return change
