"""Sessions in which one of two documents drives users away: solved by hand."""

from __future__ import annotations

import numpy as np

from slateflow.trajectories.schema import Trajectories

# Two documents, one shown. The first is clicked more often and drives users away.
CLICK = np.array([0.8, 0.5])
LEAVE = np.array([0.5, 0.1, 0.1])  # after a click on either, and after none


def leaving_sessions(
    episodes: int = 6000, seed: int = 0, leave: np.ndarray = LEAVE, most: int = 500
) -> Trajectories:
    """Sessions of a random policy, step by step for all users; the last step ends them all."""
    rng = np.random.default_rng(seed)
    steps = []
    users = np.arange(episodes)
    for step in range(most):
        shown = rng.integers(0, 2, len(users))
        click = rng.random(len(users)) < CLICK[shown]
        leaves = rng.random(len(users)) < leave[np.where(click, shown, 2)]
        leaves |= step == most - 1
        steps.append((users, np.full(len(users), step), shown, click, leaves))
        users = users[~leaves]
        if not len(users):
            break
    episode, step, shown, click, leaves = map(np.concatenate, zip(*steps, strict=True))
    order = np.lexsort((step, episode))
    rows = len(order)
    one_hot = np.array([[0.0, 1, 0], [0, 0, 1]], dtype=np.float32)
    return Trajectories(
        episode=episode[order],
        step=step[order].astype(np.int32),
        user=np.zeros((rows, 0), dtype=np.float32),
        candidates=np.tile(one_hot, (rows, 1, 1)),
        slate=shown[order, None].astype(np.int32),
        propensity=np.full(rows, 0.5),
        clicked=np.where(click[order], 0, -1).astype(np.int32),
        reward=click[order].astype(np.float32),
        responses={
            "quality": np.zeros(rows, dtype=np.float32),
            "cluster": np.where(click, shown, -1)[order].astype(np.float32),
        },
        terminated=leaves[order],
        truncated=np.zeros(rows, dtype=np.bool_),
    )
