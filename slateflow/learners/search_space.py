"""Ranges from which a study draws a learner's settings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Settings = dict[str, int | float | str]
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
        """Draw a value of three significant digits, so that it can be typed again."""
        if self.whole:
            return int(rng.integers(int(self.low), int(self.high), endpoint=True))
        ends = np.log([self.low, self.high]) if self.log else np.array([self.low, self.high])
        value = rng.uniform(*ends)
        return float(f"{np.exp(value) if self.log else value:.3g}")


@dataclass(frozen=True)
class OneOf:
    """A few values, all equally likely."""

    values: tuple[int, ...]

    def draw(self, rng: np.random.Generator) -> int:
        """Draw a value."""
        return self.values[int(rng.integers(len(self.values)))]


Space = dict[str, Range | OneOf]
