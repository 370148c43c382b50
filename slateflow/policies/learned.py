"""A learned scorer as a policy: the best K candidates, best first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slateflow.environments import Observation
from slateflow.policies.base import Propensities, Slates, top_slates
from slateflow.policies.scorer import Scorer


@dataclass(frozen=True)
class ScoringPolicy:
    """Shows the candidates with the highest scores."""

    scorer: Scorer

    def act(
        self, observation: Observation, rng: np.random.Generator
    ) -> tuple[Slates, Propensities]:
        """Rank the candidates by their scores."""
        del rng  # deterministic
        scores = self.scorer.scores(
            observation["user"], observation["step"][:, 0], observation["candidates"]
        )
        return top_slates(scores, self.scorer.slate_size), np.ones(len(scores))
