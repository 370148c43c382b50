"""A description of a dataset, policy by policy, in one pass over its parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.charts import Curve
from slateflow.environments import EnvironmentSpec, world_of
from slateflow.policies import behaviour_policy
from slateflow.trajectories.contract import check_rows
from slateflow.trajectories.description.first_look import FirstLook, uniform_weights
from slateflow.trajectories.files.dataset import Dataset
from slateflow.trajectories.item_effects import items_differ, told_apart
from slateflow.trajectories.schema import Trajectories, blocks

TARGETS = ("random", "greedy")
PROPENSITY_EDGES = np.linspace(-12.0, 0.0, 97)
"""Edges of the histogram, as exponents of ten; smaller propensities count in the lowest bin."""


@dataclass(frozen=True)
class TargetOverlap:
    """Overlap of the logs of a policy with another policy, the target, at a single step.

    Both figures come from the importance weights w = target's probability / propensity of the shown
    slates. Weights of whole episodes would be products over all steps, nearly all of which are 0;
    bandits and Q-learning use single steps.
    """

    target: str  # name of the other policy
    # Mean of w: the share of the target's slates that the policy ever shows. Below 1 no estimate of
    # the target from these logs alone is unbiased
    coverage: float
    # Steps of the target's own that the logs are worth, as a share of the steps: Kish's effective
    # sample size (sum of w)² / sum of w², times the covered share
    effective: float


@dataclass(frozen=True)
class PolicyPlots:
    """The plotted figures of one policy: returns, propensities, and means by step.

    Attributes:
        returns: (episodes,).
        propensities: Counts between `PROPENSITY_EDGES`.
        reward: Means by step.
        observed: Those of the user's first feature; None where it is not observed.
        observed_label: Name of that feature, see `World.user_label`.
    """

    returns: NDArray[np.float64]
    propensities: NDArray[np.int64]
    reward: Curve
    observed: Curve | None
    observed_label: str


@dataclass(frozen=True)
class PolicySummary:
    """One behaviour policy in the logs."""

    policy: str  # its name
    episodes: int  # logged episodes
    steps: int  # logged steps
    share: float  # share of the dataset's episodes
    mean: float  # mean return of an episode
    sem: float  # standard error of the mean return; 0 for a single episode
    lowest: float  # smallest return
    highest: float  # largest return
    clicks: float  # share of the steps with a click
    propensity: tuple[float, float]  # smallest and largest propensity
    reward_slope: float  # change of the reward per step
    # Change of the user's first feature per step, which is satisfaction where it is observed; None
    # elsewhere. The name is a key of the JSON
    satisfaction_slope: float | None
    overlap: tuple[TargetOverlap, ...]  # with each of `TARGETS`
    plots: PolicyPlots = field(repr=False)  # its plots

    @property
    def propensity_range(self) -> str:
        """Smallest to largest propensity, or the only one."""
        low, high = self.propensity
        return f"{low:.3g}" if low == high else f"{low:.2g} – {high:.2g}"


@dataclass(frozen=True)
class Description:
    """A dataset in figures."""

    path: str
    digest: str
    environment: str
    episodes: int
    steps: int
    policies: tuple[PolicySummary, ...]
    first_look: FirstLook | None = None  # at own logs; None for simulated ones

    def to_dict(self) -> dict[str, Any]:
        """The figures without the plots, ready for JSON."""
        document = dataclasses.asdict(self)
        if self.first_look is None:
            del document["first_look"]
        else:
            document["first_look"]["outlook"] = self.first_look.outlook
        for policy in document["policies"]:
            del policy["plots"]
        return document


Gate = Callable[[Dataset], str | None]
"""Function that returns why logs cannot evaluate a random policy; None where they can."""


def describe(dataset: Dataset, gate: Gate | None = None) -> Description:
    """Read every part once, keeping only sums and the return of each episode.

    Args:
        dataset: Any logs.
        gate: Called for own logs; None to leave out the check.

    Raises:
        InputError: A part is damaged or does not keep the contract.
    """
    spec = dataset.spec
    tallies: dict[str, _Tally] = {}
    for part, rows in zip(dataset.parts, dataset.iter_parts(verify=True), strict=True):
        check_rows(rows, spec, f"{dataset.path}/{part.path}")
        if len(rows):
            tallies.setdefault(part.policy, _Tally(spec)).add(rows)
    first_look = None
    if not spec.simulated:
        first_look = dataclasses.replace(
            FirstLook.of(dataset),
            refusal=None if gate is None else gate(dataset),
            items_differ=items_differ(dataset),
            told_apart=told_apart(dataset),
        )
    return Description(
        path=dataset.path,
        digest=dataset.digest,
        environment=spec.name,
        episodes=dataset.episodes,
        steps=dataset.rows,
        policies=tuple(
            tally.summary(policy, dataset.episodes) for policy, tally in tallies.items()
        ),
        first_look=first_look,
    )


def _targets(spec: EnvironmentSpec) -> list[str]:
    """The policies in `TARGETS` that the world has."""
    return [name for name in TARGETS if name == "random" or name in world_of(spec).labels]


class _StepSums:
    """Sums by step of one quantity."""

    def __init__(self, horizon: int) -> None:
        self.counts = np.zeros(horizon, dtype=np.int64)
        self.sums = np.zeros(horizon)

    def add(self, step: NDArray[np.int32], values: NDArray[np.float32]) -> None:
        self.counts += np.bincount(step, minlength=len(self.counts))
        self.sums += np.bincount(step, values, minlength=len(self.sums))

    def curve(self) -> Curve:
        """Means by step, and their least-squares trend over all logged steps."""
        steps = np.flatnonzero(self.counts)
        counts, means = self.counts[steps], self.sums[steps] / self.counts[steps]
        slope, intercept = 0.0, float(means[0])
        if len(steps) > 1:
            slope, intercept = np.polyfit(steps, means, 1, w=np.sqrt(counts)).tolist()
        return Curve(steps, means, slope, intercept)


class _Tally:
    """Sums over the steps of one policy so far."""

    def __init__(self, spec: EnvironmentSpec) -> None:
        self.spec = spec
        self.returns: list[NDArray[np.float64]] = []
        self.steps, self.clicks = 0, 0
        self.propensity = (np.inf, -np.inf)
        self.histogram = np.zeros(len(PROPENSITY_EDGES) - 1, dtype=np.int64)
        self.weights = dict.fromkeys(_targets(spec), np.zeros(2))  # sums of w and of w²
        self.reward = _StepSums(spec.horizon)
        self.observed_label = world_of(spec).user_label
        shown = self.observed_label and spec.user_size
        self.observed = _StepSums(spec.horizon) if shown else None

    def add(self, rows: Trajectories) -> None:
        self.returns.append(np.add.reduceat(rows.reward, rows.starts, dtype=np.float64))
        self.steps += len(rows)
        self.clicks += int(np.count_nonzero(rows.clicked >= 0))
        low, high = self.propensity
        p = rows.propensity
        self.propensity = (min(low, float(p.min())), max(high, float(p.max())))
        powers = np.clip(np.log10(p), PROPENSITY_EDGES[0], PROPENSITY_EDGES[-1])
        self.histogram += np.histogram(powers, PROPENSITY_EDGES)[0]
        self.reward.add(rows.step, rows.reward)
        if self.observed is not None:
            self.observed.add(rows.step, rows.user[:, 0])
        self._weigh("random", uniform_weights(rows))
        if list(self.weights) != ["random"]:
            for block in blocks(len(rows)):
                self._weigh_others(rows.where(block))

    def _weigh_others(self, rows: Trajectories) -> None:
        observation = rows.observation()
        for target in (name for name in self.weights if name != "random"):
            chances = behaviour_policy(target, self.spec).propensities(observation, rows.slate)
            self._weigh(target, chances / rows.propensity)

    def _weigh(self, target: str, weights: NDArray[np.float64]) -> None:
        self.weights[target] = self.weights[target] + (weights.sum(), (weights**2).sum())

    def summary(self, policy: str, episodes: int) -> PolicySummary:
        plots = PolicyPlots(
            returns=np.concatenate(self.returns),
            propensities=self.histogram,
            reward=self.reward.curve(),
            observed=None if self.observed is None else self.observed.curve(),
            observed_label=self.observed_label,
        )
        returns, count = plots.returns, len(plots.returns)
        return PolicySummary(
            policy=policy,
            episodes=count,
            steps=self.steps,
            share=count / episodes,
            mean=float(returns.mean()),
            sem=float(returns.std(ddof=1) / np.sqrt(count)) if count > 1 else 0.0,
            lowest=float(returns.min()),
            highest=float(returns.max()),
            clicks=self.clicks / self.steps,
            propensity=self.propensity,
            reward_slope=plots.reward.slope,
            satisfaction_slope=None if plots.observed is None else plots.observed.slope,
            overlap=tuple(self._overlap(target) for target in self.weights),
            plots=plots,
        )

    def _overlap(self, target: str) -> TargetOverlap:
        total, squares = self.weights[target]
        coverage = float(total / self.steps)
        kish = float(total**2 / squares / self.steps) if squares else 0.0
        return TargetOverlap(target, coverage, kish * min(coverage, 1.0))
