"""The result of a trial, and the choice of the best."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.learners.search_space import Settings


@dataclass(frozen=True)
class Trial:
    """A finished trial."""

    number: int  # its place in the study
    settings: Settings  # settings that differ from the learner's defaults
    # Expected return on the held-out episodes; None if it could not be estimated
    value: float | None
    train_seconds: float  # wall-clock seconds of the training
    # Why the value is None: the training was refused, or the logs cannot evaluate it
    error: str = ""


def best_trial(trials: list[Trial]) -> Trial:
    """The trial with the highest held-out value; of equals the first.

    Raises:
        InputError: No trial has a value.
    """
    evaluated = [trial for trial in trials if trial.value is not None]
    if not evaluated:
        raise InputError(trials[0].error)
    return max(evaluated, key=lambda trial: (trial.value, -trial.number))


def drop_impossible_value(trial: Trial, rewards: NDArray[np.float32], horizon: int) -> Trial:
    """The trial without its value where no episode of such rewards could return it.

    An evaluation from logs diverges where a policy shows what the logs rarely show.
    """
    low, high = horizon * float(rewards.min()), horizon * float(rewards.max())
    rounding = 1e-6 * max(abs(low), abs(high))
    if trial.value is not None and low - rounding <= trial.value <= high + rounding:
        return trial
    error = (
        f"{trial.settings}: expected a return of {low:.4g} to {high:.4g} on held-out logs, got "
        f"{trial.value:.4g}; the logs rarely show what this policy shows; log more episodes"
    )
    return replace(trial, value=None, error=error)
