"""Estimates from logs of single decisions, where one candidate is seen and its reward follows.

Importance weights w = target's probability / propensity correct for the logs' preferences, and a
reward model subtracts what can be predicted (Dudík, Langford and Li 2011, "Doubly Robust Policy
Evaluation and Learning", equation 2): model + w × (reward − model). The model for a session is
fitted on the other four of five folds, without the session and others of its visitor, so that the
model's errors are independent of the session's reward.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import Observation
from slateflow.evaluation.off_policy.column_balance import ColumnGroups
from slateflow.evaluation.off_policy.contributions import Contributions, rare
from slateflow.evaluation.off_policy.decision_model import DecisionModel
from slateflow.evaluation.off_policy.earlier_visits import Visits, all_offered
from slateflow.evaluation.off_policy.logging_policies import (
    LoggingPolicies,
    evidence_parts,
    require_two,
)
from slateflow.evaluation.off_policy.overlap import (
    CheckedWeights,
    ItemBalance,
    NoVerdict,
    Overlap,
    Unbalanced,
)
from slateflow.evaluation.off_policy.repeated_choices import RepeatedChoices
from slateflow.evaluation.off_policy.visitors import Visitors
from slateflow.evaluation.off_policy.weighted_rows import WeightedRows
from slateflow.policies.base import SlateDistribution
from slateflow.policies.scorer import products_with
from slateflow.shared_rows import at_rows, distinct
from slateflow.trajectories import Dataset, Trajectories
from slateflow.trajectories.held_out import parts_and_held_out
from slateflow.user_models.support import logged_support

Array = NDArray[np.float64]

DR_FOLDS = 5
"""Folds of the visitors, or of the rows; the model for each is fitted to the others."""

MOST_TIMES = 2
"""Ratio of items to candidates up to which all items are rated and then looked up."""

DECISION_NUMBERS = 2**22
"""Most numbers of an array in memory."""

SAMPLE_ROWS = 20_000
"""Approximate number of rows in the sample for the support and for grouping users."""


@dataclass(frozen=True)
class _Block:
    """B logged decisions.

    Attributes:
        observation: Input of the policies.
        user: (B, U) columns of the user.
        offered: (B, N) numbers of the items on offer.
        shown: (B, 1) position of the shown item.
        reward: (B,) logged rewards.
        factor: (B,) 1 / propensity.
        predicted: (B, N) the model's rewards.
        of_shown: (B,) the model's rewards for the shown items.
        visitor: (B,) numbers of the visitors; None where they are unknown.
        asked: (B,) whether the columns of a row's user are checked.
    """

    observation: Observation
    user: NDArray[np.floating]
    offered: NDArray[np.integer]
    shown: NDArray[np.integer]
    reward: Array
    factor: Array
    predicted: Array
    of_shown: Array
    visitor: NDArray[np.intp] | None
    asked: NDArray[np.bool_]


class _OfTarget:
    """Weights, predictions and balances of one target, row by row.

    Args:
        groups: Groups of users.
        empty: Balance of no rows.

    Attributes:
        blocks: (2, B) weights and predictions, by block.
        likeliest: The target's largest probability.
        balance: Balance of all items.
        by_column: Balances of the items, by users' columns.
    """

    def __init__(self, groups: ColumnGroups, empty: ItemBalance) -> None:
        self.groups, self.empty, self.balance = groups, empty, empty
        self.by_column, self.likeliest = groups.empty, 0.0
        self.blocks: list[Array] = []

    def add(self, rows: _Block, probability: Array) -> None:
        """Add rows, with the target's probabilities (B, N)."""
        weight = np.take_along_axis(probability, rows.shown, axis=1)[:, 0] * rows.factor
        self.blocks.append(np.stack([weight, (probability * rows.predicted).sum(axis=1)]))
        self.likeliest = max(self.likeliest, float(probability.max()))
        if not self.groups.items:
            return
        self.balance += ItemBalance.of(
            rows.offered, rows.shown, probability, rows.factor, self.empty, rows.visitor
        )
        self.by_column = self.groups.add(
            self.by_column,
            rows.user[rows.asked],
            at_rows(rows.offered, rows.asked),
            rows.shown[rows.asked],
            probability[rows.asked],
            rows.factor[rows.asked],
        )


class _Logged:
    """Logged rewards, and the factors that turn probabilities into weights, row by row.

    Attributes:
        blocks: (2, B) rewards, and rewards predicted for the shown items, by block.
        rarest: Largest factor.
        powers: Sum of the factors, and of their squares.
    """

    def __init__(self) -> None:
        self.blocks: list[Array] = []
        self.rarest, self.powers = 0.0, np.zeros(2)

    def add(self, rows: _Block) -> None:
        """Add rows."""
        self.blocks.append(np.stack([rows.reward, rows.of_shown]))
        self.rarest = max(self.rarest, float(rows.factor.max()))
        self.powers += rows.factor.sum(), np.square(rows.factor).sum()

    def of_one(self, target: _OfTarget) -> float:
        """Average weight of a row that shows the target's choice."""
        return float(target.likeliest * target.balance.kept * self.powers[1] / self.powers[0])


class SingleSteps:
    """Logged decisions, prepared for any number of targets.

    Args:
        dataset: Logs of sessions of one step, in which users see one candidate.
        held_out_only: Whether only the held-out sessions are evidence.

    Raises:
        InputError: There are fewer than two sessions.
    """

    def __init__(self, dataset: Dataset, *, held_out_only: bool) -> None:
        self.dataset, self.held_out_only = dataset, held_out_only
        self.modelled = DecisionModel.of(dataset.spec, dataset.catalogue)
        self.logging = LoggingPolicies.of(dataset)
        folds = [self.modelled.sums(dataset.catalogue) for _ in range(DR_FOLDS)]
        by_policy: Counter[str] = Counter()
        explored: set[str] = set()
        chose: set[str] = set()
        visits: list[Visits] = []
        self.all_offered = True
        choices: list[RepeatedChoices] = []
        start = 0
        for part, every, held_out in parts_and_held_out(dataset):
            choices.append(RepeatedChoices.of(every, held_out if held_out_only else None))
            policy, rows = part.policy, every.where(held_out) if held_out_only else every
            by_policy[policy] += len(rows)
            visited = Visits.of(rows)
            visits += [] if visited is None else [visited]
            self.all_offered &= all_offered(rows)
            if (rows.propensity < 1).any():
                explored.add(policy)
            if (rows.offered > 1).any():
                chose.add(policy)
            known = self.modelled.known(rows)
            for fold in range(DR_FOLDS):
                some = known.where(_folds(rows, start) == fold)
                folds[fold] += folds[fold].from_rows(some, self.modelled)
            start += len(rows)
        self.rows = sum(fold.rows for fold in folds)
        require_two(self.rows, dataset, held_out_only=held_out_only)
        self.choices = RepeatedChoices.joined(choices)
        self.visits = Visits.joined(visits) if visits else None
        self.visitors = Visitors.of(None if self.visits is None else self.visits.visitor)
        explored |= set(by_policy) - chose
        self.factors = {} if self.logging.policies else _explorers(by_policy, explored)
        self.weights = self.modelled.weights(folds, dataset.catalogue)  # (DR_FOLDS, 1 + U, 1 + D)

    def evaluate(
        self, targets: Mapping[str, SlateDistribution]
    ) -> tuple[Contributions, dict[str, tuple[WeightedRows, Overlap]], NoVerdict | None]:
        """Weights, predictions and overlap of each target, in one pass over the rows.

        Returns:
            Contributions of the logging policies, which are the rewards; weighted rows and overlap
            by target; and a refusal if these logs cannot evaluate any policy.
        """
        items = 0 if self.dataset.catalogue is None else len(self.dataset.catalogue)
        groups, empty = self._column_groups(items), ItemBalance.none(items, self.visitors.count)
        passed, logged = {name: _OfTarget(groups, empty) for name in targets}, _Logged()
        for block in self._blocks(groups.every):
            logged.add(block)
            for name, target in targets.items():
                passed[name].add(block, target.first_place(block.observation))
        unseen = self.unsupported(targets)
        reward, of_shown = np.concatenate(logged.blocks, axis=1)
        found = {}
        for name in targets:
            one = passed.pop(name)
            weight, of_target = np.concatenate(one.blocks, axis=1)
            weighted = WeightedRows(weight, reward, of_shown, of_target, logged.of_one(one))
            found[name] = weighted, self._overlap(one, weighted, unseen[name], logged.rarest)
        logs = WeightedRows(np.ones(len(reward)), reward, of_shown, of_shown).dr()
        return logs, found, self._unfit(reward, of_shown)

    def _overlap(
        self, target: _OfTarget, weighted: WeightedRows, unseen: float, rarest: float
    ) -> Overlap:
        """The overlap of the logs with a target.

        Args:
            target: The target's sums over all rows.
            weighted: Its weights and predictions.
            unseen: Share of its choices that the logs hardly show.
            rarest: Largest factor that turns a probability into a weight.
        """
        weight, kept = weighted.weight, target.balance.kept
        unbalanced = self._named(target.balance.worst(kept))
        if unbalanced is None:
            unbalanced = target.groups.worst(target.by_column, kept, self._ids)
        checked = self.visitors.sums(Contributions(weight))
        return Overlap.of_weights(
            weight,
            self.visitors.totals(weight * weighted.reward),
            unseen,
            CheckedWeights(checked, target.likeliest * rarest * kept),
            unbalanced,
            skewness=weighted.skewness,
            events=rare(weighted.reward),
        )

    def _unfit(self, reward: Array, of_shown: Array) -> NoVerdict | None:
        """The refusal if logs with these rewards (R,) and predictions (R,) cannot be used."""
        unfit = self.visitors.refusal() or self.choices.refusal()
        if unfit is None and self.visits is not None:
            offered = None if self.all_offered else self._offered()
            unfit = self.visits.refusal((reward - of_shown)[:, None], of_shown[:, None], offered)
        return unfit

    def _offered(self) -> Iterator[NDArray[np.integer]]:
        """Items (B, N) on offer, in blocks of rows."""
        for _, _, rows in self._parts():
            yield from (rows.candidates[block] for block in _slices(rows))

    def _blocks(self, every: int) -> Iterator[_Block]:
        """The rows in blocks; `asked` has every `every`-th row."""
        numbers = self.visitors.number
        for policy, start, rows in self._parts():
            factor, folds = self.factors.get(policy, 1.0), _folds(rows, start)
            for block in _slices(rows):
                shown, first = rows.slate[block, :1], start + block.start
                predicted = self._predicted(rows, block, folds[block])
                yield _Block(
                    observation=rows.observation(block),
                    user=rows.user[block],
                    offered=rows.candidates[block],
                    shown=shown,
                    reward=rows.reward[block].astype(np.float64),
                    factor=factor / self.logging.first_places(rows, block),
                    predicted=predicted,
                    of_shown=np.take_along_axis(predicted, shown, axis=1)[:, 0],
                    visitor=None if numbers is None else numbers[first:][: len(shown)],
                    asked=(first + np.arange(len(shown))) % every == 0,
                )

    def _named(self, item: tuple[int, float, float] | None) -> Unbalanced | None:
        """The unbalanced item, named by its id in the logs."""
        if item is None:
            return None
        number, found, expected = item
        return Unbalanced(f"item {self._ids[number] if self._ids else number}", found, expected)

    @property
    def _ids(self) -> tuple[str, ...] | None:
        """Ids of the items in the logs; None without an encoding."""
        encoding = self.dataset.encoding
        return None if encoding is None else encoding.items

    def _column_groups(self, items: int) -> ColumnGroups:
        """Groups of users by their columns, with the quarters of a sample of rows."""
        spec, some = self.dataset.spec, self._some_rows
        names = getattr(spec, "user_features", [f"column {n}" for n in range(spec.user_size)])
        offered = some.candidates.shape[1]
        return ColumnGroups.of(names, some.user, items, self.rows, offered)

    @cached_property
    def _some_rows(self) -> Trajectories:
        """Every n-th row, about `SAMPLE_ROWS` rows."""
        every, kept = max(self.rows // SAMPLE_ROWS, 1), []
        for _, start, rows in self._parts():
            kept.append(rows.where((start + np.arange(len(rows))) % every == 0))
        return Trajectories.from_parts(kept)

    def _parts(self) -> Iterator[tuple[str, int, Trajectories]]:
        """Policy, number of the first row, and rows of each part."""
        start = 0
        for policy, rows in evidence_parts(self.dataset, held_out_only=self.held_out_only):
            yield policy, start, rows
            start += len(rows)

    def _predicted(self, rows: Trajectories, block: slice, fold: NDArray[np.integer]) -> Array:
        """(B, N) rewards of the candidates, by the model of the row's fold (B,)."""
        sizes = self.modelled
        user, items = rows.user[block, : sizes.user_size], rows.candidates[block]
        predicted = np.empty(items.shape[:2])
        if rows.catalogue is not None and len(rows.catalogue) <= MOST_TIMES * items.shape[1]:
            for number, weights in enumerate(self.weights):
                own = fold == number
                of_candidate = weights[0] + user[own] @ weights[1:]
                of_items = of_candidate[:, :1] + self._with_items(of_candidate[:, 1:])  # (B, M)
                shown = np.maximum(at_rows(items, own), 0)  # padding is not a candidate
                predicted[own] = np.take_along_axis(of_items, shown, axis=1)
            return predicted
        candidates = rows.candidate_features(block)[:, :, : sizes.document_size]
        for number, weights in enumerate(self.weights):
            own = fold == number
            of_candidate = weights[0] + user[own] @ weights[1:]  # (B, 1 + D)
            predicted[own] = (
                of_candidate[:, :1] + np.matmul(candidates[own], of_candidate[:, 1:, None])[:, :, 0]
            )
        return predicted

    @cached_property
    def _with_items(self) -> Callable[[Array], Array]:
        """A function from weights (B, D) to their products (B, M) with all items' features."""
        catalogue, size = self.dataset.catalogue, self.modelled.document_size
        return products_with(
            np.zeros((0, size)) if catalogue is None else catalogue.features[:, :size]
        )

    def unsupported(self, targets: Mapping[str, SlateDistribution]) -> dict[str, float]:
        """The share of each target's choices that the logs hardly show."""
        rows = self._some_rows
        support = logged_support(rows)
        sums = dict.fromkeys(targets, 0.0)
        for block in _slices(rows):
            observation = rows.observation(block)
            candidates = distinct(observation["candidates"])
            hardly = support.hardly_seen(np.asarray(candidates, np.float64))
            for name, target in targets.items():
                sums[name] += float((target.first_place(observation) * hardly).sum())
        return {name: total / len(rows) for name, total in sums.items()}


def _slices(rows: Trajectories) -> Iterable[slice]:
    size = max(1, DECISION_NUMBERS // (rows.candidates.shape[1] + rows.scored_numbers))
    return (slice(first, first + size) for first in range(0, len(rows), size))


def _folds(rows: Trajectories, start: int) -> NDArray[np.integer]:
    """(R,) folds of rows from the number `start` on; those of a visitor are in one."""
    if rows.visitor is None:
        return np.arange(start, start + len(rows)) % DR_FOLDS
    return rows.visitor % DR_FOLDS


def _explorers(by_policy: Mapping[str, int], explored: set[str]) -> dict[str, float]:
    """Factors of the weights by policy, where some policies explore and others never do.

    Rows of a policy that always shows the same item contain nothing about other policies. They get
    no weight, and rows of the exploring policies represent them. That is right where chance decides
    which policy a user meets.
    """
    if not explored:
        return {}
    share = sum(by_policy[policy] for policy in explored) / sum(by_policy.values())
    return {policy: 1 / share if policy in explored else 0.0 for policy in by_policy}
