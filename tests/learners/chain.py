"""A chain of two steps that is solved by hand."""

from __future__ import annotations

import numpy as np

from slateflow.policies.scorer import Scorer
from slateflow.trajectories import Dataset


class Chain:
    """A first bite of 1 earns 1 and spoils the second; after a first bite of 0 the second earns 3.

    The logs bite at random. The user is 0.5 at first, then 1 minus the first bite.
    """

    def __init__(self, make_logs) -> None:
        rng = np.random.default_rng(0)
        candidates = np.sort(rng.integers(0, 2, (400, 2, 1)), axis=2)
        candidates = np.concatenate([candidates, 1 - candidates], axis=2).astype(float)
        action = rng.integers(0, 2, (400, 2))
        chosen = np.take_along_axis(candidates, action[..., None], axis=2)[..., 0]
        user = np.stack([np.full(400, 0.5), 1 - chosen[:, 0]], axis=1)
        reward = np.stack([chosen[:, 0], chosen[:, 1] * (0.5 + 2.5 * user[:, 1])], axis=1)
        self.dataset: Dataset = make_logs(user, candidates, action, reward)
        self._unit = float(reward.std())

    def gap(self, scorer: Scorer, user: float, step: int) -> float:
        """Value of a bite of 1 less that of 0, in units of the reward."""
        both = np.array([[[0.0], [1.0]]])
        scores = scorer.scores(np.array([[user]]), np.array([step]), both)[0]
        return float(scores[1] - scores[0]) * self._unit
