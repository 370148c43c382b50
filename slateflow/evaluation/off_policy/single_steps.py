"""Estimates from logs of single decisions, where one candidate is seen and its reward follows.

Importance weights w = target's probability / propensity correct for what the logs preferred, and a
model of the reward takes out what can be predicted (Dudík, Langford and Li 2011, "Doubly Robust
Policy Evaluation and Learning", equation 2): model + w × (reward − model). The model of a session
is fitted without it, and without others of its visitor, on the other four of five folds, so that
its errors are independent of the session's reward.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.column_balance import ColumnGroups
from slateflow.evaluation.off_policy.contributions import Contributions, WeightedErrors, rare
from slateflow.evaluation.off_policy.decision_model import DecisionModel
from slateflow.evaluation.off_policy.earlier_visits import Visits
from slateflow.evaluation.off_policy.logging_policies import (
    LoggingPolicies,
    evidence_parts,
    require_two,
)
from slateflow.evaluation.off_policy.overlap import ItemBalance, NoVerdict, Overlap, Unbalanced
from slateflow.evaluation.off_policy.repeated_choices import RepeatedChoices
from slateflow.evaluation.off_policy.visitors import Visitors
from slateflow.policies.base import SlateDistribution
from slateflow.policies.scorer import products_with
from slateflow.shared_rows import at_rows, distinct
from slateflow.trajectories import Dataset, Trajectories
from slateflow.user_models.support import logged_support

Array = NDArray[np.float64]

FOLDS = 5
MOST_TIMES = 2
"""Times as many items as candidates that are all rated, and looked up then."""

BLOCK_NUMBERS = 2**22
"""Numbers of the largest array in memory."""

SOME_ROWS = 20_000
"""Rows in which the target's choices are looked up in the support, and by which users are grouped,
about."""


@dataclass(frozen=True)
class WeightedRows(Mapping[str, Contributions]):
    """Weights and predictions of E logged decisions for a target policy.

    It maps each estimator to its contributions, which are made at every look.

    Attributes:
        weight: (E,) the target's probability of what was shown / its propensity.
        reward: (E,).
        shown: (E,) the model's reward of what was shown.
        target: (E,) the model's reward of what the target shows, in expectation.
        one_weight: Weight of a row that shows what the target does, on average.
    """

    weight: Array
    reward: Array
    shown: Array
    target: Array
    one_weight: float = 0.0

    def __getitem__(self, estimator: str) -> Contributions:
        return ESTIMATORS[estimator](self)

    def __contains__(self, estimator: object) -> bool:
        return estimator in ESTIMATORS

    def __iter__(self) -> Iterator[str]:
        return iter(ESTIMATORS)

    def __len__(self) -> int:
        return len(ESTIMATORS)

    @property
    def skewness(self) -> float:
        """Skewness of the estimate, as far as its interval does not count it as that of events.

        A log in which a large reward happens to be missing has a small skewness and a low estimate
        by the rows that the target would show, so the rewards of all rows tell it: they are taken
        to be as skewed under the target. Of the weights there is one more of the largest. Gamma
        intervals allow for the skewness of events of one size.
        """
        reward, weight = self.reward, np.append(self.weight, self.weight.max())
        error = reward if (events := rare(reward)) else reward - self.shown
        size = float(np.sqrt(np.square(error).mean()))
        total = float(np.sqrt(np.square(weight).sum()))
        if not size or not total:
            return 0.0
        skewed = abs(float((error**3).mean())) / size**3
        if events:
            skewed -= size / float(error.mean())
        return float(skewed * (weight**3).sum() / total**3)

    def dm(self) -> Contributions:
        """The direct method: the model alone."""
        return self._weighted(self.target, np.zeros(len(self.weight)))

    def ips(self) -> Contributions:
        """Inverse propensity scores (Horvitz and Thompson 1952)."""
        return self._weighted(self.weight * self.shown, self.weight)

    def snips(self) -> Contributions:
        """Weights divided by their mean (Swaminathan and Joachims 2015), linearised."""
        mean = self.weight.mean() or 1.0
        value = float((self.weight * self.reward).mean() / mean)
        weight = self.weight / mean
        return self._weighted(value - value * weight + weight * self.shown, weight)

    def dr(self) -> Contributions:
        """Doubly robust.

        Its weights have a mean of 1. Where they happen to have less, what is missing rests on the
        model alone, and no row shows how far that errs: it counts as errors like those of all rows.
        """
        missing = max(1 - float(self.weight.mean()), 0.0) * self.one_weight
        return self._weighted(self.target, self.weight, missing)

    def dr_os(self) -> Contributions:
        """Doubly robust with weights that are shrunk optimistically, λ w / (w² + λ).

        λ is where the bound on squared bias + variance is least (Su et al. 2020, "Doubly robust
        off-policy evaluation with shrinkage", sections 3.2 and 4).
        """
        error, weight = self.reward - self.shown, self.weight
        largest = max(float(weight.max()), 1.0)

        def bound(limit: float) -> float:
            shrunk = limit * weight / (np.square(weight) + limit)
            bias = float(((shrunk - weight) * error).mean())
            return bias**2 + float((self.target + shrunk * error).var()) / len(weight)

        limits = [*np.geomspace(1e-2, largest**2 * 100, 30).tolist(), np.inf]
        best = min(limits[:-1], key=bound)
        if bound(limits[-2]) <= bound(best):
            return self.dr()
        return self._weighted(self.target, best * weight / (np.square(weight) + best))

    def _weighted(self, model: Array, weight: Array, missing: float = 0.0) -> Contributions:
        """The model's part (E,) and the errors of its rewards, weighted (E,)."""
        return _weighted(model, weight, self.reward, self.shown, missing)


ESTIMATORS: dict[str, Callable[[WeightedRows], Contributions]] = {
    "ips": WeightedRows.ips,
    "snips": WeightedRows.snips,
    "dm": WeightedRows.dm,
    "dr": WeightedRows.dr,
    "dr-os": WeightedRows.dr_os,
}


class SingleSteps:
    """Logged decisions, prepared for any number of targets.

    Args:
        dataset: Logs of sessions of one step, in which users see one candidate.
        held_out_only: Whether the held-out sessions alone are evidence.

    Raises:
        InputError: There are fewer than two.
    """

    def __init__(self, dataset: Dataset, held_out_only: bool) -> None:
        self.dataset, self.held_out_only = dataset, held_out_only
        self.modelled = DecisionModel.of(dataset.spec, dataset.catalogue)
        self.logging = LoggingPolicies.of(dataset)
        folds = [self.modelled.sums(dataset.catalogue) for _ in range(FOLDS)]
        by_policy: Counter[str] = Counter()
        explored: set[str] = set()
        chose: set[str] = set()
        visits: list[Visits] = []
        choices: list[RepeatedChoices] = []
        for policy, start, rows in self._parts():
            by_policy[policy] += len(rows)
            visited = Visits.of(rows)
            visits += [] if visited is None else [visited]
            choices.append(RepeatedChoices.of(rows))
            if (rows.propensity < 1).any():
                explored.add(policy)
            if (rows.offered > 1).any():
                chose.add(policy)
            known = self.modelled.known(rows)
            for fold in range(FOLDS):
                some = known.where(_folds(rows, start) == fold)
                folds[fold] += folds[fold].from_rows(some, self.modelled)
        self.rows = sum(fold.rows for fold in folds)
        require_two(self.rows, dataset, held_out_only)
        self.choices = RepeatedChoices.joined(choices)
        self.visits = Visits.joined(visits) if visits else None
        self.visitors = Visitors.of(None if self.visits is None else self.visits.visitor)
        explored |= set(by_policy) - chose
        self.factors = {} if self.logging.policies else _explorers(by_policy, explored)
        self.weights = self.modelled.weights(folds, dataset.catalogue)  # (FOLDS, 1 + U, 1 + D)

    def evaluate(
        self, targets: Mapping[str, SlateDistribution]
    ) -> tuple[Contributions, dict[str, tuple[WeightedRows, Overlap]], NoVerdict | None]:
        """Weights, predictions and overlap of each target, in one pass over the rows.

        Returns:
            Contributions of the logging policies, which are the rewards; those by target; and why
            nobody can be judged by these logs, if so.
        """
        blocks: dict[str, list[Array]] = {name: [] for name in targets}
        logged: list[Array] = []
        items = 0 if self.dataset.catalogue is None else len(self.dataset.catalogue)
        visitors, numbers = self.visitors, self.visitors.number
        empty = ItemBalance.none(items, visitors.count)
        balances = dict.fromkeys(targets, empty)
        groups = self._column_groups(items)
        by_column = dict.fromkeys(targets, groups.empty)
        likeliest, rarest = dict.fromkeys(targets, 0.0), 0.0
        powers = np.zeros(2)  # sums of the factors, and of their squares
        for policy, start, rows in self._parts():
            factor = self.factors.get(policy, 1.0)
            for block in _blocks(rows):
                observation = rows.observation(block)
                predicted = self._predicted(rows, block, _folds(rows, start)[block])
                shown, reward = rows.slate[block, :1], rows.reward[block].astype(np.float64)
                factors = factor / self.logging.first_places(rows, block)
                rarest = max(rarest, float(factors.max()))
                powers += factors.sum(), np.square(factors).sum()
                number = None if numbers is None else numbers[start:][: len(rows)][block]
                asked = (start + np.arange(len(rows))[block]) % groups.every == 0
                of_shown = np.take_along_axis(predicted, shown, axis=1)[:, 0]
                logged.append(np.stack([reward, of_shown]))
                for name, target in targets.items():
                    probability = target.first_place(observation)
                    weight = np.take_along_axis(probability, shown, axis=1)[:, 0] * factors
                    of_target = (probability * predicted).sum(axis=1)
                    likeliest[name] = max(likeliest[name], float(probability.max()))
                    blocks[name].append(np.stack([weight, of_target]))
                    if items:
                        offered = rows.candidates[block]
                        balances[name] += ItemBalance.of(
                            offered, shown, probability, factors, empty, number
                        )
                        by_column[name] = groups.add(
                            by_column[name],
                            rows.user[block][asked],
                            at_rows(offered, asked),
                            shown[asked],
                            probability[asked],
                            factors[asked],
                        )
        unseen = self.unsupported(targets)
        reward, of_shown = np.concatenate(logged, axis=1)
        found = {}
        for name in targets:
            weight, of_target = np.concatenate(blocks.pop(name), axis=1)
            balance, kept = balances[name], balances[name].kept
            one_weight = float(likeliest[name] * kept * powers[1] / powers[0])
            weighted = WeightedRows(weight, reward, of_shown, of_target, one_weight)
            unbalanced = self._named(balance.worst(kept))
            if unbalanced is None:
                unbalanced = groups.worst(by_column[name], kept, self._ids)
            overlap = Overlap.of_weights(
                weight,
                visitors.totals(weight * reward),
                unseen[name],
                unbalanced,
                checked=visitors.sums(Contributions(weight)),
                largest=likeliest[name] * rarest * kept,
                skewness=weighted.skewness,
                events=rare(reward),
            )
            found[name] = weighted, overlap
        logs = _weighted(of_shown, np.ones(len(reward)), reward, of_shown)
        unfit = visitors.refusal() or self.choices.refusal()
        if unfit is None and self.visits is not None:
            unfit = self.visits.refusal((reward - of_shown)[:, None], of_shown[:, None])
        return logs, found, unfit

    def _named(self, item: tuple[int, float, float] | None) -> Unbalanced | None:
        """The item by its id in the logs."""
        if item is None:
            return None
        number, found, expected = item
        return Unbalanced(f"item {self._ids[number] if self._ids else number}", found, expected)

    @property
    def _ids(self) -> tuple[str, ...] | None:
        """Of the items, in the logs."""
        encoding = self.dataset.encoding
        return None if encoding is None else encoding.items

    def _column_groups(self, items: int) -> ColumnGroups:
        """Users by their columns, whose quarters are those of some rows."""
        spec, some = self.dataset.spec, self._some_rows
        names = getattr(spec, "user_features", [f"column {n}" for n in range(spec.user_size)])
        offered = some.candidates.shape[1]
        return ColumnGroups.of(names, some.user, items, self.rows, offered)

    @cached_property
    def _some_rows(self) -> Trajectories:
        """Every so many rows, about `SOME_ROWS`."""
        every, kept = max(self.rows // SOME_ROWS, 1), []
        for _, start, rows in self._parts():
            kept.append(rows.where((start + np.arange(len(rows))) % every == 0))
        return Trajectories.from_parts(kept)

    def _parts(self) -> Iterator[tuple[str, int, Trajectories]]:
        """Policy, number of the first row, and rows."""
        start = 0
        for policy, rows in evidence_parts(self.dataset, self.held_out_only):
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
                shown = np.maximum(at_rows(items, own), 0)  # places that fill up are no candidates
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
        """The products of weights (B, D) with the features of all items, (B, M)."""
        catalogue, size = self.dataset.catalogue, self.modelled.document_size
        return products_with(
            np.zeros((0, size)) if catalogue is None else catalogue.features[:, :size]
        )

    def unsupported(self, targets: Mapping[str, SlateDistribution]) -> dict[str, float]:
        """Of each target the share of its choices that the logs have hardly seen."""
        rows = self._some_rows
        support = logged_support(rows)
        sums = dict.fromkeys(targets, 0.0)
        for block in _blocks(rows):
            observation = rows.observation(block)
            candidates = distinct(observation["candidates"])
            hardly = support.hardly_seen(np.asarray(candidates, np.float64))
            for name, target in targets.items():
                sums[name] += float((target.first_place(observation) * hardly).sum())
        return {name: total / len(rows) for name, total in sums.items()}


def _blocks(rows: Trajectories) -> Iterable[slice]:
    size = max(1, BLOCK_NUMBERS // (rows.candidates.shape[1] + rows.scored_numbers))
    return (slice(first, first + size) for first in range(0, len(rows), size))


def _folds(rows: Trajectories, start: int) -> NDArray[np.integer]:
    """(R,) folds of rows from the number `start` on; those of a visitor are in one."""
    if rows.visitor is None:
        return np.arange(start, start + len(rows)) % FOLDS
    return rows.visitor % FOLDS


def _weighted(
    model: Array, weight: Array, reward: Array, shown: Array, missing: float = 0.0
) -> Contributions:
    """Contributions model + weight × (reward − shown), all of them (E,)."""
    errors = WeightedErrors(weight, reward - shown, reward, missing)
    return Contributions.of(model - weight * shown, weight * reward, reward, errors)


def _explorers(by_policy: Mapping[str, int], explored: set[str]) -> dict[str, float]:
    """Factors of the weights by policy, where some never explore and others do.

    A policy that always shows the same says nothing about others: its rows have no weight, and
    those of the others stand for them. That is right where chance decides which policy a user
    meets.
    """
    if not explored:
        return {}
    share = sum(by_policy[policy] for policy in explored) / sum(by_policy.values())
    return {policy: 1 / share if policy in explored else 0.0 for policy in by_policy}
