"""Sessions in which users choose from slates, as input of regressions.

The features are those of SlateQ's decomposition (`item_values`), with an item's place among its
features, and products of the past. Expected choices come from a choice model, fitted to the same
sessions, of users who look at all items at once or from the top. The model's errors on logged
slates are weighted by the similarity of these to the target's slates (`calibration_weights`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec
from slateflow.evaluation.off_policy.calibration_weights import calibration_weights
from slateflow.evaluation.off_policy.corrections import Correction, EstimatedSlates
from slateflow.evaluation.off_policy.double_learning import (
    Followed,
    Logged,
    Target,
    estimated,
    fitted_values,
)
from slateflow.evaluation.off_policy.earlier_steps import earlier_steps_matter
from slateflow.evaluation.off_policy.earlier_visits import Visits, all_offered
from slateflow.evaluation.off_policy.overlap import VERDICT_ROWS_PER_FEATURE, NoVerdict
from slateflow.evaluation.off_policy.slate_feature_selection import with_selected_features
from slateflow.evaluation.off_policy.unexplained_clicks import (
    clicks_are_unexplained,
    propensities_tell,
)
from slateflow.held_out_choice import better
from slateflow.policies import Slates
from slateflow.policies.learned import ScoringPolicy
from slateflow.policies.scorer import Support
from slateflow.trajectories import Trajectories
from slateflow.user_models.cascade import Habit
from slateflow.user_models.choice_model import OF_SINGLE_DECISIONS, USUAL
from slateflow.user_models.choices import Choices, SlateFeatures
from slateflow.user_models.conditional_logit import CHOICE_RIDGE
from slateflow.user_models.influences import Influences
from slateflow.user_models.nonlinear_choices import with_bends
from slateflow.user_models.sessions import Sessions
from slateflow.user_models.slate_columns import (
    chosen_columns,
    items_pay_more,
    likeness_matters,
    seen_in,
    too_many_of_their_own,
    with_columns_of_their_own,
)
from slateflow.user_models.support import logged_support

Array = NDArray[np.float64]

VALUES_RIDGE = 1.0
"""Precision of the prior on the values' weights: about one more click per feature. With less, items
that were clicked once or never have weights in the thousands."""

RANDOM_RIDGE = 1.0
"""Precision of the prior on the weights of random features. With more, bends are flattened, and
seldom liked slates are overestimated."""

VERDICT_ROWS_PER_TERM = 100
"""Fewest logged slates per term for more than the least number of knots: with fewer slates there
would be no verdict."""

ROWS_PER_COLUMN = 30
"""Logged slates per term where columns of single items have no products, and every slate is a
single decision: there fewer rows suffice for a verdict."""

PAYS_BEYOND_CHANCE = 3.0
"""Standard errors by which the identity of the item has to matter for the reward of a click."""

ROWS_PER_FEATURE = 20
"""Fewest logged steps per feature. With half as many, values were off by half."""

CHOICES_PER_FEATURE = 5
"""Fewest clicks, and slates without one, per feature, for a verdict on single decisions from so few
steps (Vittinghoff and McCulloch 2007, "Relaxing the Rule of Ten Events per Variable in Logistic and
Cox Regression"). With fewer than one, estimates were up to five standard errors off."""


@dataclass(frozen=True)
class _OfClass:
    """The part of an estimate that comes from one class of users.

    Attributes:
        estimate: Estimate of sessions weighted by their probability of the class.
        slope: (P + 1,) slope of its sum in the weights of the class's choices.
        worth: (E,) values of the sessions if they are of the class.
    """

    estimate: EstimatedSlates
    slope: Array
    worth: Array


def _habit(
    rows: Trajectories, plain: SlateFeatures, bent: SlateFeatures, *, single: bool
) -> tuple[SlateFeatures, Habit]:
    """Features and habit by which users choose: with bends if these make sessions likelier.

    Apparent bends may be several classes of users who choose by plain features.
    """
    found = []
    for features in (plain,) if bent is plain else (plain, bent):
        alike = replace(features, alike=likeness_matters(rows, features))
        choices = Choices.from_rows(rows, alike)
        prior = np.full(choices.shown.shape[2] + 1, CHOICE_RIDGE)
        users = rows.user.shape[1]
        prior[users : users + len(features.random or ())] = RANDOM_RIDGE
        search = OF_SINGLE_DECISIONS if single else USUAL
        found.append((alike, Habit.of(choices, prior, search)))
    likelier = better(found[0][1].losses, found[-1][1].losses, 0.0)
    return found[-1 if likelier else 0]


class SlateSessions:
    """Sessions in which users choose from the slate.

    Args:
        rows: Whole sessions.
        spec: Their world.
        beside: Whole sessions that are not evidence; the models are fitted to them, too.
    """

    def __init__(
        self, rows: Trajectories, spec: EnvironmentSpec, beside: Trajectories | None = None
    ) -> None:
        self.rows, self.evidence = rows, len(rows.starts)
        if beside is not None:
            rows = Trajectories.from_parts([rows, beside])
        self.fitted, rows = rows, rows.without_ids()  # clicks decide whether ids predict better
        seen = seen_in(chosen_columns(rows, spec.features_match, VERDICT_ROWS_PER_TERM), rows)
        features = bent = SlateFeatures(spec.features_match, places=True)
        self.own_columns: str | None = None
        if not spec.features_match:
            self.own_columns = too_many_of_their_own(seen, VERDICT_ROWS_PER_TERM)
            alone_per_term = ROWS_PER_COLUMN if spec.horizon == 1 else VERDICT_ROWS_PER_TERM
            seen, alone = with_columns_of_their_own(seen, VERDICT_ROWS_PER_TERM, alone_per_term)
            features = replace(features, alone=alone)
            own = rows.user.shape[1], rows.candidate_features(slice(1)).shape[2]
            bent = with_bends(seen, features, own, cascade=True)
        self.single = spec.horizon == 1
        features, habit = _habit(seen, features, bent, single=self.single)
        sessions = Sessions.from_rows(seen, spec, features).with_past_bends()
        self.sessions = with_selected_features(sessions)
        self.one, self.choice = habit.one, habit.model
        self.likelihoods = habit.choices.log_likelihoods(self.choice)  # (R, G)
        self.influences = Influences.of(habit.made, self.choice, habit.prior)
        self.members = self.influences.member
        self.features: int = self.sessions.design.shape[1]
        self.least_steps: int = ROWS_PER_FEATURE * self.features
        self.fitted_steps, self.horizon = len(rows), spec.horizon

    def verdict_steps(self, *, by_propensity: bool) -> int:
        """Fewest steps for a verdict: fewer where only choices are learnt, from enough clicks."""
        clicks = int(np.count_nonzero(self.fitted.clicked >= 0))
        fewer = min(clicks, len(self.fitted) - clicks)
        if self.horizon == 1 and fewer >= CHOICES_PER_FEATURE * self.features:
            return self.least_steps
        return VERDICT_ROWS_PER_FEATURE * self.features

    @cached_property
    def unfit(self) -> NoVerdict | None:
        """The refusal if clicks or rewards depend on more than the model knows; otherwise None."""
        rows, of_shown = self.fitted, self._expected_clicks
        if earlier_steps_matter(rows, of_shown):
            return NoVerdict(
                "what users choose depends on what they saw earlier in the session",
                "compare the policies in an experiment",
            )
        visits = Visits.of(rows)
        offered = None if all_offered(rows) else (rows.candidates[block] for block in rows.blocks())
        if visits and (refusal := visits.refusal(rows.clicks - of_shown, of_shown, offered)):
            return refusal
        if clicks_are_unexplained(rows, of_shown):
            unknown = "the columns of users and items do not explain what users choose"
            help_ = "log more of what they differ in, amounts as logarithms, or log single items"
            if self.own_columns is not None:
                unknown, help_ = f"{unknown}; {self.own_columns}", f"name fewer columns, {help_}"
            return NoVerdict(unknown, help_)
        if propensities_tell(rows, of_shown):
            return NoVerdict(
                "the logging policy knows more about what users choose than the columns do",
                "log what it knows as columns of users and items, or log single items",
            )
        if items_pay_more(self.sessions.rows, PAYS_BEYOND_CHANCE):
            return NoVerdict(
                "the columns of items do not explain what a click earns",
                "log more of what items differ in, such as a price, or name their id among the "
                "`features`",
            )
        return None

    def estimate(self, target: Target, ratio: Array | None = None) -> EstimatedSlates:
        """Estimate a target's return, session by session."""
        slates = self._slates(target)
        classes = [self._of_class(group, slates, ratio) for group in range(len(self.choice.shares))]
        found = sum((one.estimate for one in classes[1:]), start=classes[0].estimate)
        slopes, worth = np.stack([one.slope for one in classes]), [one.worth for one in classes]
        moved = self.influences.moves(slopes, np.column_stack(worth))
        # Sessions from which a policy was learnt favour it; the evidence would move the model, and
        # its errors, by this much (a one-step estimator)
        moved = (moved - moved.mean())[: self.evidence]
        return replace(found, learnt=replace(found.learnt, errors=found.learnt.errors + moved))

    def unsupported(self, target: Target) -> float:
        """Share of the target's shown items that the logs hardly show."""
        slates = self._slates(target)[: len(self.rows)]
        chosen = self.rows.features_at(slates).astype(np.float64)
        return float(self._support.hardly_seen(chosen).mean())

    def probabilities(self, target: Target) -> Array:
        """(R,) probabilities with which the target shows the logged slates."""
        rows = self.rows
        if isinstance(target, ScoringPolicy):
            same = self._slates(target)[: len(rows)] == rows.slate
            return np.asarray(same.all(axis=1), np.float64)
        return np.concatenate(
            [
                target.propensities(rows.observation(block), rows.slate[block])
                for block in rows.blocks()
            ]
        )

    @property
    def _expected_clicks(self) -> Array:
        """(R, K) probabilities of clicks on the shown items.

        For each step, the session's class probabilities come from its other steps: with this step
        included, the session would seem to choose as expected, because the choice determined the
        class. Without other steps classes could explain nearly anything, such as items that
        influence each other, so there is only one class.
        """
        rows, choice = self.fitted, self.one if self.single else self.choice
        member = np.ones((len(rows), 1))
        if not self.single:
            total = np.add.reduceat(self.likelihoods, rows.starts)
            member = choice.posterior(total[rows.sessions] - self.likelihoods)
        expected = []
        for block in self.sessions.blocks():
            shown = self.sessions.shown(block, rows.slate[block])
            of_classes = np.exp(choice.log_probabilities(shown)[:, :, :-1])
            expected.append(np.einsum("gbk,bg->bk", of_classes, member[block]))
        return np.concatenate(expected)

    @cached_property
    def _support(self) -> Support:
        return logged_support(self.rows, user_chooses=True)

    def _of_class(self, group: int, slates: Slates, ratio: Array | None) -> _OfClass:
        rows, sessions, choice = self.fitted, self.sessions, self.choice.of_class(group)
        expected = np.concatenate(
            [sessions.expected(block, slates[block], choice) for block in sessions.blocks()]
        )
        following = np.flatnonzero(~rows.last) + 1
        logged = Logged(
            chosen=sessions.design,
            reward=rows.reward.astype(np.float64),
            continues=~rows.last,
            session=rows.sessions,
            visitor=rows.visitors[rows.starts],
            member=self.members[:, group],
            stages=None,
            ridge=VALUES_RIDGE,
        )
        followed = Followed(expected[rows.starts], [expected[following]])
        found = estimated(logged, followed)
        weight = np.zeros(len(rows))
        weight[rows.starts] += logged.member
        weight[following] += found.learnt.weight[following - 1]
        values = fitted_values(logged, followed)
        chosen = self._expected_values(group, values)
        of_choices, slope = self._of_choices(group, values, slates, weight, chosen)
        worth = expected[rows.starts] @ values
        steps = len(self.rows)
        learnt = found.learnt.first(self.evidence, steps)
        learnt = replace(learnt, errors=learnt.errors + of_choices)
        by_propensity = learnt
        if ratio is not None:
            error = logged.reward - chosen
            error[following - 1] += expected[following] @ values
            by_propensity = self._correction(weight[:steps] * ratio, error, logged.reward)
        start, error = found.start[: self.evidence], found.error[:steps]
        return _OfClass(EstimatedSlates(start, learnt, by_propensity, error), slope, worth)

    def _correction(self, weight: Array, error: Array, reward: Array) -> Correction:
        """The evidence's correction, by weights (T,) of its steps, the first T of the R rows."""
        errors, weighted, weights = (
            np.add.reduceat(one, self.rows.starts)
            for one in (weight * error[: len(weight)], weight * reward[: len(weight)], weight)
        )
        return Correction(weight, errors, weighted, weights)

    def _expected_values(self, group: int, values: Array) -> Array:
        """(R,) expected values of the shown slates, over the choices of a class of users."""
        sessions, logged, choice = self.sessions, self.fitted.slate, self.choice.of_class(group)
        expected = [
            sessions.expected(block, logged[block], choice) @ values for block in sessions.blocks()
        ]
        return np.concatenate(expected)

    def _of_choices(
        self, group: int, values: Array, slates: Slates, weight: Array, expected: Array
    ) -> tuple[Array, Array]:
        """(E,) weighted errors of a class's expected choices in the evidence, and a slope (P + 1,).

        If the choice model is right up to chance, the errors are each session's influence on it,
        which also depends on the slope in the model's weights; if it is wrong, they correct it.

        Args:
            group: The class.
            values: (P,) weights of the values.
            slates: (R, K) slates of the target.
            weight: (R,) how much more often the target reaches each row.
            expected: (R,) expected values of the shown slates.
        """
        rows, sessions, choice = self.fitted, self.sessions, self.choice.of_class(group)
        surprise = sessions.design @ values - expected
        member = self.members[rows.sessions, group]
        alike = member * calibration_weights(sessions, slates, choice, values, weight, member)
        slope = sessions.slopes(slates, choice, values, weight)
        slope -= sessions.slopes(rows.slate, choice, values, alike)
        corrected = np.add.reduceat(alike * surprise, rows.starts)
        return np.asarray(corrected[: self.evidence]), slope

    def _slates(self, target: Target) -> Slates:
        """The target's slates (R, K) at each row; for a random policy one draw."""
        if isinstance(target, ScoringPolicy):
            return replace(self.sessions, rows=self.fitted).slates(target.scorer)
        rng, rows = np.random.Generator(np.random.SFC64(0)), self.fitted
        found = [target.act(rows.observation(block), rng)[0] for block in rows.blocks()]
        return np.concatenate(found)
