"""A check of estimates without propensities against the logged propensities.

A model of values, and learnt weights, assume that the user's columns contain everything relevant.
Where the logging policy knew more, such as the type of a user or what is popular today, or where
values bend more than the model, the estimates are wrong, and their intervals do not show it.

Where the values are right, their errors have the mean 0 under any weights that depend only on the
state and the decision. So weights from the propensities change the estimate only by chance, and by
more if the values are wrong (DuMouchel and Duncan 1983, "Using Sample Survey Weights in Multiple
Regression Analyses of Stratified Samples", Journal of the American Statistical Association 78,
p. 535; Hausman 1978, "Specification Tests in Econometrics", Econometrica 46, p. 1251). Decisions
are weighted by their propensities, and states by learnt weights. Products of weights over whole
sessions would need no states, but in sessions of unlimited length their variance is unbounded, and
their sums are sometimes far off where everything is right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.contributions import Contributions
from slateflow.evaluation.off_policy.corrections import LEAST_SHARE_OF_STEPS, Estimated
from slateflow.evaluation.off_policy.overlap import NoVerdict, effective_size
from slateflow.evaluation.off_policy.visitors import Visitors

Array = NDArray[np.float64]

DISAGREEMENT_BEYOND_CHANCE = 3.5
"""Standard errors beyond which a difference is not chance: candidates are many, weights skewed."""

CARRIERS_TO_CHECK = 100
"""Effective number of weights, (Σ w)² / Σ w², above which propensities can refute values."""

ERRORS_THAT_MATTER = 1.0
"""Standard errors of the estimate that a difference has to exceed. A 95% interval that is off by
one misses the truth in 17% of cases (Cochran 1977, "Sampling Techniques", section 1.8)."""


def disagreement(estimated: Estimated, weight: Array, visitors: Visitors) -> NoVerdict | None:
    """The refusal if propensities contradict the model of values; otherwise None.

    Args:
        estimated: Estimates with a correction by learnt weights and one by propensities.
        weight: (R,) weights of the decisions by their propensities.
        visitors: Visitors of the sessions.
    """
    if (
        effective_size(weight) <= CARRIERS_TO_CHECK
        or estimated.share_of_steps < LEAST_SHARE_OF_STEPS
    ):
        return None
    learnt, change = (
        visitors.sums(Contributions(one))
        for one in (
            estimated.start + estimated.learnt.errors,
            estimated.by_propensity.errors - estimated.learnt.errors,
        )
    )
    value, off, rounding = learnt.value, change.value, 1e-6 * abs(learnt.value)
    if abs(off) <= max(
        DISAGREEMENT_BEYOND_CHANCE * change.sem, ERRORS_THAT_MATTER * learnt.sem, rounding
    ):
        return None
    return NoVerdict(
        f"the model of values and the propensities disagree: the estimate is {value:.4g}, and "
        f"{value + off:.4g} ± {1.96 * change.sem:.2g} if propensities correct the model",
        "log what the logging policy knew as columns of the user; or, if users see single items "
        "and no step changes a later one, give each step as a session of its own",
    )
