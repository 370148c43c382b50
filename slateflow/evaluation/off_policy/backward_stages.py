"""Backward induction by least squares: the recursion of fitted-Q iteration.

Q₁ regresses the reward on the features of what was shown, and Q_k the reward plus the value of the
next step by Q_{k-1}. The dynamics do not depend on the time, so every stage uses all rows, and the
design matrix is the same at every stage: it is factored once. What a stage needs of the rows are
sums, so the rows pass by in parts.

Where all sessions have the same number of steps, a stage is the number of steps left. Where they
end by themselves, nobody knows how many are left: the stages approach one Q-function for all steps,
and a session that has ended is worth nothing more.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from slateflow.errors import InputError
from slateflow.trajectories.files.atomic_files import write_whole
from slateflow.trajectories.schema import Trajectories, blocks

Array = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Transitions:
    """The logged steps that a Q-function is fitted to.

    Attributes:
        rows: (T,) numbers of these rows.
        following: (S,) numbers of the rows that follow, of those that have a successor.
        continues: (T,) whether a row has a successor.
        timed: Whether all sessions have the same number of steps.
    """

    rows: Rows
    following: Rows
    continues: NDArray[np.bool_]
    timed: bool

    @classmethod
    def from_rows(cls, rows: Trajectories, timed: bool | None = None) -> Transitions:
        """Take the steps that have a successor, and the ends where sessions end by themselves.

        Sessions of a single step have nothing but ends, if all are such.

        Args:
            rows: Whole sessions.
            timed: Whether all sessions have the same number of steps, where these rows are only
                some of them.
        """
        lengths, last = rows.lengths, rows.last
        timed = same_length(lengths) if timed is None else timed
        used = ~last if timed else ~last | rows.terminated
        if timed and (lengths == 1).all():
            used = last
        numbers = np.flatnonzero(used)
        continues = ~last[numbers]
        return cls(numbers, numbers[continues] + 1, continues, timed)

    def most_stages(self, horizon: int) -> int:
        """Stages after which nothing is left to add: 1 for sessions of a single step."""
        return horizon if len(self.following) else 1

    def values(self, following: Array) -> Array:
        """(T,) next values, 0 after an end, from those of the rows that follow (S,)."""
        values = np.zeros(len(self.rows))
        values[self.continues] = following
        return values


def same_length(lengths: Rows) -> bool:
    """Whether all sessions (E,) have as many steps: then they end by the clock."""
    return bool((lengths == lengths[:1]).all())


class Part(Protocol):
    """Some of the logged steps, T of them, of which S continue."""

    @property
    def transitions(self) -> Transitions:
        """Their rows."""

    @property
    def reward(self) -> Array:
        """(T,) rewards."""

    @property
    def weights(self) -> Array:
        """(T,) by which the steps count."""

    def design(self, block: slice) -> Array:
        """Features (B, P) of what was shown at a slice of the steps; made anew at every stage."""

    def best_next(self, weights: Array) -> Array:
        """(S,) the value, by weights (P,), of the steps that follow."""


@dataclass(frozen=True)
class Stage:
    """A fitted Q-function."""

    weights: Array  # (P,)
    residual: float  # mean square


@dataclass
class _Sums:
    """Sums that a stage needs of the steps: products with the features x (P,).

    The target is the reward and the next value. Where values are centred, the mean of the next
    values is known only when all parts have passed by; it is taken from the sums then.
    """

    moment: Array  # Σ w x target
    continuing: Array  # Σ w x, of the steps that continue
    squares: float = 0.0  # Σ w target²
    crossed: float = 0.0  # Σ w target, of the steps that continue
    weight: float = 0.0  # Σ w
    weight_continuing: float = 0.0  # Σ w, of the steps that continue
    best: float = 0.0  # Σ of the next values
    following: int = 0

    def add(self, part: Part, previous: Array | None, gram: Array | None) -> None:
        """Take in a part, with next values by the previous weights, and its share of the gram."""
        continues, weights = part.transitions.continues, part.weights
        target = part.reward
        if previous is not None:
            best = part.best_next(previous)
            target = target + part.transitions.values(best)
            self.best += float(best.sum())
            self.following += len(best)
        for block in blocks(len(target)):
            x, weighted = part.design(block), weights[block]
            self.moment += x.T @ (weighted * target[block])
            self.continuing += x.T @ (weighted * continues[block])
            if gram is not None:
                gram += x.T @ (x * weighted[:, None])
        self.squares += float((weights * target) @ target)
        self.crossed += float((weights * continues) @ target)
        self.weight += float(weights.sum())
        self.weight_continuing += float(weights @ continues)

    def centred(self) -> tuple[Array, float]:
        """Moment and squares of the target less the mean next value, where a step continues."""
        mean = self.best / max(self.following, 1)
        squares = self.squares - 2 * mean * self.crossed + mean**2 * self.weight_continuing
        return self.moment - mean * self.continuing, squares


@dataclass(frozen=True)
class StageFile:
    """A file from which stages go on where a killed process stopped; None for none."""

    path: Path | None = None

    def read(self, terms: int) -> tuple[Array, int, list[Stage]]:
        """The gram (P, P), the number of steps, and the stages so far; zeros and none at first."""
        if self.path is None or not self.path.exists():
            return np.zeros((terms, terms)), 0, []
        with np.load(self.path) as file:
            pairs = zip(file["weights"], file["residuals"], strict=True)
            stages = [Stage(weights, float(residual)) for weights, residual in pairs]
            return file["gram"], int(file["rows"]), stages

    def write(self, gram: Array, rows: int, stages: list[Stage]) -> None:
        """Put the stages so far in the place of those before, in one step."""
        if self.path is None:
            return
        weights = np.stack([stage.weights for stage in stages])
        residuals = np.array([stage.residual for stage in stages])
        written = io.BytesIO()
        np.savez(written, gram=gram, rows=rows, weights=weights, residuals=residuals)
        write_whole(self.path, written.getbuffer())


NO_FILE = StageFile()


def backward_stages(
    parts: Callable[[], Iterable[Part]],
    terms: int,
    stages: int,
    timed: bool,
    ridge: float = 1e-9,
    file: StageFile = NO_FILE,
) -> Iterator[Stage]:
    """Fit the stages, from the last step of an episode backwards.

    Args:
        parts: All steps, a part at a time; each stage passes over them once.
        terms: P, features of a step.
        stages: How many.
        timed: Whether sessions end by the clock: then next values are centred, for their mean is
            a constant which would only grow.
        ridge: Precision of the prior on the weights, for each row.
        file: Has the stages that another process fitted to the same steps before it was killed.

    Raises:
        InputError: The features do not vary enough.
    """
    gram, rows, fitted = file.read(terms)
    yield from fitted
    factor, weights = None, fitted[-1].weights if fitted else None
    for stage in range(len(fitted) + 1, stages + 1):
        sums = _Sums(np.zeros(terms), np.zeros(terms))
        for part in parts():
            sums.add(part, weights, gram if stage == 1 else None)
            rows += len(part.reward) if stage == 1 else 0
        if factor is None:
            factor = _factor(gram + ridge * rows * np.eye(terms))
        moment, squares = sums.centred() if timed else (sums.moment, sums.squares)
        weights = np.asarray(linalg.cho_solve(factor, moment), np.float64)
        # The squared residual, without another pass
        explained = float(weights @ (2 * moment - gram @ weights))
        fitted.append(Stage(weights, max(squares - explained, 0.0) / sums.weight))
        file.write(gram, rows, fitted)
        yield fitted[-1]


def _factor(precision: Array) -> tuple[Array, bool]:
    try:
        factor: tuple[Array, bool] = linalg.cho_factor(precision, lower=True)
    except linalg.LinAlgError as error:
        raise InputError(
            "dataset: expected candidates that vary, got too few different ones for the "
            "polynomial; log a random policy, lower the degree or raise the ridge"
        ) from error
    return factor
