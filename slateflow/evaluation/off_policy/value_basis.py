"""The choice between a polynomial and splines for values, by held-out sessions.

If values bend more than their model, they are wrong in some places, and weights learnt from the
same features do not correct them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.slate_feature_selection import changes
from slateflow.evaluation.off_policy.standardised import standardised
from slateflow.held_out_choice import (
    LEAST_ERROR,
    LEAST_SESSIONS,
    better,
    least_lost,
    other_half_errors,
)
from slateflow.trajectories import Trajectories
from slateflow.user_models.backward_stages import Transitions
from slateflow.user_models.clock import steps_left
from slateflow.user_models.polynomial import Polynomial, bends, independent

Array = NDArray[np.float64]

ASKED_ROWS = 50_000
"""Most rows that the choice uses."""


def chosen_polynomial(
    rows: Trajectories,
    x: Array,
    transitions: Transitions,
    degrees: Sequence[int],
    own: int,
    steps: Sequence[int],
    most: int,
) -> Polynomial:
    """The polynomial that explains held-out sessions best, with knots where these help.

    It has to explain the rewards, the ends of sessions, and the changes of the user's columns. A
    degree with too many terms for the logs is replaced by a lower one that explains no less.

    Args:
        rows: Whole sessions.
        x: (R, F) features of the user, which come first, and of the shown item.
        transitions: Rows to which values are fitted; the polynomial has their range.
        degrees: Degrees of the polynomial without knots, the highest first.
        own: Number of features that are the user's own, and may bend.
        steps: Features that are the number of the step, with powers of its own in a lower degree.
        most: Number of linearly independent terms for which the logs suffice.
    """
    fitted, users, degree = x[transitions.rows], rows.user.shape[1], degrees[0]
    plain = Polynomial.over(fitted, degree, users)
    if len(rows.starts) < LEAST_SESSIONS:
        return plain
    asked = rows.in_some_sessions(ASKED_ROWS)
    few = rows.where(asked)
    stage = np.zeros(len(few), np.intp) if transitions.left is None else steps_left(few)
    explained = standardised(np.column_stack([few.reward, ~few.last, changes(few)]))

    def losses(polynomial: Polynomial) -> Array:
        return _held_out_losses(polynomial.design(x[asked]), explained, stage, few)

    def enough_for(polynomial: Polynomial) -> bool:
        return int(independent(polynomial.design(x[asked])).sum()) <= most

    if not enough_for(plain):
        of_plain = losses(plain)
        for lower in degrees[1:]:
            fewer = Polynomial.over(fitted, lower, users, alone=steps)
            if enough_for(fewer) and not any(map(_less, of_plain, losses(fewer))):
                plain, degree = fewer, lower
                break
    options = [
        Polynomial.over(fitted, bent_degree, users, knots)
        for bent_degree, knots in bends(fitted, degree, users, own)
    ]
    return least_lost(plain, options, losses)


def _less(ours: Array, other: Array) -> bool:
    """True if the losses of visitors (V,) are less, by a standard error."""
    return better(other, ours, 1.0)


def _held_out_losses(
    design: Array, explained: Array, stage: NDArray[np.intp], rows: Trajectories
) -> Array:
    """(3, V) squared errors of regressions, for each stage, on the other half of the visitors."""
    half, errors = rows.halves == 0, np.empty_like(explained)
    for one in np.unique(stage):
        own = stage == one
        errors[own] = other_half_errors(design[own], explained[own], half[own])
    lost = np.maximum(np.square(errors), LEAST_ERROR)
    each = lost[:, 0], lost[:, 1], lost[:, 2:].sum(axis=1)
    return np.stack([np.bincount(rows.visitors, one) for one in each])
