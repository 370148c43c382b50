"""Corrections of values by weights that are learnt, or derived from the propensities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.contributions import Contributions, WeightedErrors, usual
from slateflow.evaluation.off_policy.overlap import LEAST_STEPS, NoVerdict, effective_size
from slateflow.evaluation.returns import standard_error
from slateflow.user_models.additive import Additive

Array = NDArray[np.float64]

CARRIERS_TO_CORRECT = 20
"""Least effective number of weights, (Σ w)² / Σ w², with which propensities correct anything. Down
to it intervals are valid in simulated shops; below it those by learnt weights are not."""

LEAST_SHARE_OF_STEPS = 0.7
"""Least share of a target's steps to which weights by propensities have to add up. With less, the
largest weights happen not to have been drawn, such as those of one slate in thousands."""

MOST_SHARE_OF_STEPS = 1.5
"""Largest such share. With more, states reveal which of several logging policies decided, and
weights against their mixture, which ignore that, are too large."""

MOST_WIDER = 8.0
"""Ratio of widths up to which the interval by propensities is used. The narrower learnt intervals
are in comparison, the more often they miss the truth of simulated shops: they do not correct errors
of the values. Where features contain everything, as in RecSim's worlds, the ratio is about 30."""


@dataclass(frozen=True)
class Correction(Additive):
    """Errors of the values in the logged steps, weighted by how often the target reaches them.

    Attributes:
        weight: (T,) weights of the steps: how much more often the target reaches them. By session
            they add up to the number of its steps under the target.
        errors: (E,) sums of weight × error of the values, and of the expected choices.
        weighted: (E,) sums of weight × reward.
        weights: (E,) sums of the weights.
    """

    weight: Array
    errors: Array
    weighted: Array
    weights: Array

    def first(self, sessions: int, steps: int) -> Correction:
        """The correction of the first `sessions` sessions, which have `steps` steps."""
        by_session = (self.errors, self.weighted, self.weights)
        return Correction(self.weight[:steps], *(sums[:sessions] for sums in by_session))


@dataclass(frozen=True)
class Estimated(Additive):
    """Value of each session, and its correction.

    Attributes:
        start: (E,) value at the session's first step.
        learnt: The correction by learnt weights.
        by_propensity: Correction by weights that are learnt for states and derived from the
            propensities for decisions; the learnt one where propensities are not used.
        error: (T,) error of the values in each step, averaged over the numbers of steps left.
    """

    start: Array
    learnt: Correction
    by_propensity: Correction
    error: Array

    @property
    def share_of_steps(self) -> float:
        """Share of the target's steps that weights by propensities add up to; 1 of no steps."""
        steps, found = (float(one.weight.sum()) for one in (self.learnt, self.by_propensity))
        return found / steps if steps else 1.0

    @property
    def kinds(self) -> list[Correction]:
        """Corrections by learnt weights, and by propensities if these leave enough evidence.

        In that case they also replace learnt weights that leave too little.
        """
        if self._carriers < CARRIERS_TO_CORRECT or not self._all_steps:
            return [self.learnt]
        weight = self.learnt.weight
        enough = effective_size(weight) >= LEAST_STEPS * len(weight)
        return [self.learnt if enough else self.by_propensity, self.by_propensity]

    @property
    def _carriers(self) -> float:
        """Effective number of decisions with the weights by propensities."""
        return effective_size(self.by_propensity.weight)

    @property
    def _all_steps(self) -> bool:
        """True if these weights add up to the target's steps, up to two standard errors."""
        chance: float = 2 / self._carriers**0.5
        return LEAST_SHARE_OF_STEPS - chance <= self.share_of_steps <= MOST_SHARE_OF_STEPS + chance

    def refusal(self, *, one_policy: bool) -> NoVerdict | None:
        """The refusal if propensities leave too little evidence; otherwise None.

        Args:
            one_policy: Whether weights are against the policy that made each decision.
        """
        if self._carriers < CARRIERS_TO_CORRECT:
            return NoVerdict(
                f"by the propensities, {self._carriers:.1f} effective decisions are like this "
                f"policy's, but at least {CARRIERS_TO_CORRECT} are needed",
                "log more sessions, or more of what this policy shows",
            )
        if self._all_steps or not one_policy:
            return None
        return NoVerdict(
            f"weights by the propensities find {self.share_of_steps:.3g} times the steps of this "
            "policy, but about 1 is expected",
            "log more sessions, or log what the logging policy knew as columns of the user",
        )

    @property
    def trusted(self) -> Correction:
        """The correction of the kind that is trusted for the return."""
        kinds = self.kinds
        return kinds[trusted_kind([standard_error(self.start + one.errors) for one in kinds])]

    def contributions(self, correction: Correction, reward: Array, of_one: float) -> Contributions:
        """Contributions of the sessions to the return, with one of the corrections.

        Args:
            correction: One of the two.
            reward: Rewards of all steps, including those without fitted values, such as last ones.
            of_one: Average weight by propensities of a step that shows the target's choice.
        """
        missing = (
            max(1 - self.share_of_steps, 0.0) * of_one if correction is not self.learnt else 0.0
        )
        weight = np.maximum(correction.weight, 0.0)
        base = usual(reward, weight if len(weight) == len(reward) else None)
        events = reward - (base or 0.0)
        errors = WeightedErrors(correction.weight, self.error, events, missing, correction.errors)
        found = self.start + correction.errors
        if base is None:
            return Contributions(found, errors=errors)
        weighted = correction.weighted - base * correction.weights
        return Contributions(found - weighted, weighted, errors)


class EstimatedSlates(Estimated):
    """Values where users choose from slates, corrected by learnt weights of choices.

    Propensities of whole slates serve only as a check: weights of steps do not determine weights of
    choices.
    """

    @property
    def kinds(self) -> list[Correction]:
        """Only the correction by learnt weights."""
        return [self.learnt]

    def refusal(self, *, one_policy: bool) -> NoVerdict | None:
        """None: propensities correct no values."""
        return None

    def contributions(self, correction: Correction, reward: Array, of_one: float) -> Contributions:
        """Contributions of the sessions to the return; see `Estimated`."""
        return Contributions(self.start + correction.errors)


def trusted_kind(errors: Sequence[float]) -> int:
    """The number of the last kind of correction that does not make intervals much wider.

    With propensities values need not be right if the weights of the states are (Kallus and Uehara
    2020, theorem 4), and logged propensities need not be learnt. Where many candidates are nearly
    alike, however, the weights by propensities are 0 or as large as the number of candidates, and
    learnt weights of about 1 are better.

    Args:
        errors: Standard errors of the estimate, by kind.

    Example:
        >>> trusted_kind([2.0, 3.0]), trusted_kind([2.0, 20.0]), trusted_kind([2.0])
        (1, 0, 0)
    """
    return len(errors) - 1 if errors[-1] <= MOST_WIDER * errors[0] else 0
