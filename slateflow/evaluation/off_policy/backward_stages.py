"""Backward induction by least squares, shared by fitted-Q iteration and fitted-Q evaluation.

Q₁ regresses the reward on the features of what was shown, and Q_k the reward plus the value of the
next step by Q_{k-1}. The dynamics do not depend on the time, so every stage uses all rows, and the
design matrix is the same at every stage: it is factored once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from slateflow.errors import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Stage:
    """A fitted Q-function."""

    weights: Array  # (P,)
    residual: float  # mean square


def backward_stages(
    design: Array,
    rewards: Array,
    next_values: Callable[[int, Array], Array],
    stages: int,
    ridge: float = 1e-9,
) -> Iterator[Stage]:
    """Fit the stages, from the last step of an episode backwards.

    Args:
        design: (R, P) features of what was shown at the steps that have a successor.
        rewards: (R,) of these steps.
        next_values: From a stage k, from 1 on, and the weights of stage k - 1, to the values (R,)
            of the next steps with k steps left.
        stages: How many.
        ridge: Precision of the prior on the weights, for each row.

    Raises:
        InputError: The features do not vary enough.
    """
    gram = design.T @ design
    try:
        factor = linalg.cho_factor(gram + ridge * len(design) * np.eye(len(gram)), lower=True)
    except linalg.LinAlgError as error:
        raise InputError(
            "dataset: expected clicked candidates that vary, got too few different ones for "
            "the polynomial; log a random policy or lower the degree"
        ) from error
    values: Array = np.zeros(len(design))
    for stage in range(1, stages + 1):
        target = rewards + values
        weights = np.asarray(linalg.cho_solve(factor, design.T @ target), np.float64)
        yield Stage(weights, float(np.square(target - design @ weights).mean()))
        if stage < stages:
            values = next_values(stage, weights)
