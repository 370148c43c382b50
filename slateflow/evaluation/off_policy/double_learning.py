"""Estimates from logs of sessions: a model of values, corrected by weights that are learnt, too.

The weights of whole sessions are products over their steps, of which soon none is left. What a
policy changes in the long run is how often states and choices occur; one weight for each step says
that. Both the values Q and the weights ω are linear in the same features of a logged choice, and
the contribution of a session is

    Q at its start + Σ over its steps of ω × (reward + next Q − Q),

in which the error of either is multiplied by that of the other (Kallus and Uehara 2020, "Double
Reinforcement Learning for Efficient Off-Policy Evaluation in Markov Decision Processes", equation
14). With features φ of what was shown and φ' of what the policy shows next, A = Σ φ φᵀ and
C = Σ φ φ'ᵀ, values solve A θ = Σ φ r + C θ, and weights are the adjoint: Aᵀ λ = φ at the start +
Cᵀ λ. Both are fitted on other sessions than those to which they are applied.

Where all sessions have the same number of steps, values and weights are those of each number of
steps left, as in `backward_stages`.

In place of propensities it takes features that say what matters: the user, or what is remembered of
the session, and the candidate, up to the third power; where users choose from a slate, the features
of SlateQ's decomposition (`item_values`). What users choose is expected by a model that the same
sessions have fitted; nothing corrects it, so its error is part of the contributions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec
from slateflow.evaluation.off_policy.backward_stages import Transitions
from slateflow.policies import Scorer, Slates, top_slates
from slateflow.policies.base import SlateDistribution, certain
from slateflow.policies.learned import ScoringPolicy, observed_scores
from slateflow.policies.scorer import Support
from slateflow.trajectories import Trajectories
from slateflow.trajectories.schema import blocks
from slateflow.user_models.additive import Additive
from slateflow.user_models.choice_model import Choices, fit_choice_model, influences
from slateflow.user_models.item_values import Sessions
from slateflow.user_models.polynomial import Polynomial, term_count
from slateflow.user_models.session_memory import with_session_memory
from slateflow.user_models.support import logged_support

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
Target = SlateDistribution | ScoringPolicy

FOLDS = 10
"""With five, intervals from 200 sessions are a tenth too short."""
DEGREE = 3
MOST_TERMS = 200
"""Above so many the degree is lowered."""

RIDGE = 1e-9
"""Precision of the prior on weights of the polynomial, for each row."""

SLATE_RIDGE = 1e-3
"""That on weights of slates' values, in all."""

ROWS_PER_FEATURE = 20
"""Logged steps that a feature of slates takes at least. With half of it values were off by half."""

CHOICE_RIDGE = 0.1
"""Precision of the prior on the weights of the choice model."""


@dataclass(frozen=True)
class Followed:
    """Features of what a target shows where the logs have been.

    Attributes:
        start: (E, P) at the first step of each session.
        following: For each number of steps left, from 1 on, the features (S, P) of the rows that
            follow another; the last serves all larger numbers.
    """

    start: Array
    following: list[Array]

    def after(self, stage: int) -> Array:
        """(S, P) of the rows that follow, with so many steps left."""
        return self.following[min(stage, len(self.following)) - 1]


@dataclass(frozen=True)
class Logged:
    """Logged choices as regressions see them, of one class of users.

    Attributes:
        chosen: (T, P) features of the choices.
        reward: (T,).
        continues: (T,) whether another step follows, S of them.
        session: (T,) number of the session, below E.
        sessions: E.
        member: (E,) how likely a session is of this class.
        stages: Steps of a session, where all have as many; None where they end by themselves.
        ridge: Precision of the prior on the weights.
    """

    chosen: Array
    reward: Array
    continues: NDArray[np.bool_]
    session: Rows
    sessions: int
    member: Array
    stages: int | None
    ridge: float


@dataclass(frozen=True)
class Estimated(Additive):
    """Value, correction and weights of each session.

    Attributes:
        start: (E,) value at its first step.
        correction: (E,) weighted errors of the values along it, and of the choice model.
        weight: (T,) of its steps: how much oftener the target comes to them. By session they add up
            to its steps under the target.
        weighted: (E,) sums of weight × reward.
    """

    start: Array
    correction: Array
    weight: Array
    weighted: Array


def estimated(logged: Logged, followed: Followed) -> Estimated:
    """Fit on all folds of the sessions but one, apply to that one, in turn."""
    fold = np.arange(logged.sessions) % FOLDS
    start, correction, weighted = np.zeros((3, logged.sessions))
    weight = np.zeros(len(logged.reward))
    for number in range(FOLDS):
        own, fitted = fold == number, fold != number
        if not fitted.any():  # a single session
            fitted = own
        models = _fit(logged, followed, fitted)
        start[own] = (followed.start[own] @ models.values[-1] + models.base) * logged.member[own]
        scale = np.count_nonzero(fitted)
        for rows in _some(np.flatnonzero(own[logged.session])):
            omega, error = models.applied(logged, followed, rows)
            member = scale * logged.member[logged.session[rows]]
            weight[rows] = member * omega.sum(axis=1)
            sums = member * (omega * error).sum(axis=1)
            correction += np.bincount(logged.session[rows], sums, logged.sessions)
    weighted += np.bincount(logged.session, weight * logged.reward, logged.sessions)
    return Estimated(start, correction, weight, weighted)


@dataclass(frozen=True)
class _Models:
    """Weights of the values and of the weights, a row for each number of steps left.

    Sessions that end by themselves have one row each, and `values` one more before it, the same.
    """

    values: Array  # (H + 1, P), the first of no step left
    weights: Array  # (H, P)
    centre: float  # mean reward, which is taken out where all sessions are as long
    base: float  # what was taken out of a session

    def applied(self, logged: Logged, followed: Followed, rows: Rows) -> tuple[Array, Array]:
        """ω and errors (B, H) of some rows."""
        chosen, continues = logged.chosen[rows], logged.continues[rows]
        nexts = np.cumsum(logged.continues)[rows[continues]] - 1
        error = (logged.reward[rows] - self.centre)[:, None] - chosen @ self.values[1:].T
        first = 0 if logged.stages is None else 1  # with one step left nothing follows
        for stage in range(first, len(self.weights)):
            after = followed.after(max(stage, 1))[nexts]
            error[continues, stage] += after @ self.values[stage]
        return chosen @ self.weights.T, error


def _fit(logged: Logged, followed: Followed, sessions: NDArray[np.bool_]) -> _Models:
    rows = sessions[logged.session]
    member = logged.member[logged.session[rows]][:, None]
    chosen = logged.chosen[rows]
    weighted = chosen * member
    gram = weighted.T @ chosen + logged.ridge * np.eye(chosen.shape[1])
    centre = 0.0 if logged.stages is None else float(logged.reward.mean())
    moment = weighted.T @ (logged.reward[rows] - centre)
    leads = weighted[logged.continues[rows]]
    followers = rows[logged.continues]
    crossed = [leads.T @ after[followers] for after in followed.following]
    start = (followed.start[sessions] * logged.member[sessions, None]).mean(axis=0)
    if logged.stages is None:
        system = gram - crossed[0]
        values, weights = np.linalg.solve(system, moment), np.linalg.solve(system.T, start)
        return _Models(np.stack([values, values]), weights[None], centre, 0.0)
    inverse, count = np.linalg.inv(gram), logged.stages
    values, weights = np.zeros((count + 1, len(gram))), np.zeros((count, len(gram)))
    for stage in range(1, count + 1):
        ahead = crossed[min(stage - 1, len(crossed)) - 1] @ values[stage - 1] if stage > 1 else 0.0
        values[stage] = inverse @ (moment + ahead)
    weights[-1] = inverse @ start
    for stage in range(count - 1, 0, -1):
        weights[stage - 1] = inverse @ (crossed[min(stage, len(crossed)) - 1].T @ weights[stage])
    return _Models(values, weights, centre, centre * count)


def fitted_values(logged: Logged, followed: Followed) -> Array:
    """Weights (P,) of the values at a session's start, fitted on all sessions."""
    return np.asarray(_fit(logged, followed, np.ones(logged.sessions, np.bool_)).values[-1])


def _some(rows: Rows) -> Iterator[Rows]:
    yield from (rows[block] for block in blocks(len(rows)))


class Evidence(Protocol):
    """Logged sessions, prepared for any number of targets."""

    rows: Trajectories
    features: int  # P, of values and weights
    least_steps: int  # that it takes to tell anything

    def estimate(self, target: Target) -> Estimated:
        """Estimate a target's return, session by session."""
        ...

    def unsupported(self, target: Target) -> float:
        """Share of the target's choices that the logs have hardly seen."""
        ...

    def probabilities(self, target: Target) -> Array:
        """(R,) probabilities with which the target shows what users saw."""
        ...


class ItemSessions:
    """Sessions in which users see one candidate at a step.

    Args:
        rows: Whole sessions.
        spec: Their world.
        decays: Of the session memory, which stands in for what is hidden of a user.
    """

    def __init__(
        self, rows: Trajectories, spec: EnvironmentSpec, decays: tuple[float, ...] = ()
    ) -> None:
        self.user_size, self.horizon = rows.user.shape[1], spec.horizon
        self.rows = with_session_memory(rows, decays)
        self.transitions = Transitions.from_rows(rows)
        used = self.transitions.rows
        users, documents = self.rows.user.shape[1], spec.document_size
        degree = DEGREE
        while degree > 1 and term_count(users, documents, degree) > MOST_TERMS:
            degree -= 1
        shown = self.rows.features_at(rows.slate[:, 0])
        x = np.concatenate([self.rows.user, shown], axis=1).astype(np.float64)[used]
        self.polynomial = Polynomial.over(x, degree, users)
        timed = self.transitions.timed
        self.logged = Logged(
            chosen=self.polynomial.design(x),
            reward=rows.reward[used].astype(np.float64),
            continues=self.transitions.continues,
            session=rows.sessions[used],
            sessions=len(rows.starts),
            member=np.ones(len(rows.starts)),
            stages=self.transitions.most_stages(int(rows.lengths.max())) if timed else None,
            ridge=RIDGE * len(used),
        )
        self.features, self.least_steps = self.logged.chosen.shape[1], 0

    def estimate(self, target: Target) -> Estimated:
        """Estimate a target's return, session by session."""
        window = 1
        if self.transitions.timed and isinstance(target, ScoringPolicy):
            window = target.scorer.window if isinstance(target.scorer, Scorer) else 1
        following = self.transitions.following
        followed = Followed(
            self._shown(target, self.rows.starts, np.zeros(len(self.rows.starts), np.int32)),
            [
                self._shown(target, following, self._steps(following, left))
                for left in range(1, window + 1)
            ],
        )
        return estimated(self.logged, followed)

    def _steps(self, rows: Rows, left: int) -> NDArray[np.int32]:
        """The steps (B,) at which a target acts with so many left."""
        if not self.transitions.timed:
            return self.rows.step[rows]
        return np.full(len(rows), self.horizon - left, np.int32)

    def _shown(self, target: Target, index: Rows, step: NDArray[np.int32]) -> Array:
        """Features (B, P) of what the target shows at these rows, in expectation."""
        found = [self._expected(target, index[block], step[block]) for block in blocks(len(index))]
        return np.concatenate(found) if found else np.zeros((0, self.logged.chosen.shape[1]))

    def _expected(self, target: Target, index: Rows, step: NDArray[np.int32]) -> Array:
        row, place, probability = self._likely(target, index, step)
        known, candidates = self.rows.user[index], self.rows.candidate_features(index)
        features = np.concatenate([known[row], candidates[row, place]], axis=1)
        design = self.polynomial.design(features.astype(np.float64)) * probability[:, None]
        return np.asarray(np.add.reduceat(design, np.searchsorted(row, np.arange(len(index)))))

    def _likely(
        self, target: Target, index: Rows, step: NDArray[np.int32]
    ) -> tuple[Rows, Rows, Array]:
        """Choices of the target with a probability above 0: row, position, probability."""
        observation, size = self.rows.observation(index), self.user_size
        known = observation["user"]
        observation["user"], observation["step"] = known[:, :size], step[:, None]
        if isinstance(target, ScoringPolicy) and target.scorer.memory_size:
            memory = known[:, size:].astype(np.float64)
            scores = observed_scores(target.scorer, observation, memory)
            probability = certain(top_slates(scores, 1), scores.shape[1])
        else:
            probability = target.first_place(observation)
        row, place = np.nonzero(probability)
        return row, place, probability[row, place]

    def unsupported(self, target: Target) -> float:
        """Share of the target's choices that the logs have hardly seen."""
        rows, total = self.rows, 0.0
        for block in blocks(len(rows)):
            index = np.arange(len(rows))[block]
            row, place, probability = self._likely(target, index, rows.step[block])
            chosen = rows.candidate_features(index)[row, place].astype(np.float64)
            total += float(probability @ self._support.hardly_seen(chosen))
        return total / len(rows)

    def probabilities(self, target: Target) -> Array:
        """(R,) probabilities with which the target shows first what was shown first."""
        found = np.zeros(len(self.rows))
        for block in blocks(len(self.rows)):
            index = np.arange(len(self.rows))[block]
            row, place, probability = self._likely(target, index, self.rows.step[block])
            shown = self.rows.slate[index[row], 0] == place
            found[index[row[shown]]] = probability[shown]
        return found

    @cached_property
    def _support(self) -> Support:
        return logged_support(self.rows)


class SlateSessions:
    """Sessions in which users choose from the slate.

    Args:
        rows: Whole sessions.
        spec: Their world.
    """

    def __init__(self, rows: Trajectories, spec: EnvironmentSpec) -> None:
        self.rows, self.sessions = rows, Sessions.from_rows(rows, spec)
        choices = Choices.from_rows(rows, spec.features_match)
        rng = np.random.Generator(np.random.SFC64(0))
        self.choice = fit_choice_model(choices, 0, CHOICE_RIDGE, rng)
        self.members = choices.members(self.choice)[rows.starts]  # (E, G)
        self.influences = [
            influences(choices, self.choice.of_class(group), member, CHOICE_RIDGE)
            for group, member in enumerate(self.members.T)
        ]
        self.features = self.sessions.design.shape[1]
        self.least_steps = ROWS_PER_FEATURE * self.features

    def estimate(self, target: Target) -> Estimated:
        """Estimate a target's return, session by session."""
        slates = self._slates(target)
        classes = [self._of_class(group, slates) for group in range(len(self.choice.shares))]
        return sum(classes[1:], start=classes[0])

    def unsupported(self, target: Target) -> float:
        """Share of the items that the target shows which the logs have hardly seen."""
        chosen = self.rows.features_at(self._slates(target)).astype(np.float64)
        return float(self._support.hardly_seen(chosen).mean())

    def probabilities(self, target: Target) -> Array:
        """(R,) probabilities with which the target shows the slates that were shown."""
        rows = self.rows
        if isinstance(target, ScoringPolicy):
            same = self._slates(target) == rows.slate
            return np.asarray(same.all(axis=1), np.float64)
        return np.concatenate(
            [
                target.propensities(rows.observation(block), rows.slate[block])
                for block in blocks(len(rows))
            ]
        )

    @cached_property
    def _support(self) -> Support:
        return logged_support(self.rows, user_chooses=True)

    def _of_class(self, group: int, slates: Slates) -> Estimated:
        sessions, choice = self.sessions, self.choice.of_class(group)
        expected = np.concatenate(
            [sessions.expected(block, slates[block], choice) for block in sessions.blocks()]
        )
        following = np.flatnonzero(~sessions.ends) + 1
        logged = Logged(
            chosen=sessions.design,
            reward=self.rows.reward.astype(np.float64),
            continues=~sessions.ends,
            session=self.rows.sessions,
            sessions=len(sessions.starts),
            member=self.members[:, group],
            stages=None,
            ridge=SLATE_RIDGE,
        )
        followed = Followed(expected[sessions.starts], [expected[following]])
        found = estimated(logged, followed)
        weight = np.zeros(len(self.rows))
        weight[sessions.starts] += logged.member
        weight[following] += found.weight[following - 1]
        values = fitted_values(logged, followed)
        moved = self.influences[group] @ sessions.slopes(slates, choice, values, weight)
        return replace(found, correction=found.correction + moved - moved.mean())

    def _slates(self, target: Target) -> Slates:
        """Slates of the target at each row (R, K); of a random policy a draw."""
        if isinstance(target, ScoringPolicy):
            return self.sessions.slates(target.scorer)
        rng, rows = np.random.Generator(np.random.SFC64(0)), self.rows
        found = [target.act(rows.observation(block), rng)[0] for block in blocks(len(rows))]
        return np.concatenate(found)


def evidence_of(
    rows: Trajectories, spec: EnvironmentSpec, decays: tuple[float, ...] = ()
) -> Evidence:
    """Sessions prepared for targets with that session memory."""
    return SlateSessions(rows, spec) if spec.user_chooses else ItemSessions(rows, spec, decays)
