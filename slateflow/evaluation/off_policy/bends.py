"""Whether values bend more than a polynomial does: held-out sessions choose the knots.

Where they do and nobody follows, values are wrong in one place and another, and weights that are
learnt from the same features do not correct them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.backward_stages import Transitions
from slateflow.evaluation.off_policy.what_moves import changes, standardised
from slateflow.held_out_choice import least_lost, other_half_errors
from slateflow.trajectories import Trajectories
from slateflow.user_models.clock import steps_left
from slateflow.user_models.polynomial import Polynomial, bends

Array = NDArray[np.float64]

MOST_ROWS = 50_000
"""Rows that are asked."""

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


def _held_out_losses(
    design: Array, explained: Array, stage: NDArray[np.intp], rows: Trajectories
) -> Array:
    """(3, V) squared errors of regressions, for each stage, on the other half of the visitors."""
    visitor, errors = rows.visitors, np.empty_like(explained)
    for one in np.unique(stage):
        own = stage == one
        errors[own] = other_half_errors(design[own], explained[own], visitor[own] % 2 == 0)
    lost = np.maximum(np.square(errors), LEAST_ERROR)
    each = lost[:, 0], lost[:, 1], lost[:, 2:].sum(axis=1)
    return np.stack([np.bincount(visitor, one) for one in each])
