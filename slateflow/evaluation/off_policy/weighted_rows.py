"""Estimators for single decisions, from weights and from predictions of a reward model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.contributions import Contributions, WeightedErrors, usual

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WeightedRows(Mapping[str, Contributions]):
    """Weights and predictions of E logged decisions for a target policy.

    It maps each estimator to its contributions, which are computed at every look-up.

    Attributes:
        weight: (E,) the target's probability of the shown item / its propensity.
        reward: (E,) logged rewards.
        shown: (E,) the model's reward for the shown item.
        target: (E,) the model's expected reward for the target's choice.
        one_weight: Average weight of a row that shows the target's choice.
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
        """Skewness of the estimate beyond that for which an interval of events allows.

        If a large reward happens to be missing from a log, the rows that the target would show have
        a small skewness and a low estimate. So the skewness comes from the rewards of all rows,
        which are assumed to be as skewed under the target, and one more of the largest weight is
        added. Gamma intervals allow for the skewness of events of one size.
        """
        reward, weight = self.reward, np.append(self.weight, self.weight.max())
        base = usual(reward, self.weight)
        error = reward - (self.shown if base is None else base)
        size = float(np.sqrt(np.square(error).mean()))
        total = float(np.sqrt(np.square(weight).sum()))
        if not size or not total:
            return 0.0
        skewed = abs(float((error**3).mean())) / size**3
        if base is not None:
            skewed -= size / abs(float(error.mean()))
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

        Its weights have the expectation 1. Where their mean happens to be less, the missing share
        rests on the model alone, and no row shows the model's error there: it is assumed to be like
        that of all rows.
        """
        missing = max(1 - float(self.weight.mean()), 0.0) * self.one_weight
        return self._weighted(self.target, self.weight, missing)

    def dr_os(self) -> Contributions:
        """Doubly robust with optimistically shrunk weights, λ w / (w² + λ).

        λ minimises the bound on squared bias + variance (Su et al. 2020, "Doubly robust off-policy
        evaluation with shrinkage", sections 3.2 and 4).
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
        """Contributions model + weight × (reward − shown); model and weight are (E,)."""
        base, error = usual(self.reward, self.weight), self.reward - self.shown
        if base is None:
            errors = WeightedErrors(weight, error, self.reward, missing)
            return Contributions(model + weight * error, errors=errors)
        events = self.reward - base
        errors = WeightedErrors(weight, error, events, missing)
        return Contributions(model + weight * (base - self.shown), weight * events, errors)


ESTIMATORS: dict[str, Callable[[WeightedRows], Contributions]] = {
    "ips": WeightedRows.ips,
    "snips": WeightedRows.snips,
    "dm": WeightedRows.dm,
    "dr": WeightedRows.dr,
    "dr-os": WeightedRows.dr_os,
}
