"""SlateQ from logs: a learnt choice model, and values of items by least-squares policy iteration.

`user_models.item_values` solves for the values (Ie et al. 2019, "SlateQ"; Lagoudakis and Parr 2003,
"Least-Squares Policy Iteration"). The first policy is greedy on the logged returns, and each later
one on the values of the policy before it. Values that would grow from step to step have fewer
features, and are discounted if they would still grow.

Where users click less, or more, on items that are like the rest of the slate, according to held-out
sessions, the choice model and the slates take it into account. The choice model also bends where
tastes bend with the log-odds or the affinity, or along sums of columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.learners.config import (
    Count,
    CountOrZero,
    Curves,
    LearnerConfig,
    NonNegative,
    Trained,
)
from slateflow.learners.passes import over_parts, sampled
from slateflow.learners.search_space import OneOf, Range, Space
from slateflow.policies import Slates, top_slates
from slateflow.policies.slate_choice import ChoiceModel
from slateflow.policies.slate_scorer import SlateScorer
from slateflow.progress import Progress
from slateflow.shared_rows import distinct
from slateflow.trajectories import Dataset, Trajectories
from slateflow.trajectories.schema import blocks
from slateflow.trajectories.variation import check_variation
from slateflow.user_models.bilinear import MOST_BILINEAR_FEATURES, feature_count, places_seen
from slateflow.user_models.choice_model import fit_choice_model
from slateflow.user_models.choices import Choices, SlateFeatures
from slateflow.user_models.item_values import ITEMS_RIDGE, ItemValues, Members
from slateflow.user_models.nonlinear_choices import with_bends
from slateflow.user_models.policy_gain import gain
from slateflow.user_models.sessions import Rows, Sessions
from slateflow.user_models.slate_columns import (
    SlateColumns,
    chosen_columns,
    few_sessions,
    likeness_matters,
    seen_in,
)
from slateflow.validation import validated

Array = NDArray[np.float64]
Result = TypeVar("Result")

SLATEQ_ROWS_PER_TERM = 20
"""Fewest logged slates per term of the values where clicks bend."""

LIKENESS_BEYOND_CHANCE = 3.0
"""Standard errors by which likeness has to matter in held-out sessions. Slates are made by it, and
are worse if it is only a proxy for what the columns miss."""

GAIN_BEYOND_CHANCE = 1.645
"""Standard errors by which values have to earn more than equal ones. Without any gain, 1 in 20 logs
exceeds that."""

MOST_MATCHING = 200
"""Most matching features of users and items, such as interests and topics, in logs from which it
learns by default. Values have a dozen terms for each."""

CHOICE_NUMBERS = 100_000_000
"""Most features of shown items in memory where users' choices are learnt."""

SAMPLE_ROWS = 200_000
"""Most rows in memory; with more, a sample of sessions chooses the model of clicks, and the parts
are read at every iteration."""


@validated
class SlateQConfig(LearnerConfig):
    """Values of items and a choice model, by least-squares policy iteration (Ie et al. 2019)."""

    learner: ClassVar[str] = "slateq"
    user_chooses: ClassVar[bool | None] = True
    search_space: ClassVar[Space] = {
        "ridge": Range(1e-3, 1e2, log=True),
        "classes": OneOf((1, 2, 4)),
        "iterations": OneOf((1, 3, 10)),
    }

    iterations: Count = 10
    """Most policy iterations."""
    tolerance: NonNegative = 1e-4
    """Relative change of the values at which the iteration ends."""
    ridge: NonNegative = 0.0
    """Precision of the prior on the weights; with 0 the logs choose one for each group of them."""
    classes: CountOrZero = 0
    """Latent classes of users in the choice model; with 0 the sessions choose the number, and it is
    one for single decisions, where no memory distinguishes classes."""
    construction: Literal["optimal", "greedy", "top-k"] = "optimal"
    """Method of composing a slate: `optimal`, `greedy` or `top-k`."""

    @classmethod
    def holds(cls, spec: EnvironmentSpec) -> bool:
        """True if products of the users' columns and the items' are few enough."""
        if spec.features_match:
            return spec.document_size <= MOST_MATCHING
        return feature_count(spec, limit=None) <= MOST_BILINEAR_FEATURES

    def train(
        self, dataset: Dataset, seed: int, progress: Progress, checkpoints: Path | None
    ) -> Trained:
        """Fit the choice model, then iterate; the curve is the change in the values."""
        spec = dataset.spec
        sample = _to_places_seen(spec, sampled(dataset, SAMPLE_ROWS, _check_finite))
        check_variation(sample)
        view = self._view(spec, sample)
        some = view.sessions(sample)
        classes = self._values(dataset, view, some[0].past.shape[1])
        curves = Curves()
        for done in range(1, self.iterations + 1):
            change = max(one.follow(GreedySlates.by(one, spec, view.features)) for one in classes)
            curves.add("value_change", change)
            progress(done, self.iterations)
            if change < self.tolerance:
                break
        for one in classes:
            one.shrink()
        classes = _beyond_chance(classes, view, *some)
        values = [np.stack(part) for part in zip(*(one.parts for one in classes), strict=True)]
        scorer = replace(
            _scorer(spec, view.choice, values, view.features),
            construction=self.construction,
            user_columns=view.columns.user if view.columns else None,
            item_columns=view.columns.item if view.columns else None,
        )
        return Trained(scorer, curves)

    def _view(self, spec: EnvironmentSpec, sample: Trajectories) -> _View:
        """Columns, features and the choice model, by a sample of the rows."""
        columns = chosen_columns(sample, spec.features_match, SLATEQ_ROWS_PER_TERM)
        seen = seen_in(columns, sample)
        users, items = seen.user.shape[1], seen.candidate_features(slice(1)).shape[2]
        own = spec.user_size, spec.document_size
        features = with_bends(seen, SlateFeatures(spec.features_match), own)
        alike = likeness_matters(seen, features, LIKENESS_BEYOND_CHANCE)
        features = replace(features, alike=alike)
        groups = features.groups(users, items, places_seen(spec))
        few = few_sessions(seen, CHOICE_NUMBERS // len(groups.numbers))
        choices = Choices.from_rows(few, features)
        wanted = self.classes or int(spec.horizon == 1)
        choice = fit_choice_model(choices, wanted, self.ridge or groups)
        of_items = groups.numbers[features.beside(users) :]
        if self.ridge:
            of_items = np.zeros_like(of_items)
        return _View(spec, columns, choice, features, users, of_items)

    def _values(self, dataset: Dataset, view: _View, past: int) -> list[ItemValues]:
        """The values for each class of users, initially by the logged returns.

        `past` is the number of sums over the session so far.
        """
        map_parts = over_parts(dataset, view.sessions, keep=dataset.rows <= SAMPLE_ROWS)
        ridge = self.ridge or ITEMS_RIDGE

        def of_class(group: int) -> ItemValues:
            def map_members(function: Callable[[Members], Result]) -> Iterable[Result]:
                return map_parts(partial(_of_class, function, group))

            choice = view.choice.of_class(group)
            return ItemValues(map_members, choice, view.of_items, ridge, view.user_size, past)

        return [of_class(group) for group in range(len(view.choice.shares))]


def _beyond_chance(
    classes: list[ItemValues], view: _View, sessions: Sessions, member: Array
) -> list[ItemValues]:
    """The values, or those of equal clicks where what the former earn more may be chance.

    Values that differ by chance make worse slates than none. The likeliest click is the best choice
    wherever what users like is what pays. Sessions of R rows decide, with the probabilities (R, G)
    of the classes.
    """
    equal = [one.of_equal_clicks() for one in classes]
    rows, gains = np.arange(len(member)), np.zeros(1)
    for group, pair in enumerate(zip(classes, equal, strict=True)):
        one, other = (
            GreedySlates.by(values, view.spec, view.features)(sessions, rows) for values in pair
        )
        if not np.array_equal(one, other):
            members, (values, _) = Members(sessions, member[:, group]), pair
            gains = gains + gain(members, values.choice, one, other, values.precision)
    error = gains.std(ddof=1) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    return classes if gains.mean() > GAIN_BEYOND_CHANCE * error else equal


def _scorer(
    spec: EnvironmentSpec, choice: ChoiceModel, values: Sequence[Array], features: SlateFeatures
) -> SlateScorer:
    """The scorer that makes the slates of greatest value.

    `values` are the weights (G, …) of clicks, of items and of no click.
    """
    click, item, none = values
    return SlateScorer(
        user_size=spec.user_size,
        document_size=spec.document_size,
        slate_size=spec.slate_size,
        seen=places_seen(spec),
        construction="optimal",
        choice_weights=choice.weights,
        choice_no_click=choice.no_click,
        choice_shares=choice.shares,
        item_values=item,
        click_values=click,
        no_click_values=none,
        features_match=spec.features_match,
        alike=features.alike,
        random=features.random,
        link=features.link,
    )


def _to_places_seen(spec: EnvironmentSpec, rows: Trajectories) -> Trajectories:
    """The rows with slates cut to the places that users see."""
    return replace(rows, slate=rows.slate[:, : places_seen(spec)])


def _check_finite(rows: Trajectories) -> None:
    for name, finite in {
        "user": np.isfinite(rows.user).all(),
        "candidates": all(
            np.isfinite(distinct(rows.candidate_features(block))).all() for block in rows.blocks()
        ),
        "reward": np.isfinite(rows.reward).all(),
    }.items():
        if not finite:
            raise InputError(f"{name}: expected finite numbers, got NaN or infinity")


@dataclass(frozen=True)
class _View:
    """Converts logged rows to sessions and probabilities (R, G) of the classes.

    Attributes:
        spec: The rows' world.
        columns: Columns in place of the logs' own; None for the latter.
        choice: Model of clicks.
        features: Features by which users choose.
        user_size: Number of the user's columns.
        of_items: (P,) groups of the weights of the items' values, 0 for those that are not shrunk.
    """

    spec: EnvironmentSpec
    columns: SlateColumns | None
    choice: ChoiceModel
    features: SlateFeatures
    user_size: int
    of_items: NDArray[np.intp]

    def sessions(self, rows: Trajectories) -> tuple[Sessions, Array]:
        """The sessions, and probabilities (R, G) of the classes, for rows of whole sessions."""
        rows = seen_in(self.columns, _to_places_seen(self.spec, rows))
        choices = Choices.from_rows(rows, self.features)
        # Where no response describes the clicked item, its features do
        sessions = Sessions.from_rows(
            rows, self.spec, self.features, affinities=True, by_clicks=not rows.responses
        )
        return sessions, choices.members(self.choice)


def _of_class(
    function: Callable[[Members], Result], group: int, part: tuple[Sessions, Array]
) -> Result:
    sessions, member = part
    return function(Members(sessions, member[:, group]))


@dataclass(frozen=True)
class GreedySlates:
    """A policy that shows the slates of greatest value.

    Attributes:
        scorer: Scorer for one class of users, on the columns that the sessions have.
    """

    scorer: SlateScorer

    @classmethod
    def by(cls, values: ItemValues, spec: EnvironmentSpec, features: SlateFeatures) -> GreedySlates:
        """The slates of greatest value by the current values."""
        return cls(_scorer(spec, values.choice, [part[None] for part in values.parts], features))

    def __call__(self, sessions: Sessions, block: Rows) -> Slates:
        """Slates (B, K) at some rows (B,), computed together for equal numbers of candidates."""
        rows = sessions.rows
        offered, found = rows.offered[block], np.empty((len(block), rows.slate.shape[1]), np.int32)
        for count in np.unique(offered):
            same = np.flatnonzero(offered == count)
            for part in blocks(len(same), count * self.scorer.choice_weights.shape[1]):
                found[same[part]] = self._best(rows, block[same[part]], count)
        return found

    def _best(self, rows: Trajectories, block: Rows, count: int) -> Slates:
        candidates = rows.candidate_features(block)[:, :count]
        scores = self.scorer.scores(rows.user[block], rows.step[block], candidates)
        return top_slates(scores, rows.slate.shape[1])
