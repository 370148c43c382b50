"""Sessions in which users see one item per step, as input of regressions.

The features are powers and products of the user, including the session memory, and the candidate,
up to the third degree.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec
from slateflow.evaluation.off_policy.click_odds import ClickOdds, chosen_odds
from slateflow.evaluation.off_policy.corrections import Estimated
from slateflow.evaluation.off_policy.double_learning import (
    Followed,
    Logged,
    Target,
    estimated,
)
from slateflow.evaluation.off_policy.item_features import chosen_features, first_items
from slateflow.evaluation.off_policy.overlap import VERDICT_ROWS_PER_FEATURE, NoVerdict
from slateflow.evaluation.off_policy.value_basis import ASKED_ROWS, chosen_polynomial
from slateflow.policies import top_slates
from slateflow.policies.base import certain
from slateflow.policies.learned import ScoringPolicy, observed_scores
from slateflow.policies.scorer import Support
from slateflow.trajectories import Trajectories
from slateflow.user_models.backward_stages import Transitions
from slateflow.user_models.clock import MOST_STEPS_APART, rewards_by_the_clock, same_length
from slateflow.user_models.polynomial import term_count
from slateflow.user_models.session_memory import (
    STATELESS,
    SessionMemory,
    SessionState,
    with_step,
)
from slateflow.user_models.support import logged_support

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

DEGREE = 3
DRL_TERMS = 200
"""Number of terms above which the degree is lowered."""

CLICK_ODDS_ROWS = 100_000
"""Approximate most rows to which log-odds of clicks are fitted."""

MOST_REMEMBERED = 300
"""Most terms of degree 2 with a session memory: degree 1 would lack its products with the user and
with itself, and items of which users had tired would count as new."""

FITTED_ROWS = 200
"""Rows per feature up to which values and weights are fitted to other sessions, too."""

ROWS_BY_PROPENSITY = 30
"""Rows per feature for a verdict where propensities correct the values, as weights of decisions are
known. Intervals of simulated shops were valid as often as from 90 on, but less often below."""

RIDGE_OF_A_ROW = 1e-9
"""Precision of the prior on weights of the polynomial, per row."""


class ItemSessions:
    """Sessions in which users see one candidate at a step.

    Args:
        rows: Whole sessions.
        spec: Their world.
        state: The session state, whose memory replaces the hidden state of a user.
        beside: Whole sessions that are not evidence; values and weights are also fitted to as many
            of them as necessary.
    """

    def __init__(
        self,
        rows: Trajectories,
        spec: EnvironmentSpec,
        state: SessionState = STATELESS,
        beside: Trajectories | None = None,
    ) -> None:
        self.user_size, self.horizon = rows.user.shape[1], spec.horizon
        self.sessions = len(rows.starts)
        every = rows if beside is None else Trajectories.from_parts([rows, beside])
        seen, known = _in_state(every, spec, state)
        self.rows = known.where(slice(len(rows)))
        timed, short = rewards_by_the_clock(seen), _short_memory(seen, state.decays)
        by_the_clock = timed or short
        x, users = _chosen(seen), seen.user.shape[1]
        degrees, self.unfit = _degrees(users, x.shape[1] - users, remembers=bool(state.decays))
        self.polynomial = chosen_polynomial(
            seen,
            x,
            Transitions.from_rows(seen, by_the_clock=by_the_clock),
            degrees,
            own=self.user_size,
            steps=range(self.user_size, users) if state.by_step else (),
            most=len(seen) // (VERDICT_ROWS_PER_FEATURE * (self.horizon if by_the_clock else 1)),
        )
        liked_by = 0 if known is seen else self.user_size
        of_choices = chosen_features(seen, x, self.polynomial, liked_by)
        asked = seen.in_some_sessions(ASKED_ROWS)
        self.of_choices = of_choices.independent_in(x[asked], first_items(seen)[asked])
        self.features, self.least_steps = len(self.of_choices), 0
        if by_the_clock:
            self.features *= self.horizon
        self.fitted = self._enough(seen)
        self.known = self.fitted if known is seen else self._enough(known)
        self.fitted_steps = len(self.fitted)
        if short and not timed:  # with fewer there is no verdict, and shared values can choose
            by_the_clock = self.fitted_steps >= VERDICT_ROWS_PER_FEATURE * self.features
        self.transitions = Transitions.from_rows(self.fitted, by_the_clock=by_the_clock)
        self.logged = self._logged()
        self.half = self.fitted.halves
        self.odds = None if state.decays else self._chosen_odds(*self.of_choices.degrees)

    def _logged(self) -> Logged:
        """The fitted steps, as double learning sees them."""
        fitted, used = self.fitted, self.transitions.rows
        stages = self.transitions.most_stages(int(fitted.lengths.max()))
        return Logged(
            chosen=self.of_choices.design(_chosen(fitted), first_items(fitted))[used],
            reward=fitted.reward[used].astype(np.float64),
            continues=self.transitions.continues,
            session=fitted.sessions[used],
            visitor=fitted.visitors[fitted.starts],
            member=np.ones(len(fitted.starts)),
            stages=stages if self.transitions.timed else None,
            ridge=RIDGE_OF_A_ROW * len(used),
            left=self.transitions.left,
            of_state=self.of_choices.degrees[1] == 0,
        )

    def verdict_steps(self, *, by_propensity: bool) -> int:
        """Fewest steps for a verdict, with weights of this kind."""
        return (ROWS_BY_PROPENSITY if by_propensity else VERDICT_ROWS_PER_FEATURE) * self.features

    def _chosen_odds(
        self, of_user: NDArray[np.int64], of_item: NDArray[np.int64]
    ) -> ClickOdds | None:
        """Log-odds of clicks, if rewards are clicks and held-out visitors confirm them.

        They are not tried with a memory: tiredness bends in other ways, and with values by log-odds
        the gate let estimates pass that were a quarter too low.
        """
        rewards = np.unique(self.logged.reward)
        if len(rewards) != 2 or self.logged.left is not None:
            return None
        products, known = (of_user < 2) & (of_item < 2), of_item == 0
        visitor = self.logged.visitor[self.logged.session]
        asked = self.logged.session % -(-len(visitor) // CLICK_ODDS_ROWS) == 0
        return chosen_odds(
            self.logged.chosen[asked],
            (self.logged.reward[asked] == rewards[1]).astype(np.float64),
            ~self.logged.continues[asked],
            visitor[asked],
            *(products, known, known & (of_user < 2)),
        )

    def _enough(self, rows: Trajectories) -> Trajectories:
        """Keep the evidence, and as many of the sessions after it as necessary, evenly."""
        most, others = (
            FITTED_ROWS * self.features - len(self.rows),
            len(rows) - len(self.rows),
        )
        if others <= most or not others:
            return rows
        every, number = -(-others // max(most, 1)), rows.sessions - self.sessions
        return rows.where((number < 0) | (number % every == 0))

    def estimate(self, target: Target, ratio: Array | None = None) -> Estimated:
        """Estimate a target's return, session by session."""
        window = 1
        if self._pooled and isinstance(target, ScoringPolicy):
            window = target.scorer.window
        following = self.transitions.following
        followed = Followed(
            self._shown(target, self.fitted.starts, np.zeros(len(self.fitted.starts), np.int32)),
            [
                self._shown(target, following, self._steps(following, left))
                for left in range(1, window + 1)
            ],
        )
        used = self.transitions.rows
        ratio = None if ratio is None else ratio[used[used < len(ratio)]]
        if self.odds is None:
            return estimated(self.logged, followed, ratio, judged=self.sessions)
        size = self.logged.chosen.shape[1]
        chosen = self.odds.features(self.logged.chosen, self.half[used])
        values = replace(self.logged, chosen=chosen)
        followed, valued = followed.where(slice(size)), followed.where(slice(size, None))
        return estimated(self.logged, followed, ratio, (values, valued), self.sessions)

    @property
    def _pooled(self) -> bool:
        """True if values for all numbers of steps left are fitted to the rows of all steps."""
        return self.transitions.timed and self.transitions.left is None

    def _steps(self, rows: Rows, left: int) -> NDArray[np.int32]:
        """The steps (B,) at which a target acts with `left` steps left."""
        if not self._pooled:
            return self.fitted.step[rows]
        return np.full(len(rows), self.horizon - left, np.int32)

    def _shown(self, target: Target, index: Rows, step: NDArray[np.int32]) -> Array:
        """Expected features (B, P) of the target's choices at these rows."""
        parts = self.fitted.blocks(len(index))
        found = [self._expected(target, index[part], step[part]) for part in parts]
        none = np.zeros(0, np.intp)
        nothing = np.zeros((0, len(self.polynomial.low))), none, none
        return np.concatenate(found or [self._design(*nothing)])

    def _expected(self, target: Target, index: Rows, step: NDArray[np.int32]) -> Array:
        row, place, probability = self._likely(target, index, step)
        known, candidates = self.fitted.user[index], self.fitted.candidate_features(index)
        features = np.concatenate([known[row], candidates[row, place]], axis=1).astype(np.float64)
        item = np.zeros(len(row), np.intp)
        if self.of_choices.items:
            item = self.fitted.candidates[index[row], place]
        design = self._design(features, item, index[row]) * probability[:, None]
        return np.asarray(np.add.reduceat(design, np.searchsorted(row, np.arange(len(index)))))

    def _design(self, columns: Array, item: Rows, index: Rows) -> Array:
        """Features (B, P + Q) for weights and values of columns (B, F) and items at rows (B,)."""
        design = self.of_choices.design(columns, item)
        if self.odds is None:
            return design
        return np.concatenate([design, self.odds.features(design, self.half[index])], axis=1)

    def _likely(
        self, target: Target, index: Rows, step: NDArray[np.int32]
    ) -> tuple[Rows, Rows, Array]:
        """The target's choices with a probability above 0: rows, positions, probabilities."""
        observation, size = self.known.observation(index), self.user_size
        known = observation["user"]
        observation["user"], observation["step"] = known[:, :size], step[:, None]
        if isinstance(target, ScoringPolicy) and target.scorer.memory_size:
            memory = known[:, size : size + target.scorer.memory_size].astype(np.float64)
            scores = observed_scores(target.scorer, observation, memory)
            probability = certain(top_slates(scores, 1), scores.shape[1])
        else:
            probability = target.first_place(observation)
        row, place = np.nonzero(probability)
        return row, place, probability[row, place]

    def unsupported(self, target: Target) -> float:
        """Share of the target's choices that the logs hardly show."""
        rows, total = self.rows, 0.0
        for block in rows.blocks():
            index = np.arange(len(rows))[block]
            row, place, probability = self._likely(target, index, rows.step[block])
            chosen = rows.candidate_features(index)[row, place].astype(np.float64)
            total += float(probability @ self._support.hardly_seen(chosen))
        return total / len(rows)

    def probabilities(self, target: Target) -> Array:
        """(R,) probabilities with which the target shows the logged first item first."""
        found = np.zeros(len(self.rows))
        for block in self.rows.blocks():
            index = np.arange(len(self.rows))[block]
            row, place, probability = self._likely(target, index, self.rows.step[block])
            shown = self.rows.slate[index[row], 0] == place
            found[index[row[shown]]] = probability[shown]
        return found

    @cached_property
    def _support(self) -> Support:
        return logged_support(self.rows)


def _in_state(
    rows: Trajectories, spec: EnvironmentSpec, state: SessionState
) -> tuple[Trajectories, Trajectories]:
    """Sessions with their state among the user's columns, for regressions and for policies.

    Regressions use ids of items as columns where users may tire of single items; elsewhere held-out
    visitors decide whether ids predict more.
    """
    remembered = rows.user.shape[1] + SessionMemory(state.decays).size(spec.document_size)
    by_ids = term_count(remembered, spec.document_size, 2) <= MOST_REMEMBERED
    plain = rows if state.decays and by_ids else rows.without_ids()
    known = _with_state(rows, state)
    return known if plain is rows else _with_state(plain, state), known


def _with_state(rows: Trajectories, state: SessionState) -> Trajectories:
    """Add the session memory, or the number of the step, to the user's columns."""
    remembered = SessionMemory(state.decays).beside_users(rows)
    return with_step(remembered) if state.by_step else remembered


def _degrees(users: int, documents: int, *, remembers: bool) -> tuple[range, NoVerdict | None]:
    """Degrees of polynomials to choose from, and the refusal if none can follow a memory."""
    degree, least = DEGREE, 2 if remembers else 1
    while degree > least and term_count(users, documents, degree) > DRL_TERMS:
        degree -= 1
    if remembers and (terms := term_count(users, documents, least)) > MOST_REMEMBERED:
        return range(1, 0, -1), _too_wide(terms)
    return range(degree, min(degree, least) - 1, -1), None


def _short_memory(rows: Trajectories, decays: tuple[float, ...]) -> bool:
    """True if the memory determines the step, as in short sessions that all have one length.

    Values that share the rows of all steps would then extrapolate to sums that only the last steps
    have.
    """
    length = int(rows.lengths[0])
    return bool(decays) and same_length(rows.lengths) and 1 < length <= MOST_STEPS_APART


def _chosen(rows: Trajectories) -> Array:
    """(R, F) features of the user and of the item shown first."""
    shown = rows.features_at(rows.slate[:, 0])
    return np.concatenate([rows.user, shown], axis=1).astype(np.float64)


def _too_wide(terms: int) -> NoVerdict:
    """The refusal for a memory with `terms` terms."""
    return NoVerdict(
        "what users do depends on the earlier steps of the session, and a model of that needs "
        f"{terms:,} features, but at most {MOST_REMEMBERED} can be fitted",
        "describe items by fewer features, or log what changes in a user as columns of the user; "
        "or, if no step changes a later one, give each step as a session of its own, and name the "
        "session as `visitor`",
    )
