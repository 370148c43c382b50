"""Whether users are moved by what they are shown, or only by what they click of it.

SlateQ's decomposition has it that nothing but the clicked item bears on what comes (Ie et al. 2019,
"SlateQ", section 4.2, RTDS). Users who remember what they have seen are moved by sight. Then
features of the clicked item alone expect of every policy the states to which the logs led.

So the change of the user's columns from step to step, and the ends of sessions, are regressed on
the features of the clicked item, with and without those of what was shown. Held-out sessions say
whether these explain more.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from slateflow.user_models.held_out_choice import better
from slateflow.user_models.item_values import Sessions

Array = NDArray[np.float64]

BEYOND_CHANCE = 3.0
"""Standard errors by which held-out sessions have to be explained better."""

RIDGE = 1e-6
"""Precision of the prior on the weights, as a share of all that the rows tell of them."""


def moved_by_sight(sessions: Sessions) -> bool:
    """Whether what was shown explains how users change, beyond what they clicked."""
    sessions, moves = replace(sessions, by_sight=True), _moves(sessions)
    odd = sessions.rows.sessions % 2
    width = sessions.chosen(np.arange(1)).shape[1]
    gram, moment = np.zeros((2, width, width)), np.zeros((2, width, moves.shape[1]))
    for block in sessions.blocks():
        x = sessions.chosen(block)
        for half in (0, 1):
            own = odd[block] == half
            gram[half] += x[own].T @ x[own]
            moment[half] += x[own].T @ moves[block[own]]
    sizes = (width - sessions.sight_size, width)
    fitted = [[_solved(*sums, size) for sums in zip(gram, moment, strict=True)] for size in sizes]
    left = np.zeros((2, len(moves)))
    for block in sessions.blocks():
        x = sessions.chosen(block)
        for half, model in product((0, 1), (0, 1)):
            own, weights = odd[block] == half, fitted[model][1 - half]
            missed = moves[block[own]] - x[own, : sizes[model]] @ weights
            left[model, block[own]] = np.square(missed).sum(axis=1)
    plain, ours = np.add.reduceat(left, sessions.rows.starts, axis=1)
    return better(plain, ours, BEYOND_CHANCE)


def _moves(sessions: Sessions) -> Array:
    """(R, U + 1): changes of the user's columns up to the next step, and ends, of deviation 1."""
    user, goes_on = sessions.rows.user.astype(np.float64), ~sessions.rows.last
    change = np.zeros_like(user)
    change[goes_on] = user[np.flatnonzero(goes_on) + 1] - user[goes_on]
    moves = np.column_stack([change, goes_on])
    deviation = moves.std(axis=0)
    return np.asarray((moves - moves.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0))


def _solved(gram: Array, moment: Array, size: int) -> Array:
    """(P, U + 1) weights of the first features."""
    gram = gram[:size, :size]
    ridge = RIDGE * np.trace(gram) / size * np.eye(size)
    return np.asarray(np.linalg.solve(gram + ridge, moment[:size]))
