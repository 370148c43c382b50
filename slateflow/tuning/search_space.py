"""Which settings of a learner are worth trying, and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slateflow.errors import InputError
from slateflow.learners.config import LEARNERS, learner_config

Settings = dict[str, int | float]
"""Settings that differ from a learner's defaults, by name."""


@dataclass(frozen=True)
class Range:
    """Values from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False
    """Draw uniformly on the logarithm."""
    whole: bool = False
    """Draw whole numbers."""

    def draw(self, rng: np.random.Generator) -> int | float:
        """One value, of three significant digits, so that it can be typed again."""
        if self.whole:
            return int(rng.integers(int(self.low), int(self.high), endpoint=True))
        ends = np.log([self.low, self.high]) if self.log else np.array([self.low, self.high])
        value = rng.uniform(*ends)
        return float(f"{np.exp(value) if self.log else value:.3g}")


@dataclass(frozen=True)
class OneOf:
    """One of a few values, all equally likely."""

    values: tuple[int, ...]

    def draw(self, rng: np.random.Generator) -> int:
        """One value."""
        return self.values[int(rng.integers(len(self.values)))]


_NETWORK: dict[str, Range | OneOf] = {
    "learning_rate": Range(5e-4, 1e-2, log=True),
    "width": OneOf((16, 32, 64)),
    "window": Range(6, 20, whole=True),
}

SPACES: dict[str, dict[str, Range | OneOf]] = {
    "linucb": {"ridge": Range(1e-3, 1e3, log=True)},
    "lints": {"ridge": Range(1e-3, 1e3, log=True), "exploration": Range(1e-2, 2.0, log=True)},
    "bc": {**_NETWORK, "updates": OneOf((400, 800, 1600))},
    "marwil": {**_NETWORK, "updates": OneOf((300, 600, 1200)), "beta": Range(0.0, 1.0)},
    "cql": {
        **_NETWORK,
        "updates": OneOf((600, 1000, 1600)),
        "conservatism": Range(1e-5, 1e-1, log=True),
        "target_rate": Range(3e-3, 3e-2, log=True),
    },
    "iql": {
        **_NETWORK,
        "updates": OneOf((1000, 2000, 3000)),
        "expectile": Range(0.8, 0.99),
        "target_rate": Range(3e-3, 3e-2, log=True),
    },
    "fitted-q": {
        "degree": Range(2, 5, whole=True),
        "window": Range(6, 20, whole=True),
        "ridge": Range(1e-10, 1e-6, log=True),
    },
    "slateq": {
        "ridge": Range(1e-3, 1e2, log=True),
        "classes": OneOf((1, 2, 4)),
        "iterations": OneOf((1, 3, 10)),
    },
}
"""What is tried of each learner that held-out logs can judge."""


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
    if learner in LEARNERS and learner not in SPACES:
        raise InputError(
            f"tune: expected a learner that held-out logs can judge, got {learner}; "
            f"they judge {', '.join(SPACES)}"
        )
    learner_config(learner)
    if not number:
        return {}
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, number])))
    return {name: domain.draw(rng) for name, domain in SPACES[learner].items()}
