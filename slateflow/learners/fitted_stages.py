"""The stages of fitted-Q iteration: how many there are, and whether values grow without bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from slateflow.learners.config import Curves
from slateflow.learners.logged_steps import Basis, LoggedSteps, Parts
from slateflow.progress import Progress
from slateflow.user_models.backward_stages import (
    Stage,
    StageSums,
    StepsPart,
    Transitions,
    backward_stages,
)

Array = NDArray[np.float64]

SETTLED = 0.01
"""Relative change of the preferences by a stage below which no further stage is added."""

PATIENCE = 5
"""Number of stages after which preferences that still change as much may grow without bound."""

SLOWING = 0.5
"""Growth has a bound if the relative change (squared) falls to this share in `PATIENCE` stages.

Values that accumulate grow by a constant or slowly increasing amount, so that their relative change
falls; values that a polynomial extrapolates grow by a constant factor.
"""


@dataclass(frozen=True)
class _Part:
    """Logged steps with a polynomial basis, as input of the stages."""

    steps: LoggedSteps
    basis: Basis

    @property
    def transitions(self) -> Transitions:
        return self.steps.transitions

    @property
    def reward(self) -> Array:
        return self.steps.reward

    @property
    def weights(self) -> Array:
        return self.steps.weights

    def design(self, block: slice) -> Array:
        return self.steps.design(self.basis, block)

    def best_next(self, weights: Array) -> Array:
        return self.steps.best_next(self.steps.scorer(self.basis, weights))


def fitted_stages(
    parts: Parts,
    basis: Basis,
    ridge: float,
    window: int,
    progress: Progress,
    curves: Curves,
    prior: Array | None = None,
) -> list[Stage] | None:
    """Go back from the end by `window` stages, or with 0 until preferences settle.

    The residual of each stage is added to the curves. With `prior`, weights of next values have a
    prior of their own.

    Returns:
        The stages; None where values grow without settling, because the polynomial extrapolates.
    """
    steps, size = parts.sample, len(basis)
    most = steps.transitions.most_stages(window or steps.spec.horizon)
    spread = steps.spread(basis)
    stages: list[Stage] = []

    def map_steps(function: Callable[[StepsPart], StageSums]) -> Iterable[StageSums]:
        return parts.map(partial(_of_basis, function, basis))

    changes: list[tuple[float, float]] = []  # squared, and relative to the square of preferences
    file = parts.stage_file(basis, window)
    for stage in backward_stages(map_steps, size, most, steps.timed, ridge, file, prior):
        stages.append(stage)
        if len(stages) < most:
            progress(len(stages), most)
        curves.add("residual", stage.residual)
        if window or steps.by_the_clock or len(stages) < 2:
            continue
        moved = stage.weights - stages[-2].weights
        change, square = (float(one @ spread @ one) for one in (moved, stage.weights))
        if change <= SETTLED**2 * square:
            break
        changes.append((change, change / square))
        if len(changes) > PATIENCE:
            before, relative = changes[-1 - PATIENCE]
            if change > before and change / square > SLOWING * relative:
                return None
    progress(most, most)
    return stages


def _of_basis(
    function: Callable[[StepsPart], StageSums], basis: Basis, steps: LoggedSteps
) -> StageSums:
    return function(_Part(steps, basis))
