"""A chain of three steps that is solved by hand."""

from __future__ import annotations

import numpy as np

from slateflow.trajectories.schema import Trajectories


def chain(episodes: int, seed: int = 0) -> Trajectories:
    """Three steps; the first click c moves the user to 1 − c, and a click pays user × c."""
    rng = np.random.default_rng(seed)
    candidates = rng.random((episodes, 3, 2)).astype(np.float32)
    action = rng.integers(0, 2, (episodes, 3))
    clicked = np.take_along_axis(candidates, action[:, :, None], axis=2)[:, :, 0]
    user = np.ones((episodes, 3), dtype=np.float32)
    user[:, 1:] = 1 - clicked[:, :2]
    rows = episodes * 3
    step = np.tile(np.arange(3, dtype=np.int32), episodes)
    return Trajectories(
        episode=np.repeat(np.arange(episodes), 3),
        step=step,
        user=user.reshape(rows, 1),
        candidates=candidates.reshape(rows, 2, 1),
        slate=action.reshape(rows, 1).astype(np.int32),
        propensity=np.full(rows, 0.5),
        clicked=np.zeros(rows, dtype=np.int32),
        reward=(user * clicked).reshape(rows),
        responses={},
        terminated=step == 2,
        truncated=np.zeros(rows, dtype=np.bool_),
    )
