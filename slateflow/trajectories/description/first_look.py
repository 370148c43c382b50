"""A first look at own logs: sizes, rewards, and how well they represent a random policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slateflow.gate_limits import LEAST_EVENTS, MOST_APART, MOST_DEVIATIONS
from slateflow.policies import uniform_propensities
from slateflow.trajectories.encoding import Column
from slateflow.trajectories.files.dataset import Dataset
from slateflow.trajectories.files.hold_out import HELD_OUT
from slateflow.trajectories.schema import Trajectories
from slateflow.trajectories.sources.days import UNREADABLE, Day
from slateflow.trajectories.sources.lines_passed_by import passed_by_of, told

LEAST_AGREEING_ROWS = 10.0
"""Number of agreeing rows below which hardly any policy can be evaluated: some have no reward."""

LEAST_AGREEING_REWARDS = 1.0
"""Number of agreeing rows with a reward below which a policy has to earn more than `LEAST_EVENTS`
times what others earn, for as many of its rows to have one."""

BY_CHANCE = 1e-6
"""Probability below which an item that is missing at first was not offered then."""

TOLD_APART = (
    "distinguished by their ids, too, because they earn more, or less, than their columns predict"
)
"""Remark on items that have their ids among their features because they differ."""

ITEMS_DIFFER = (
    "they earn more, or less, than their columns predict; for learners to distinguish them, name "
    "their id among the `features` of [items], too, delete this dataset and generate it again"
)
"""Advice where items differ, but do not have their ids among their features."""


@dataclass(frozen=True)
class FirstLook:
    """Figures of all rows, with the importance weights w = uniform probability / propensity.

    The uniform policy shows every slate of the offered candidates equally often. With w a log of N
    rows is worth (Σ w)² / Σ w² rows of that policy (Kish), and its rewards (Σ |w r|)² / Σ (w r)².

    Another policy is evaluated on the held-out rows that happen to show its choices. Two draws of
    one policy agree with probability Σ p², which is the mean propensity of its choices. So with
    single decisions about Σ p / 5 rows agree with a policy that is like the logging policies: where
    a thousand items are shown equally often, one in a thousand.
    """

    rows: int
    sessions: int
    spread: int  # sessions with rows in several files
    visitors: int | None  # number of visitors; None where they are unknown
    columns: dict[str, str]  # of the user, and their kinds, as they were read
    items: int  # of the catalogue
    candidates: tuple[int, int]  # fewest and most in a row
    reward: float  # mean of a row
    rewarded: float  # share of the rows with a reward that is not 0
    rewards: tuple[float, float]  # smallest and largest
    propensity: tuple[float, float]  # smallest and largest
    mean_weight: float  # 1 where propensities are right and everything is shown
    mean_weight_sem: float  # its standard error, rows or visitors counted as independent
    largest_share: float  # of the sum of the weights, that of the largest
    effective_rows: float
    effective_rewards: float
    agreeing_rows: float | None  # held-out; None where rows are not single decisions
    agreeing_rewards: float | None  # those of them with a reward
    refusal: str | None = None  # why random cannot be evaluated, if that was checked
    items_differ: bool = False  # by more than their columns predict
    told_apart: bool = False  # therefore by their ids, too
    passed_by: dict[str, int] = field(default_factory=dict)  # lines of the source, by reason
    propensities_of: str = ""  # what they would be right for, if not for whole slates
    mostly_spread: bool = False  # most sessions of a file are also in others
    late: str = ""  # advice on an item that came later, where all items count as offered

    @classmethod
    def of(cls, dataset: Dataset) -> FirstLook:
        """Pass once over the rows."""
        spread, mostly = _spread(dataset)
        tally, arrivals = _Tally(), _Arrivals(dataset.spec.items)
        for part, rows in zip(dataset.parts, dataset.iter_parts(), strict=True):
            tally.add(rows)
            if dataset.encoding is not None and rows.offered.min() == dataset.spec.items:
                arrivals.add(part.policy, rows)
        total, rewarded, weight, squares, paid, paid_squares, place, *agreeing = tally.sums.tolist()
        known = () if dataset.encoding is None else dataset.encoding.user
        single = dataset.spec.slate_size == dataset.spec.horizon == 1
        agree, agree_paid = (one / HELD_OUT if single else None for one in agreeing)
        count = dataset.rows
        mean = weight / count
        apart, visitors = max(squares - mean * weight, 0.0), None  # sum of squared deviations
        if tally.visits:
            each = _Visits.of(*(np.concatenate(one) for one in zip(*tally.visits, strict=True)))
            visitors = len(each.visitor)
            apart = float(np.square(each.weight - mean * each.rows).sum())
        sem = apart**0.5 / count
        meanings = {  # with the mean weight of random that each would give
            "of the first place alone": place / count,
            "of the slate in any order": mean * math.factorial(dataset.spec.slate_size),
        }
        slates = dataset.spec.slate_size > 1 and _off_one(mean, sem)
        meant = [m for m, one in meanings.items() if slates and not _off_one(one, sem * one / mean)]
        return cls(
            rows=count,
            sessions=dataset.episodes,
            spread=spread,
            visitors=visitors,
            columns={column.name: _read_as(column) for column in known},
            items=dataset.spec.items,
            candidates=(int(tally.offered[0]), int(tally.offered[1])),
            reward=total / count,
            rewarded=rewarded / count,
            rewards=tally.rewards,
            propensity=tally.propensity,
            mean_weight=mean,
            mean_weight_sem=sem,
            largest_share=tally.heaviest / weight,
            effective_rows=weight**2 / squares,
            effective_rewards=paid**2 / paid_squares if paid_squares else 0.0,
            agreeing_rows=agree,
            agreeing_rewards=agree_paid,
            passed_by=passed_by_of(dataset),
            propensities_of=meant[0] if len(meant) == 1 else "",
            mostly_spread=mostly,
            late=arrivals.told(() if dataset.encoding is None else dataset.encoding.items),
        )

    @property
    def of_lines(self) -> str:
        """The numbers of lines of the source that were passed by, by reason; empty without any."""
        return told(self.passed_by, self.rows)

    @property
    def of_items(self) -> str:
        """A remark if items earn more, or less, than their columns predict; otherwise empty."""
        return TOLD_APART if self.told_apart else ITEMS_DIFFER if self.items_differ else ""

    @property
    def outlook(self) -> str:
        """Whether to expect a verdict from a comparison with random, and otherwise the reason."""
        if _off_one(self.mean_weight, self.mean_weight_sem):
            advice = (
                f"they look like those {self.propensities_of}, and have to be those of the whole "
                "slate in its order"
                if self.propensities_of
                else "check them, and whether everything that was offered is shown at times"
            )
            advice = f"{self.late}; otherwise {advice}" if self.late else advice
            return (
                f"no verdict to expect: the mean weight of random is {self.mean_weight:#.3g} ± "
                f"{self.mean_weight_sem:.2g}, where right propensities give 1; {advice}"
            )
        if self.candidates[1] == 1:
            return "no verdict to expect: no row offers more than one item; nothing can be chosen"
        if self.rewards[0] == self.rewards[1]:
            return (
                f"no verdict to expect: all rewards are {self.rewards[0]:g}; log more rows, or "
                "name another column in [columns] reward"
            )
        if self.effective_rewards < LEAST_EVENTS:
            return (
                f"no verdict to expect: random would rest on {self.effective_rewards:.1f} "
                f"effective rewards, {LEAST_EVENTS:.0f} are few; log more rows, or "
                "show random items more often"
            )
        for agreeing, least, taken, with_reward in (
            (self.agreeing_rows, LEAST_AGREEING_ROWS, LEAST_AGREEING_ROWS, ""),
            (self.agreeing_rewards, LEAST_AGREEING_REWARDS, LEAST_EVENTS, " with a reward"),
        ):
            if agreeing is not None and agreeing < least:
                return (
                    f"no verdict to expect: about {agreeing:.1f} held-out rows{with_reward} show "
                    f"what another policy would show, and it takes {taken:.0f}; log more rows, "
                    "offer fewer items at a time, or log a policy that prefers some of them"
                )
        if self.refusal is not None:
            return f"no verdict to expect: random: {self.refusal}"
        return "a verdict against random is possible; the held-out sessions decide"


def _off_one(mean_weight: float, sem: float) -> bool:
    """True if a mean weight is further from 1 than chance leads it."""
    return abs(mean_weight - 1) > max(MOST_DEVIATIONS * sem, MOST_APART)


def _spread(dataset: Dataset) -> tuple[int, bool]:
    """The sessions with rows in several files, and whether they are most sessions of a file.

    Sessions that span midnight are few of a file's; most are where ids begin anew.
    """
    hashes = []
    for day in dataset.days:
        try:
            found, _ = Day.from_bytes(dataset.folder.read(day.facts))
        except UNREADABLE:  # of another version
            return 0, False
        hashes += [] if found.sessions is None else [found.sessions]
    if not hashes:
        return 0, False
    _, place, files = np.unique(np.concatenate(hashes), return_inverse=True, return_counts=True)
    shared = np.split(files[place] > 1, np.cumsum([len(one) for one in hashes])[:-1])
    return int(np.count_nonzero(files > 1)), any(one.mean() > 1 / 2 for one in shared if len(one))


def _read_as(column: Column) -> str:
    if column.kind == "categories":
        return f"{len(column.vocabulary):,} categories"
    return "number" if column.kind == "number" else f"{column.size:,} numbers"


class _Tally:
    """Sums and extremes over the rows so far."""

    def __init__(self) -> None:
        # Of rewards r, those that are not 0, w, w², |w r|, |w r|², 1 / (number of candidates × p),
        # p, and p where r is not 0
        self.sums = np.zeros(9)
        self.offered = self.rewards = self.propensity = (np.inf, -np.inf)  # smallest and largest
        self.heaviest = 0.0
        self.visits: list[_Visits] = []

    def add(self, rows: Trajectories) -> None:
        weights, reward = uniform_weights(rows), rows.reward.astype(np.float64)
        paid = np.abs(weights * reward)
        self.sums += [
            reward.sum(), np.count_nonzero(reward), weights.sum(), weights @ weights,
            paid.sum(), paid @ paid, (1 / (rows.offered * rows.propensity)).sum(),
            rows.propensity.sum(), rows.propensity @ (reward != 0),
        ]  # fmt: skip
        self.offered = _widened(self.offered, rows.offered)
        self.rewards = _widened(self.rewards, reward)
        self.propensity = _widened(self.propensity, rows.propensity)
        self.heaviest = max(self.heaviest, float(weights.max()))
        if rows.visitor is not None:
            self.visits.append(_Visits.of(rows.visitor, weights, np.ones(len(rows))))


class _Arrivals:
    """The first showing of each of M items under each policy, and how often it is shown."""

    def __init__(self, items: int) -> None:
        self.items = items
        self.rows: dict[str, int] = {}
        self.first: dict[str, NDArray[np.int64]] = {}  # (M,) rows before it
        self.shown: dict[str, NDArray[np.int64]] = {}  # (M,)

    def add(self, policy: str, rows: Trajectories) -> None:
        """Add the rows of a part, which follow those of the policy's parts before."""
        before = self.rows.get(policy, 0)
        item = np.take_along_axis(rows.candidates, rows.slate, axis=1).ravel()
        found, place = np.unique(item, return_index=True)
        first = np.full(self.items, np.iinfo(np.int64).max)
        first[found] = before + place // rows.slate.shape[1]
        self.first[policy] = np.minimum(self.first.get(policy, first), first)
        count = np.bincount(item, minlength=self.items)
        self.shown[policy] = self.shown.get(policy, 0) + count
        self.rows[policy] = before + len(rows)

    def told(self, ids: Sequence[str]) -> str:
        """Advice if an item is shown too often to be missing at first by chance; otherwise empty.

        An item that is shown n times at random is missing in the first share f of the rows with
        probability (1 - f)^n.
        """
        chance, before = np.zeros(self.items), np.zeros(self.items)
        for policy, rows in self.rows.items():
            first = np.minimum(self.first[policy], rows)
            chance += self.shown[policy] * np.log1p(-np.minimum(first / rows, 1 - 1 / rows))
            before += first
        if not self.rows or chance.min() > np.log(BY_CHANCE / self.items):
            return ""
        late = int(chance.argmin())
        share = before[late] / sum(self.rows.values())
        return (
            f"item {ids[late]!r} is not shown in the first {share:.0%} of the rows: name "
            "`candidates` if it was not offered then"
        )


def _widened(limits: tuple[float, float], values: NDArray[Any]) -> tuple[float, float]:
    """The limits, widened to include these values."""
    return min(limits[0], float(values.min())), max(limits[1], float(values.max()))


class _Visits(NamedTuple):
    """Sums of weights and rows by visitor."""

    visitor: NDArray[np.int64]
    weight: NDArray[np.float64]
    rows: NDArray[np.float64]

    @classmethod
    def of(
        cls, visitor: NDArray[np.int64], weight: NDArray[np.float64], rows: NDArray[np.float64]
    ) -> _Visits:
        names, number = np.unique(visitor, return_inverse=True)
        sums = (np.asarray(np.bincount(number, one), np.float64) for one in (weight, rows))
        return cls(names, *sums)


def uniform_weights(rows: Trajectories) -> np.ndarray:
    """Weights (R,) of the policy that shows every slate of the offered candidates equally often."""
    return uniform_propensities(rows.offered, rows.slate.shape[1]) / rows.propensity
