"""A learned scorer as a policy: the best K candidates, best first."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import Observation
from slateflow.policies.base import Propensities, Rng, Scores, Slates, certain, top_slates
from slateflow.policies.scorer import Scorer
from slateflow.policies.slate_choice import ChoiceModel
from slateflow.policies.slate_scorer import SlateScorer

AnyScorer = Scorer | SlateScorer
"""A trained scorer of either kind."""


class SessionScorer(Protocol):
    """Rates candidates, also in the middle of sessions; the shapes are those of `Scorer`."""

    @property
    def slate_size(self) -> int:
        """K, candidates shown."""

    @property
    def memory_size(self) -> int:
        """M, numbers in the session memory."""

    @property
    def decays(self) -> NDArray[np.float64]:
        """(H,) decay factors of a session memory that sums up features; empty without one."""

    @property
    def window(self) -> int:
        """Steps left are counted exactly only within this many steps of the end."""

    def scores(
        self,
        user: NDArray[np.floating],
        step: NDArray[np.integer],
        candidates: NDArray[np.floating],
        memory: NDArray[np.float64] | None = None,
    ) -> Scores:
        """Scores (B, N) of the candidates; higher is better."""

    def remember(
        self,
        memory: NDArray[np.float64],
        user: NDArray[np.floating],
        shown: NDArray[np.floating],
        clicked: NDArray[np.integer],
        reward: NDArray[np.floating],
    ) -> NDArray[np.float64]:
        """The memory (B, M) after a step."""


def scorer_code(scorer: AnyScorer) -> dict[str, str]:
    """The source files that load a scorer and run it with NumPy alone, to copy into one folder."""
    files = {"scorer": inspect.getfile(type(scorer))}
    if isinstance(scorer, SlateScorer):
        files["choice"] = inspect.getfile(ChoiceModel)
    return files


def load_scorer(path: str | Path) -> AnyScorer:
    """Load a scorer of either kind from the file that its `save` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        kind = SlateScorer if "choice_weights" in stored.files else Scorer
    return kind.load(path)


@dataclass(frozen=True)
class ScoringPolicy:
    """Shows the candidates with the highest scores.

    Without `begin`, every user counts as being at the beginning of a session.
    """

    scorer: SessionScorer

    def begin(self, users: int) -> ScoringSession:
        """Start `users` sessions."""
        return ScoringSession(self.scorer, np.zeros((users, self.scorer.memory_size)))

    def act(self, observation: Observation, rng: Rng) -> tuple[Slates, Propensities]:
        """Rank the candidates by their scores."""
        return self.begin(len(observation["candidates"])).act(observation, rng)

    def propensities(self, observation: Observation, slates: NDArray[Any]) -> Propensities:
        """Probabilities (B,): 1 for the slate that the policy shows, 0 for every other."""
        shown = top_slates(self._scores(observation), self.scorer.slate_size)
        return np.asarray((shown == slates).all(axis=1), np.float64)

    def first_place(self, observation: Observation) -> Scores:
        """Probabilities (B, N): 1 for the best candidate."""
        return certain(top_slates(self._scores(observation), 1), observation["candidates"].shape[1])

    def _scores(self, observation: Observation) -> Scores:
        return observed_scores(self.scorer, observation)


def observed_scores(
    scorer: SessionScorer, observation: Observation, memory: NDArray[np.float64] | None = None
) -> Scores:
    """Scores (B, N) of the candidates on offer, −∞ for the others; the memory is (B, M).

    Users with the same number of candidates are scored together, as the worth of a slate depends
    on all candidates that it could contain.
    """
    user, step = observation["user"], observation["step"][:, 0]
    candidates, offered = observation["candidates"], observation.get("offered")
    if offered is None:
        return scorer.scores(user, step, candidates, memory)
    scores = np.full(candidates.shape[:2], -np.inf)
    for count in np.unique(offered):
        rows = np.flatnonzero(offered == count)
        known = None if memory is None else memory[rows]
        scores[rows, :count] = scorer.scores(
            user[rows], step[rows], candidates[rows, :count], known
        )
    return scores


@dataclass
class ScoringSession:
    """A scoring policy in the middle of B sessions, with their session memory."""

    scorer: SessionScorer
    memory: NDArray[np.float64] = field(repr=False)  # (B, M)

    def act(self, observation: Observation, rng: Rng) -> tuple[Slates, Propensities]:
        """Rank the candidates by their scores."""
        del rng  # deterministic
        scores = observed_scores(self.scorer, observation, self.memory)
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
