"""The protocol of a policy, and slates from scores."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import Observation
from slateflow.environments.streams import Streams

Slates = NDArray[np.int32]  # (B, K), positions of distinct candidates, best first
Propensities = NDArray[np.float64]  # (B,), probability of exactly this slate
Scores = NDArray[np.float64]  # (B, N)
Rng: TypeAlias = np.random.Generator | Streams


class Policy(Protocol):
    """Chooses slates for B users at once.

    All random draws come from `rng`, one row per user: a generator, or `Streams`, which have a
    generator's `random`, `integers`, `standard_normal` and `gumbel`.
    """

    def act(self, observation: Observation, rng: Rng) -> tuple[Slates, Propensities]:
        """Slates (B, K) and the probabilities (B,) of showing exactly these."""


class SlateDistribution(Policy, Protocol):
    """A policy that knows the probability of every slate, even of those that it does not show."""

    def propensities(self, observation: Observation, slates: NDArray[Any]) -> Propensities:
        """Probabilities (B,) of showing exactly these slates (B, K)."""

    def first_place(self, observation: Observation) -> Scores:
        """Probabilities (B, N) that a candidate is shown in the first place."""


@runtime_checkable
class Session(Policy, Protocol):
    """A policy in the middle of B sessions, with a memory of their earlier steps."""

    def remember(
        self,
        observation: Observation,
        slates: Slates,
        clicked: NDArray[np.int32],
        rewards: NDArray[np.float64],
    ) -> None:
        """Add a step to the memory: the clicked places (B,), −1 for none, and rewards (B,)."""

    def keep(self, users: NDArray[np.intp]) -> None:
        """Keep these users only; the sessions of the others have ended."""


@runtime_checkable
class SessionPolicy(Policy, Protocol):
    """A policy that can follow sessions from their beginning."""

    def begin(self, users: int) -> Session:
        """Start `users` sessions."""


def certain(slates: Slates, candidates: int) -> Scores:
    """The `first_place` (B, N) of a policy that always shows these slates (B, K)."""
    return np.asarray(slates[:, :1] == np.arange(candidates), np.float64)


def top_slates(scores: NDArray[Any], slate_size: int) -> Slates:
    """Slates (B, K) of the best candidates by scores (B, N), best first; the first among equals.

    Example:
        >>> top_slates(np.array([[0.1, 0.9, 0.9, 0.5]]), 3)
        array([[1, 2, 3]], dtype=int32)
    """
    users, candidates = scores.shape
    across = users >= 40 * candidates  # many users share the cost of a step along the candidates
    # −∞ marks a candidate that is taken, so no score may be that low
    scores = scores if scores.dtype.kind == "f" else scores.astype(np.float64)
    remaining = np.maximum(scores.T, np.finfo(scores.dtype).min, order="C" if across else "F")
    slates = np.empty((users, slate_size), dtype=np.int32)
    rows = np.arange(users)
    for place in range(slate_size):
        best = _first_of_highest(remaining) if across else remaining.argmax(axis=0)
        slates[:, place] = best
        if place + 1 < slate_size:
            remaining[best, rows] = -np.inf
    return slates


def _first_of_highest(scores: NDArray[Any]) -> NDArray[np.intp]:
    """Positions (B,) of each user's first highest score: `argmax` of (N, B) in half the time."""
    last = len(scores) - 1
    ranks = np.arange(last, -1, -1, dtype=np.min_scalar_type(last))  # the first has the highest
    highest = scores == scores.max(axis=0)
    return np.asarray(last - (ranks[:, None] * highest).max(axis=0).astype(np.intp))
