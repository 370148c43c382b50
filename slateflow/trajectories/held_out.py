"""The episodes that learners are not trained from, so that something can be chosen by them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.trajectories.schema import Trajectories

HELD_OUT = 5
"""Every fifth episode is held out."""


def held_out(rows: Trajectories) -> NDArray[np.bool_]:
    """Whether a row (R,) belongs to an episode that is held out.

    By its place among the episodes of the rows, so that every policy gives its share.
    """
    first = np.append(True, rows.episode[1:] != rows.episode[:-1])
    return np.asarray((np.cumsum(first) - 1) % HELD_OUT == HELD_OUT - 1)
