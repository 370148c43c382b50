"""Features that move users from step to step: held-out sessions say which are needed.

SlateQ's decomposition has it that nothing but the clicked item bears on what comes (Ie et al. 2019,
"SlateQ", section 4.2, RTDS). Two kinds of users are otherwise:

- Those who remember what they have seen are moved by sight. Features of the clicked item alone
  expect of every policy the states to which the logs led.
- Those whose columns do not tell how long they will stay. That follows from what they have clicked
  so far, as where good videos give time back.

So the change of the user's columns from step to step, and the ends of sessions, are regressed on
the features of the clicked item, with and without those of what was shown; and the steps that are
left with and without sums of the features of what was clicked before.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.held_out_choice import BEYOND_DOUBT, better, ridge_weights
from slateflow.trajectories import Trajectories
from slateflow.user_models.clock import steps_left
from slateflow.user_models.sessions import Sessions

Array = NDArray[np.float64]

MOST_FEATURES = 2_000
"""Features, at most: with more, which never have enough steps for a verdict, nothing is tested."""


def with_what_moves(sessions: Sessions) -> Sessions:
    """The sessions with such features as explain how users change and when they leave."""
    everything, moves = replace(sessions, by_sight=True, by_clicks=True), _moves(sessions)
    odd = sessions.rows.visitors % 2
    size = everything.chosen(np.arange(1)).shape[1]
    if size > MOST_FEATURES:
        return sessions
    gram, moment = np.zeros((2, size, size)), np.zeros((2, size, moves.shape[1]))
    for block in everything.blocks():
        x = everything.chosen(block)
        for half in (0, 1):
            own = odd[block] == half
            gram[half] += x[own].T @ x[own]
            moment[half] += x[own].T @ moves[block[own]]
    sight, clicks = everything.sight_size, everything.clicks_size
    plain = np.arange(size - clicks - sight)
    columns = [
        plain,
        np.append(plain, plain.size + np.arange(clicks)),
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
            own, weights = odd[block] == half, fitted[model][1 - half]
            missed[model, block[own]] = moves[block[own]] - x[own][:, columns[model]] @ weights
    losses = np.add.reduceat(np.square(missed), sessions.rows.starts, axis=1)  # (3, E, U + 2)
    plain, ours = losses[:2, :, -1]
    by_clicks = better(plain, ours, BEYOND_DOUBT)
    plain, ours = losses[::2, :, :-1].sum(axis=2)
    return replace(sessions, by_clicks=by_clicks, by_sight=better(plain, ours, BEYOND_DOUBT))


def _moves(sessions: Sessions) -> Array:
    """(R, U + 2): changes of the user's columns up to the next step, ends, and steps left.

    All have a deviation of 1.
    """
    rows = sessions.rows
    return standardised(np.column_stack([changes(rows), ~rows.last, steps_left(rows)]))


def changes(rows: Trajectories) -> Array:
    """(R, U) how the user's columns change up to the next step; 0 at a session's end."""
    user, goes_on = rows.user.astype(np.float64), ~rows.last
    change = np.zeros_like(user)
    change[goes_on] = user[np.flatnonzero(goes_on) + 1] - user[goes_on]
    return change


def standardised(columns: NDArray[Any]) -> Array:
    """(R, …) with a mean of 0 and a deviation of 1, where they vary."""
    deviation = columns.std(axis=0)
    found = (columns - columns.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    return np.asarray(found, np.float64)
