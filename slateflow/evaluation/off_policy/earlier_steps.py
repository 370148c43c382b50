"""A test of whether the earlier steps of a session influence users' choices from slates.

A choice model knows the user's columns and the items. Its expectation is wrong where users tire of
what they have seen, or come to like it. No correction by weights can detect that: weights express
how often a state and a choice occur, and the state is defined by the columns.

So clicks beyond the model's expectation are regressed on the session so far: on how much of an item
was shown and clicked before, and on the rewards, with less weight on earlier steps. Better
predictions in held-out sessions are a score test (Rao 1948) of the model against one with a memory.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.held_out_choice import BEYOND_DOUBT, better, other_half_losses
from slateflow.trajectories import Trajectories
from slateflow.user_models.session_memory import faded

Array = NDArray[np.float64]

DECAYS = (0.5, 0.9)
"""Factors by which a step's weight falls with each later step."""


def earlier_steps_matter(rows: Trajectories, expected: Array) -> bool:
    """True if the session so far explains clicks beyond the expected ones.

    Args:
        rows: Whole sessions.
        expected: (R, K) probabilities of a click on each of the items shown.
    """
    surprise, slope = rows.clicks - expected, expected * (1 - expected)
    for decay in DECAYS:
        # The slope of a probability in its log-odds, which memories change
        x = _remembered(rows, decay) * slope[:, :, None]
        plain, ours = (_losses(rows, known, surprise) for known in (x[:, :, :1], x))
        if better(plain, ours, BEYOND_DOUBT):
            return True
    return False


def _losses(rows: Trajectories, x: Array, surprise: Array) -> Array:
    """(V,) squares that a regression on x (R, K, P) in the other half of the visitors leaves."""
    x = x.reshape(-1, x.shape[-1])
    return other_half_losses(x, surprise.ravel(), rows.visitors_by_place)


def _remembered(rows: Trajectories, decay: float) -> Array:
    """(R, K, 4): 1, how much of an item was shown before, how much was clicked, and the rewards."""
    shown, decays = rows.shown_features().astype(np.float64), (decay,)
    earned = faded(np.arcsinh(rows.reward)[:, None], rows, decays)
    known = [
        np.einsum("rd,rkd->rk", faded(shown.mean(axis=1), rows, decays), shown),
        np.einsum("rd,rkd->rk", faded(rows.clicked_features(), rows, decays), shown),
        np.broadcast_to(earned, shown.shape[:2]),
    ]
    scaled = [(one - one.mean()) / (one.std() or 1.0) for one in known]
    return np.stack([np.ones(shown.shape[:2]), *scaled], axis=-1)
