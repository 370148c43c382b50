"""Logged steps in the form that a regression of values needs, part by part or all at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec
from slateflow.learners.features import FeatureMoments, check_rewards, episode_ends
from slateflow.learners.passes import over_parts, sampled
from slateflow.policies import Scorer
from slateflow.policies.scorer import Support, monomials
from slateflow.policies.slate_choice import RandomFeatures
from slateflow.trajectories import Dataset, Trajectories
from slateflow.trajectories.schema import blocks
from slateflow.trajectories.variation import check_variation
from slateflow.user_models import random_features
from slateflow.user_models.backward_stages import (
    StageFile,
    Transitions,
)
from slateflow.user_models.clock import rewards_by_the_clock
from slateflow.user_models.polynomial import powers
from slateflow.user_models.reward_model import RewardScale
from slateflow.user_models.session_memory import NOTHING, SessionMemory, fitting_memory
from slateflow.user_models.splines import Knots
from slateflow.user_models.sums_of_parts import MapParts
from slateflow.user_models.support import left_out, logged_support, rarity_weights, without_gaps

Array = NDArray[np.float64]
Powers = NDArray[np.int64]

SPREAD_ROWS = 3_000
"""Most rows on which preferences are measured."""

SAMPLE_ROWS = 1_000_000
"""Most rows in memory; of more, every n-th session is taken."""


@dataclass(frozen=True)
class Basis:
    """Monomials of a `Scorer`'s features, in which values are linear.

    Attributes:
        degree: Degree of the polynomial in user and candidate.
        knots: Knots of the H hinges on the F features (user, 1 for the time, candidate).
        powers: (P, F + H) exponents; 0 for the time.
        offset: (F + H,) subtracted from features and hinges.
        scale: (F + H,) by which features and hinges are then divided.
        random: W random features, beside the monomials, of the standardised features and hinges.
    """

    degree: int
    knots: Knots
    powers: Powers
    offset: Array
    scale: Array
    random: RandomFeatures

    def __len__(self) -> int:
        return len(self.powers) + len(self.random)

    def terms(self, x: Array) -> Array:
        """(…, P + W) monomials and random features of the features (…, F)."""
        if len(self.knots.feature):
            x = np.concatenate([x, self.knots.hinges(x)], axis=-1)
        x = (x - self.offset) / self.scale
        found = monomials(x, self.powers)
        return np.concatenate([found, self.random.of(x)], axis=-1) if len(self.random) else found

    def degrees(self, users: int) -> tuple[Powers, Powers]:
        """(P,) degrees of the monomials in the user, of `users` features, and in the candidate."""
        features = np.arange(len(self.offset) - len(self.knots.feature))
        of_candidate = np.append(features, self.knots.feature) > users
        return self.powers[:, ~of_candidate].sum(axis=1), self.powers[:, of_candidate].sum(axis=1)

    def without_candidate(self, users: int) -> Basis:
        """The terms of only the user, of `users` features, and of the time."""
        return replace(self, powers=self.powers[self.degrees(users)[1] == 0])

    @property
    def name(self) -> str:
        """The basis in the name of a file."""
        return f"{self.degree}-{len(self.knots.feature)}-{len(self.random)}"


@dataclass(frozen=True)
class LoggedSteps:
    """Logged steps with their scaled rewards (R,), their world, and the moments of their features.

    The session memory counts as features of the user. The user responds to the first place.
    Candidates outside of the support are chosen only where nothing else is offered. `timed` is True
    if all sessions, not only these, have the same number of steps, `by_the_clock` if rewards depend
    on the number of steps left, `random` if the rewards' model has random features, and
    `remembers_items` if the session memory contains the shown items.
    """

    rows: Trajectories
    rewards: NDArray[np.float32]
    spec: EnvironmentSpec
    moments: FeatureMoments
    support: Support
    timed: bool
    by_the_clock: bool
    random: bool
    remembers_items: bool

    @cached_property
    def transitions(self) -> Transitions:
        """The T steps to which values are fitted."""
        return Transitions.from_rows(self.rows, self.timed, self.by_the_clock)

    @cached_property
    def reward(self) -> Array:
        """(T,) scaled rewards of the steps in `transitions`."""
        return self.rewards[self.transitions.rows].astype(np.float64)

    def only(self, chosen: NDArray[np.bool_]) -> LoggedSteps:
        """Some of the episodes, by a mask (R,) of their rows."""
        return replace(self, rows=self.rows.where(chosen), rewards=self.rewards[chosen])

    def basis(self, degree: int, knots: Knots | None = None, *, random: bool = False) -> Basis:
        """The polynomial of a degree, with hinges on (user, candidate) at the knots.

        Random features combine the user's own columns and the candidate's.
        """
        users, documents = self.rows.user.shape[1], self.spec.document_size
        knots, own = knots or Knots.none(), powers(users, documents, degree)
        own = np.pad(own, ((0, 0), (0, len(knots.feature))))
        every = np.concatenate([own, knots.powers(users, users + documents)])
        knots = Knots(knots.feature + (knots.feature >= users), knots.value)
        bent = np.zeros((1, 0))
        if len(knots.feature):
            bent = knots.hinges(self._shown(self.transitions.rows))
        counted = np.ones(every.shape[1] + 1, np.bool_)
        counted[self.spec.user_size : users + 1] = False  # the memory, the time
        return Basis(
            degree,
            knots,
            np.insert(every, users, 0, axis=1),
            np.append(self.moments.offset, bent.mean(axis=0)),
            np.append(self.moments.scale, bent.std(axis=0)),
            random_features.drawn(counted) if random else random_features.none(len(counted)),
        )

    def scorer(self, basis: Basis, weights: Array | None = None) -> Scorer:
        """A scorer that ignores the time; without weights (P,) it scores all candidates equally."""
        return Scorer(
            user_size=self.rows.user.shape[1],
            slate_size=self.spec.slate_size,
            horizon=self.spec.horizon,
            window=1,
            offset=basis.offset,
            scale=basis.scale,
            powers=basis.powers,
            head=(np.zeros(len(basis)) if weights is None else weights)[None],
            head_bias=np.zeros(1),
            weights=(basis.random.weights,) * bool(len(basis.random)),
            biases=(basis.random.biases,) * bool(len(basis.random)),
            support=without_gaps(self.support),
            knot_feature=basis.knots.feature.astype(np.int64),
            knot_value=basis.knots.value,
        )

    def design(self, basis: Basis, block: slice) -> Array:
        """Terms (B, P) of the user and the item shown first, for a slice of the T steps."""
        return basis.terms(self._shown(self.transitions.rows[block]))

    def shown(self) -> Array:
        """(T, U + D) features of the user and of the item shown first."""
        return np.delete(self._shown(self.transitions.rows), self.rows.user.shape[1], axis=1)

    def _shown(self, rows: NDArray[np.intp]) -> Array:
        """(B, F) features of these rows (B,) and of the items shown first."""
        return self._features(rows, self.rows.features_at(self.rows.slate[rows, 0], rows))

    def _features(self, rows: NDArray[np.intp], candidates: NDArray[np.floating]) -> Array:
        """(B, …, F) features of rows (B,) and of their candidates (B, …, D); 1 for the time."""
        known = np.column_stack([self.rows.user[rows], np.ones(len(rows))])
        known = known.reshape(len(known), *[1] * (candidates.ndim - 2), -1)
        known = np.broadcast_to(known, (*candidates.shape[:-1], known.shape[-1]))
        return np.concatenate([known, candidates], axis=-1)

    def best_next(self, scorer: Scorer) -> Array:
        """(S,) best score at each of the rows that follow the steps."""
        following, rows = self.transitions.following, self.rows
        scorer, best = replace(scorer, support=None), np.empty(len(following))
        for block in blocks(len(following), rows.scored_numbers):
            now = following[block]
            offered = rows.candidate_features(now)
            scores = scorer.scores(rows.user[now], rows.step[now], offered)
            if self._left_out is not None:
                scores[self._left_out[block]] = -np.inf
            best[block] = scores.max(axis=1)
        return best

    @cached_property
    def _left_out(self) -> NDArray[np.bool_] | None:
        """(S, N) True for hardly shown candidates of the following rows, never for all of a row."""
        following = self.transitions.following
        if without_gaps(self.support) is None:
            return None
        return left_out(self.support, self.rows)[following]

    @cached_property
    def weights(self) -> Array:
        """(T,) weights of the steps."""
        shown = self.rows.features_at(self.rows.slate[:, 0])[self.transitions.rows]
        return rarity_weights(self.support, shown.astype(np.float64))

    def spread(self, basis: Basis) -> Array:
        """(P, P) covariance C of the terms among the candidates of a step.

        Weights w give the candidates of a step scores with a standard deviation of √(w' C w).
        """
        steps, size = self.transitions.rows, len(basis)
        few = steps[:: -(-len(steps) // SPREAD_ROWS)]
        total = np.zeros((size, size))
        for row in np.array_split(few, -(-len(few) // 100)):
            x = basis.terms(self._features(row, self.rows.candidate_features(row)))
            x = (x - x.mean(axis=1, keepdims=True)).reshape(-1, size)
            total += x.T @ x
        return total


@dataclass(frozen=True)
class View:
    """Moments, support and scale, fitted on a sample of the rows, that apply to every part."""

    spec: EnvironmentSpec
    moments: FeatureMoments
    support: Support
    scale: RewardScale
    memory: SessionMemory
    timed: bool
    by_the_clock: bool

    def steps(self, rows: Trajectories) -> LoggedSteps:
        """The steps of logged rows."""
        return self.remembered_steps(self.memory.beside_users(rows))

    def remembered_steps(self, known: Trajectories) -> LoggedSteps:
        """The steps of rows that already contain their session memory."""
        return LoggedSteps(
            known,
            self.scale.scaled(known, centred=self.timed),
            self.spec,
            self.moments,
            self.support,
            self.timed,
            self.by_the_clock,
            random=self.scale.model is not None and len(self.scale.model.polynomial.random) > 0,
            remembers_items=bool(self.memory.decays) and self.memory.items,
        )


@dataclass(frozen=True)
class Parts:
    """The logged steps of a dataset, one part in memory at a time, and a sample of them.

    Parts that fit into memory together are read once, others at every pass, by the processors of a
    Ray cluster if there is one. The folder has the stages of a training that was killed. `kept` is
    True if all steps are in memory.
    """

    map: MapParts[LoggedSteps]
    sample: LoggedSteps
    memory: SessionMemory = NOTHING
    folder: Path | None = None
    kept: bool = True

    def stage_file(self, basis: Basis, window: int) -> StageFile:
        """The file with the stages of a polynomial."""
        return StageFile(self.folder and self.folder / f"stages-{basis.name}-{window}.npz")

    @classmethod
    def in_memory(cls, steps: LoggedSteps) -> Parts:
        """Parts that consist of the given steps alone."""
        return cls(lambda function: [function(steps)], steps)

    @classmethod
    def of(cls, dataset: Dataset) -> Parts:
        """Check the rows, and fit on a sample the `View` that applies to all parts."""
        memory = fitting_memory(dataset)
        moments = FeatureMoments.from_dataset(dataset, memory)
        lengths: set[int] = set()

        def look(rows: Trajectories) -> None:
            episode_ends(rows)  # for its checks
            check_rewards(rows)
            lengths.update(np.unique(rows.lengths).tolist())

        sample = memory.beside_users(sampled(dataset, SAMPLE_ROWS, look))
        check_variation(sample)
        view = View(
            spec=dataset.spec,
            moments=moments,
            support=logged_support(sample),
            scale=RewardScale.from_rows(sample, dataset.spec.user_size),
            memory=memory,
            timed=len(lengths) == 1,
            by_the_clock=len(lengths) == 1 and rewards_by_the_clock(sample),
        )
        kept = dataset.rows <= SAMPLE_ROWS
        return cls(
            over_parts(dataset, view.steps, keep=kept),
            view.remembered_steps(sample),
            memory,
            kept=kept,
        )
