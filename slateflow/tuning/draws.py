"""Drawing a learner's settings for a trial."""

from __future__ import annotations

import numpy as np

from slateflow.errors import InputError
from slateflow.learners import LEARNERS
from slateflow.learners.search_space import Settings


def tunable_learners() -> list[str]:
    """The learners that held-out logs can evaluate."""
    return [name for name, config in LEARNERS.items() if config.search_space]


def draw_settings(learner: str, number: int, seed: int) -> Settings:
    """The settings of a trial; trial 0 has the defaults, so that no choice is below them.

    They depend on the learner, the number and the seed alone: a longer study has the trials of a
    shorter one.

    Raises:
        InputError: There is nothing to draw for this learner.

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
            f"they judge {', '.join(tunable_learners())}"
        )
    if not number:
        return {}
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, number])))
    return {name: domain.draw(rng) for name, domain in space.items()}
