"""Estimates from logs of sessions: a model of values, corrected by weights that are also learnt.

The weights of whole sessions are products over their steps, of which soon hardly any differs from
0. In the long run a policy changes how often states and choices occur, which one weight per step
expresses. Both the values Q and the weights ω are linear in the same features of a logged choice,
and the contribution of a session is

    Q at its start + Σ over its steps of ω × (reward + next Q − Q),

in which the error of either is multiplied by that of the other (Kallus and Uehara 2020, "Double
Reinforcement Learning for Efficient Off-Policy Evaluation in Markov Decision Processes", equation
14). With features φ of what was shown and φ' of what the policy shows next, A = Σ φ φᵀ and
C = Σ φ φ'ᵀ, values solve A θ = Σ φ r + C θ, and weights are the adjoint: Aᵀ λ = φ at the start +
Cᵀ λ. Both are fitted on other sessions than those to which they are applied.

Where all sessions have the same number of steps, values and weights are those of each number of
steps left, as in `backward_stages`.

Instead of propensities the method needs features that contain everything relevant: see
`item_sessions` and `slate_sessions`. Where intervals by the propensities of decisions are hardly
wider, these replace the learnt weights of decisions; in any case they are a check, without which
sessions of items get no verdict: see `corrections`, `propensity_check`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.corrections import Correction, Estimated
from slateflow.evaluation.off_policy.overlap import NoVerdict
from slateflow.policies.base import SlateDistribution
from slateflow.policies.learned import ScoringPolicy
from slateflow.trajectories import Trajectories
from slateflow.trajectories.schema import blocks

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
Target = SlateDistribution | ScoringPolicy

DRL_FOLDS = 10
"""Parts of the visitors. With five, intervals from 200 sessions are a tenth too short."""


@dataclass(frozen=True)
class Followed:
    """Features of a target's choices in logged states.

    Attributes:
        start: (E, P) features at the first step of each session.
        following: For each number of steps left, from 1 on, features (S, P) at the rows that
            follow another row; the last entry also serves all larger numbers.
    """

    start: Array
    following: list[Array]

    def where(self, features: slice) -> Followed:
        """Some of the features."""
        return Followed(self.start[:, features], [one[:, features] for one in self.following])

    def after(self, stage: int) -> Array:
        """(S, P) features at the rows that follow, with this number of steps left."""
        return self.following[min(stage, len(self.following)) - 1]


@dataclass(frozen=True)
class Logged:
    """Logged choices of one class of users, as input of regressions.

    Attributes:
        chosen: (T, P) features of the choices.
        reward: (T,) rewards.
        continues: (T,) whether another step follows, as it does S times.
        session: (T,) number of the session, below E.
        visitor: (E,) number of the session's visitor.
        member: (E,) probability that a session is of this class.
        stages: Steps of a session, where all have equally many; None where they end by themselves.
        left: (T,) steps of the session from a row on, where each such number has its own values and
            weights; None where they share all rows.
        ridge: Precision of the prior on the weights.
        of_state: (P,) mask of the features of the state alone; None where propensities are not
            used.
    """

    chosen: Array
    reward: Array
    continues: NDArray[np.bool_]
    session: Rows
    visitor: Rows
    member: Array
    stages: int | None
    ridge: float
    left: Rows | None = None
    of_state: NDArray[np.bool_] | None = None

    @property
    def sessions(self) -> int:
        """E, the number of sessions."""
        return len(self.member)

    @cached_property
    def centre(self) -> float:
        """Mean reward, subtracted where all sessions have one length and stages share rows."""
        shared = self.stages is not None and self.left is None
        return float(self.reward.mean()) if shared else 0.0


def estimated(
    logged: Logged,
    followed: Followed,
    ratio: Array | None = None,
    values: tuple[Logged, Followed] | None = None,
    judged: int | None = None,
) -> Estimated:
    """Estimate each fold of the sessions with models fitted to the other folds (cross-fitting).

    Sessions of one visitor are in one fold. The result covers the sessions and steps that are
    evidence.

    With propensities an error is weighted by how much more often the target reaches the state,
    times how much likelier it makes the logged decision.

    Args:
        logged: The choices.
        followed: Features of what the target shows.
        ratio: The target's probability of each choice that is evidence, over that of the logs.
        values: Other features of these choices, if values are fitted in them: then weights
            correct errors that the features in `logged` would have explained.
        judged: Number of sessions that are evidence, which come first; models are also fitted to
            the others. None for all.
    """
    both = [(logged, followed)] + ([] if values is None else [values])
    valued, valued_followed = both[-1]
    judged = logged.sessions if judged is None else judged
    steps = int(np.searchsorted(logged.session, judged))
    start, each = np.zeros(judged), np.zeros(steps)
    on_states = None if ratio is None else _on_states(logged)
    learnt, by_propensity = (_Weighted(np.zeros(steps), np.zeros(steps)) for _ in range(2))
    for held_out, fitted in _folds(both):
        own, of_values = np.flatnonzero(held_out[:judged]), fitted.of_values
        worth = valued_followed.start[own] @ of_values.values[-1] + of_values.base
        start[own] = worth * logged.member[own]
        for rows in _some(np.flatnonzero(held_out[logged.session[:steps]])):
            member = logged.member[logged.session[rows], None]
            error = of_values.errors(valued, valued_followed, rows)
            each[rows] = _of_own_stage(error * member, logged, rows)
            member = fitted.sessions * member
            learnt.add(rows, fitted.of_weights.omega(logged, rows) * member, error)
            if ratio is not None and on_states is not None:
                of_state = np.maximum(fitted.of_weights.omega(logged, rows, on_states), 0.0)
                by_propensity.add(rows, of_state * member * ratio[rows, None], error)
    found, other = (one.correction(logged, judged) for one in (learnt, by_propensity))
    return Estimated(start, found, found if on_states is None else other, each)


@dataclass(frozen=True)
class _Fitted:
    """Models of weights and of values, and the number of sessions to which they were fitted."""

    of_weights: _Models
    of_values: _Models
    sessions: int


def _folds(
    both: list[tuple[Logged, Followed]],
) -> Iterator[tuple[NDArray[np.bool_], _Fitted]]:
    """Each fold of the sessions, as a mask (E,), with the models fitted to the other folds.

    Args:
        both: Choices and what follows, in the features of the weights, and in those of the values
            where these are others.
    """
    fold = both[0][0].visitor % DRL_FOLDS
    every = np.ones(len(fold), np.bool_)
    sums = [_Sums.of(*features, every) for features in both]
    for number in range(DRL_FOLDS):
        held_out, others = fold == number, sums
        if not held_out.all():  # otherwise there is a single visitor
            others = [
                total - _Sums.of(*features, held_out)
                for total, features in zip(sums, both, strict=True)
            ]
        fits = [_fit(features, left) for (features, _), left in zip(both, others, strict=True)]
        yield held_out, _Fitted(fits[0], fits[-1], others[0].sessions)


def _of_own_stage(error: Array, logged: Logged, rows: Rows) -> Array:
    """(B,) errors of rows, from (B, H) by steps left: at its own number, or the average."""
    if logged.left is None:
        return np.asarray(error.mean(axis=1))
    return np.asarray(error[np.arange(len(rows)), logged.left[rows] - 1])


@dataclass(frozen=True)
class _Weighted:
    """Weights (T,) of the steps, and their products with the errors of the values (T,)."""

    weight: Array
    errors: Array

    def add(self, rows: Rows, omega: Array, error: Array) -> None:
        """Set those of some rows, from weights and errors (B, H) for each number of steps left."""
        self.weight[rows], self.errors[rows] = omega.sum(axis=1), (omega * error).sum(axis=1)

    def correction(self, logged: Logged, judged: int) -> Correction:
        """The correction of the first `judged` sessions."""
        steps = len(self.weight)
        by_session = (
            np.bincount(logged.session[:steps], sums, judged).astype(np.float64)
            for sums in (self.errors, self.weight * logged.reward[:steps], self.weight)
        )
        return Correction(self.weight, *by_session)


def _on_states(logged: Logged) -> Array | None:
    """(P, P) matrix that turns weights into those of their regression on the state alone.

    It comes from all sessions, but not from rewards; the weights come from the other folds.
    """
    if logged.of_state is None:
        return None
    of_state, ridge = logged.of_state, logged.ridge * np.eye(logged.chosen.shape[1])
    gram, found = logged.chosen.T @ logged.chosen, np.zeros_like(ridge)
    found[of_state] = np.linalg.solve((gram + ridge)[np.ix_(of_state, of_state)], gram[of_state])
    return found


@dataclass(frozen=True)
class _Models:
    """Coefficients of the values and of the weights ω, one row per number of steps left.

    For sessions that end by themselves there is one row, and `values` has a copy before it.
    """

    values: Array  # (H + 1, P), the first for no step left
    weights: Array  # (H, P)
    centre: float  # mean reward, subtracted where all sessions have one length
    base: float  # sum subtracted from a session

    def errors(self, logged: Logged, followed: Followed, rows: Rows) -> Array:
        """(B, H) errors of the values in some rows."""
        chosen, continues = logged.chosen[rows], logged.continues[rows]
        nexts = np.cumsum(logged.continues)[rows[continues]] - 1
        error = (logged.reward[rows] - self.centre)[:, None] - chosen @ self.values[1:].T
        first = 0 if logged.stages is None else 1  # with one step left no step follows
        for stage in range(first, len(self.weights)):
            after = followed.after(max(stage, 1))[nexts]
            error[continues, stage] += after @ self.values[stage]
        return np.asarray(error)

    def omega(self, logged: Logged, rows: Rows, turned: Array | None = None) -> Array:
        """(B, H) weights ω of some rows, optionally with coefficients multiplied by (P, P)."""
        weights = self.weights.T if turned is None else turned @ self.weights.T
        omega = logged.chosen[rows] @ weights
        if logged.left is not None:  # a row has one number of steps left
            omega *= logged.left[rows, None] == np.arange(1, len(self.weights) + 1)
        return np.asarray(omega)


@dataclass(frozen=True)
class _StageSums:
    """Sums of some rows: Σ φ φᵀ, Σ φ (r − centre), and (L, P, P) Σ φ φ'ᵀ by the steps left."""

    gram: Array
    moment: Array
    crossed: Array

    @classmethod
    def of(cls, logged: Logged, followed: Followed, rows: NDArray[np.bool_]) -> _StageSums:
        """The sums of some of the rows, by a mask (T,)."""
        chosen = logged.chosen[rows]
        weighted = chosen * logged.member[logged.session[rows]][:, None]
        leads, followers = weighted[logged.continues[rows]], rows[logged.continues]
        crossed = [leads.T @ after[followers] for after in followed.following]
        moment = weighted.T @ (logged.reward[rows] - logged.centre)
        return cls(weighted.T @ chosen, moment, np.stack(crossed))

    def __sub__(self, other: _StageSums) -> _StageSums:
        return _StageSums(
            self.gram - other.gram, self.moment - other.moment, self.crossed - other.crossed
        )

    def crossed_after(self, stage: int) -> Array:
        """Σ φ φ'ᵀ (P, P) of the rows that follow, with this number of steps left."""
        return np.asarray(self.crossed[min(stage - 1, len(self.crossed)) - 1])


@dataclass(frozen=True)
class _Sums:
    """Sums of some sessions, from which values and weights follow.

    Attributes:
        start: (P,) sum of the features at their first steps.
        sessions: Number of sessions.
        stages: Sums of their rows, by the number of steps left where each has its own rows,
            otherwise one for all.
    """

    start: Array
    sessions: int
    stages: list[_StageSums]

    @classmethod
    def of(cls, logged: Logged, followed: Followed, sessions: NDArray[np.bool_]) -> _Sums:
        """The sums of some of the sessions, by a mask (E,)."""
        rows, start = sessions[logged.session], logged.member[sessions] @ followed.start[sessions]
        own = [None] if logged.left is None else range(1, (logged.stages or 0) + 1)
        masks = (rows if stage is None else rows & (logged.left == stage) for stage in own)
        stages = [_StageSums.of(logged, followed, mask) for mask in masks]
        return cls(start, int(np.count_nonzero(sessions)), stages)

    def __sub__(self, other: _Sums) -> _Sums:
        stages = [one - own for one, own in zip(self.stages, other.stages, strict=True)]
        return _Sums(self.start - other.start, self.sessions - other.sessions, stages)


def _fit(logged: Logged, sums: _Sums) -> _Models:
    start, features = sums.start / sums.sessions, logged.chosen.shape[1]
    ridge = logged.ridge * np.eye(features)
    if logged.stages is None:
        one = sums.stages[0]
        system = one.gram + ridge - one.crossed[0]
        values, weights = np.linalg.solve(system, one.moment), np.linalg.solve(system.T, start)
        return _Models(np.stack([values, values]), weights[None], logged.centre, 0.0)
    count = logged.stages
    inverses = [np.asarray(np.linalg.inv(one.gram + ridge)) for one in sums.stages]
    if len(sums.stages) < count:  # stages share all rows
        sums, inverses = replace(sums, stages=sums.stages * count), inverses * count
    values, weights = np.zeros((count + 1, features)), np.zeros((count, features))
    for stage in range(1, count + 1):
        of_stage = sums.stages[stage - 1]
        ahead = of_stage.crossed_after(stage) @ values[stage - 1] if stage > 1 else 0.0
        values[stage] = inverses[stage - 1] @ (of_stage.moment + ahead)
    weights[-1] = inverses[-1] @ start
    for stage in range(count - 1, 0, -1):
        came = sums.stages[stage].crossed_after(stage + 1).T @ weights[stage]
        weights[stage - 1] = inverses[stage - 1] @ came
    return _Models(values, weights, logged.centre, logged.centre * count)


def fitted_values(logged: Logged, followed: Followed) -> Array:
    """Weights (P,) of the values at a session's start, fitted on all sessions."""
    everything = _Sums.of(logged, followed, np.ones(logged.sessions, np.bool_))
    return np.asarray(_fit(logged, everything).values[-1])


def _some(rows: Rows) -> Iterator[Rows]:
    yield from (rows[block] for block in blocks(len(rows)))


class PreparedSessions(Protocol):
    """Logged sessions, prepared for estimates of any number of targets."""

    rows: Trajectories
    fitted_steps: int  # steps to which values and weights are fitted
    least_steps: int  # fewest steps for an estimate

    def verdict_steps(self, *, by_propensity: bool) -> int:
        """Fewest steps for a verdict.

        Args:
            by_propensity: Whether propensities correct the values.
        """
        ...

    @property
    def unfit(self) -> NoVerdict | None:
        """The refusal if the model cannot fit what users do; None if no misfit is found."""
        ...

    def estimate(self, target: Target, ratio: Array | None = None) -> Estimated:
        """Estimate a target's return, session by session.

        Args:
            target: The policy.
            ratio: (R,) the target's probability of what was shown, over that of the logs, if known.
        """
        ...

    def unsupported(self, target: Target) -> float:
        """Share of the target's choices that the logs hardly show."""
        ...

    def probabilities(self, target: Target) -> Array:
        """(R,) probabilities with which the target shows what users saw."""
        ...
