"""A test of whether rewards depend on the clock, the number of steps left of a session.

Where all sessions have equally many steps, the values for each number of steps left can be fitted
to all logged steps, unless some steps differ from others. An order at the end is such a difference.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.held_out_choice import BEYOND_DOUBT, LEAST_SESSIONS, better, other_half_losses
from slateflow.trajectories.schema import Trajectories
from slateflow.user_models.polynomial import Polynomial, term_count

Array = NDArray[np.float64]

CLOCK_ROWS = 100_000
"""Most rows in the test; fewer with more than `CLOCK_TERMS` products."""

MOST_STEPS_APART = 20
"""Most steps of a session for a test of each step; in longer sessions only the last step is tested.
In long sessions users change, possibly without a column that shows it, and rewards drift without a
clock."""

CLOCK_TERMS, MOST_COMPARED = 200, 1_000
"""Most terms of a polynomial of degree 2 or 3, and most products with which anything is tested."""

CLOCK = 3
"""Most features of the clock."""


def same_length(lengths: NDArray[np.intp]) -> bool:
    """True if all sessions have equally many steps (E,): then they end by the clock."""
    return bool((lengths == lengths[:1]).all())


def steps_left(rows: Trajectories) -> NDArray[np.intp]:
    """(R,) steps of the session from a row on, itself included."""
    ends = rows.starts + rows.lengths
    return np.asarray(ends[rows.sessions] - np.arange(len(rows)))


def rewards_by_the_clock(rows: Trajectories) -> bool:
    """True if held-out sessions show that rewards depend on the number of steps left.

    Args:
        rows: Whole sessions, with the session memory among the user's features.
    """
    if len(rows.starts) < LEAST_SESSIONS or rows.lengths[0] == 1 or not same_length(rows.lengths):
        return False
    users, documents = rows.user.shape[1], rows.candidate_features(slice(1)).shape[2]
    terms = term_count(users + CLOCK, documents, 1)
    if terms > MOST_COMPARED:
        return False
    degree = next(
        (one for one in (3, 2) if term_count(users + CLOCK, documents, one) <= CLOCK_TERMS), 1
    )
    most = CLOCK_ROWS * CLOCK_TERMS // max(terms, CLOCK_TERMS)
    rows = rows.some_sessions(most)
    left, steps = steps_left(rows), int(rows.lengths[0])
    clock = [left == 1, left == steps, left / steps] if steps <= MOST_STEPS_APART else [left == 1]
    user = rows.user.astype(np.float64)
    timed = np.column_stack([user, *clock])
    item = rows.features_at(rows.slate[:, 0]).astype(np.float64)
    plain, ours = (_held_out_losses(rows, known, item, degree) for known in (user, timed))
    return better(plain, ours, BEYOND_DOUBT)


def _held_out_losses(rows: Trajectories, user: Array, item: Array, degree: int) -> Array:
    """(V,) squared errors of a regression of the rewards on the other half of the visitors."""
    x, reward = np.concatenate([user, item], axis=1), rows.reward.astype(np.float64)
    design = Polynomial.over(x, degree, user.shape[1]).design(x)
    return other_half_losses(design, reward, rows.visitors)
