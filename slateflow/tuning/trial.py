"""A trial: drawing its settings, its result, and the choice of the best trial."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slateflow.errors import InputError
from slateflow.learners import LEARNERS
from slateflow.learners.search_space import Settings


def tunable_learners() -> list[str]:
    """The learners that held-out logs can evaluate."""
    return [name for name, config in LEARNERS.items() if config.search_space]


def draw_settings(learner: str, number: int, seed: int) -> Settings:
    """The settings of a trial; trial 0 has the defaults, so no choice is worse on held-out logs.

    Settings depend only on the learner, the number and the seed, so a longer study contains the
    trials of a shorter one.

    Raises:
        InputError: The learner has no search space.

    Example:
        >>> draw_settings("linucb", 0, seed=5)
        {}
        >>> sorted(draw_settings("lints", 1, seed=5))
        ['exploration', 'ridge']
    """
    space = LEARNERS[learner].search_space
    if not space:
        raise InputError(
            f"tune: expected a learner that held-out logs can judge, got {learner}; "
            f"choose one of {', '.join(tunable_learners())}"
        )
    if not number:
        return {}
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, number])))
    return {name: domain.draw(rng) for name, domain in space.items()}


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
    """The trial with the highest held-out value; the first among equals.

    Raises:
        InputError: No trial has a value.
    """
    evaluated = [trial for trial in trials if trial.value is not None]
    if not evaluated:
        raise InputError(trials[0].error)
    return max(evaluated, key=lambda trial: (trial.value, -trial.number))
