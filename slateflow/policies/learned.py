"""A learned scorer as a policy: the best K candidates, best first."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import Observation
from slateflow.policies.base import Propensities, Rng, Scores, Slates, certain, top_slates
from slateflow.policies.scorer import Scorer
from slateflow.policies.slate_scorer import SlateScorer

AnyScorer = Scorer | SlateScorer
"""The result of a training."""


def load_scorer(path: str | Path) -> AnyScorer:
    """Load a scorer of either kind from the file that its `save` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        kind = SlateScorer if "choice_weights" in stored.files else Scorer
    return kind.load(path)


@dataclass(frozen=True)
class ScoringPolicy:
    """Shows the candidates with the highest scores.

    Asked without a session, it takes every user to be at the session's beginning.
    """

    scorer: AnyScorer

    def begin(self, users: int) -> ScoringSession:
        """Start `users` sessions."""
        return ScoringSession(self.scorer, np.zeros((users, self.scorer.memory_size)))

    def act(self, observation: Observation, rng: Rng) -> tuple[Slates, Propensities]:
        """Rank the candidates by their scores."""
        return self.begin(len(observation["candidates"])).act(observation, rng)

    def propensities(self, observation: Observation, slates: NDArray[Any]) -> Propensities:
        """1 (B,) for the slate that is shown, 0 for every other."""
        shown = top_slates(self._scores(observation), self.scorer.slate_size)
        return np.asarray((shown == slates).all(axis=1), np.float64)

    def first_place(self, observation: Observation) -> Scores:
        """Probabilities (B, N): 1 for the best candidate."""
        return certain(top_slates(self._scores(observation), 1), observation["candidates"].shape[1])

    def _scores(self, observation: Observation) -> Scores:
        step = observation["step"][:, 0]
        return self.scorer.scores(observation["user"], step, observation["candidates"])


@dataclass
class ScoringSession:
    """A scoring policy in the middle of B sessions, with their memory."""

    scorer: AnyScorer
    memory: NDArray[np.float64] = field(repr=False)  # (B, M)

    def act(self, observation: Observation, rng: Rng) -> tuple[Slates, Propensities]:
        """Rank the candidates by their scores."""
        del rng  # deterministic
        scores = self.scorer.scores(
            observation["user"], observation["step"][:, 0], observation["candidates"], self.memory
        )
        offered = observation.get("offered")
        if offered is not None:
            scores = np.where(np.arange(scores.shape[1]) < offered[:, None], scores, -np.inf)
        return top_slates(scores, self.scorer.slate_size), np.ones(len(scores))

    def remember(
        self,
        observation: Observation,
        slates: Slates,
        clicked: NDArray[np.int32],
        rewards: NDArray[np.float64],
    ) -> None:
        """Add a step to the memory."""
        if self.memory.size:
            shown = np.take_along_axis(observation["candidates"], slates[:, :, None], axis=1)
            self.memory = self.scorer.remember(
                self.memory, observation["user"], shown, clicked, rewards
            )

    def keep(self, users: NDArray[np.intp]) -> None:
        """Keep these users only."""
        self.memory = self.memory.take(users, axis=0)
