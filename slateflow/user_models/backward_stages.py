"""Backward induction by least squares: the recursion of fitted-Q iteration.

Q₁ regresses the reward on the features of user and shown item, and Q_k the reward plus the value of
the next step by Q_{k-1}. The dynamics do not depend on the time, so every stage uses all rows, and
the design matrix is the same at every stage and is factored once. A stage needs only sums over the
rows, which can be read part by part.

Where all sessions have the same number of steps, a stage is the number of steps left. Where rewards
depend on that number, as when the last step brings an order, a stage uses only the rows of its own
step. Where sessions end by themselves, the number of steps left is unknown: the stages approach one
Q-function for all steps, and the value after the end of a session is 0.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from slateflow.errors import InputError
from slateflow.trajectories.files.atomic_files import write_whole
from slateflow.trajectories.schema import Trajectories, blocks
from slateflow.user_models.additive import Additive
from slateflow.user_models.clock import same_length, steps_left

Array = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Transitions:
    """The logged steps to which a Q-function is fitted.

    Attributes:
        rows: (T,) numbers of the steps' rows.
        following: (S,) numbers of the rows that follow, for those steps that have a successor.
        continues: (T,) whether a row has a successor.
        timed: Whether all sessions have the same number of steps.
        left: (T,) steps of the session from a row on, where each such number has values of its own;
            None where they share all rows.
    """

    rows: Rows
    following: Rows
    continues: NDArray[np.bool_]
    timed: bool
    left: Rows | None = None

    @classmethod
    def from_rows(
        cls, rows: Trajectories, timed: bool | None = None, by_the_clock: bool = False
    ) -> Transitions:
        """Take the steps that have a successor, and last steps where they have values of their own.

        If all sessions have a single step, all steps are last ones.

        Args:
            rows: Whole sessions.
            timed: Whether all sessions have the same number of steps; given where these rows are
                only some of the sessions.
            by_the_clock: Whether rewards depend on the number of steps left.
        """
        lengths, last = rows.lengths, rows.last
        timed = same_length(lengths) if timed is None else timed
        used = ~last if timed else ~last | rows.terminated
        if timed and (by_the_clock or (lengths == 1).all()):
            used = np.ones(len(rows), np.bool_)
        numbers = np.flatnonzero(used)
        continues = ~last[numbers]
        left = steps_left(rows) if by_the_clock else None
        return cls(numbers, numbers[continues] + 1, continues, timed, left)

    def most_stages(self, horizon: int) -> int:
        """Largest number of useful stages: 1 for sessions of a single step."""
        return horizon if len(self.following) else 1

    def values(self, following: Array) -> Array:
        """(T,) next values, 0 after a last step, from the values (S,) of the rows that follow."""
        values = np.zeros(len(self.rows))
        values[self.continues] = following
        return values


class StepsPart(Protocol):
    """T of the logged steps, of which S have a successor."""

    @property
    def transitions(self) -> Transitions:
        """The rows of the steps."""

    @property
    def reward(self) -> Array:
        """(T,) rewards."""

    @property
    def weights(self) -> Array:
        """(T,) weights of the steps."""

    def design(self, block: slice) -> Array:
        """Features (B, P) of a slice of the steps; computed anew at every stage."""

    def best_next(self, weights: Array) -> Array:
        """(S,) the value, by weights (P,), of the steps that follow."""


@dataclass(frozen=True)
class Stage:
    """A fitted Q-function."""

    weights: Array  # (P,)
    residual: float  # mean square


@dataclass(frozen=True)
class StageSums(Additive):
    """Sums over the steps that a stage needs: products with the features x (P,).

    The target is the reward plus the next value; each has a moment of its own. Where values are
    centred, the mean of the next values is known only after all parts have been read; it is
    subtracted from the sums then.
    """

    moment: Array  # Σ w x reward
    later: Array  # Σ w x next value
    continuing: Array  # Σ w x, of the steps that continue
    gram: Array  # Σ w x x', (P, P); empty where it equals that of the stage before
    rows: int
    squares: float  # Σ w target²
    crossed: float  # Σ w target, of the steps that continue
    weight: float  # Σ w
    weight_continuing: float  # Σ w, of the steps that continue
    best: float  # Σ of the next values
    following: int

    @classmethod
    def of(cls, terms: int, previous: Array | None, stage: int, part: StepsPart) -> StageSums:
        """The sums of a part, with next values by the previous weights."""
        transitions, weights = part.transitions, part.weights
        continues, left = transitions.continues, transitions.left
        if left is not None:
            weights = weights * (left == stage)
        new = previous is None or left is not None
        ahead, best = np.zeros(len(part.reward)), np.zeros(0)
        if previous is not None:
            best = part.best_next(previous)
            ahead = transitions.values(best)
        target = part.reward + ahead
        moment, later, continuing = np.zeros((3, terms))
        gram = np.zeros((terms, terms) if new else (0, 0))
        for block in blocks(len(target)):
            x, weighted = part.design(block), weights[block]
            moment += x.T @ (weighted * part.reward[block])
            later += x.T @ (weighted * ahead[block])
            continuing += x.T @ (weighted * continues[block])
            if new:
                gram += x.T @ (x * weighted[:, None])
        return cls(
            moment,
            later,
            continuing,
            gram,
            rows=int(np.count_nonzero(weights)),
            squares=float((weights * target) @ target),
            crossed=float((weights * continues) @ target),
            weight=float(weights.sum()),
            weight_continuing=float(weights @ continues),
            best=float(best.sum()),
            following=len(best),
        )

    def centred(self) -> tuple[Array, float]:
        """Moment of next values, and squares of the target, both less the next values' mean."""
        mean = self.best / max(self.following, 1)
        squares = self.squares - 2 * mean * self.crossed + mean**2 * self.weight_continuing
        return self.later - mean * self.continuing, squares


MapSteps = Callable[[Callable[[StepsPart], StageSums]], Iterable[StageSums]]
"""Applies a function to each part of the logged steps, in order, in this or other processes."""


@dataclass(frozen=True)
class StageFile:
    """A file with the stages that a killed process had fitted, to continue from; None for none."""

    path: Path | None = None

    def read(self, terms: int) -> tuple[Array, int, list[Stage]]:
        """The gram (P, P), the number of steps, and the stages so far; zeros and none at first.

        Stages with a different number of terms are ignored.
        """
        if self.path is not None and self.path.exists():
            with np.load(self.path) as file:
                pairs = zip(file["weights"], file["residuals"], strict=True)
                stages = [Stage(weights, float(residual)) for weights, residual in pairs]
                gram, rows = file["gram"], int(file["rows"])
            if len(gram) == terms:
                return gram, rows, stages
        return np.zeros((terms, terms)), 0, []

    def write(self, gram: Array, rows: int, stages: list[Stage]) -> None:
        """Replace the file by one with the stages so far, in a single step."""
        if self.path is None:
            return
        weights = np.stack([stage.weights for stage in stages])
        residuals = np.array([stage.residual for stage in stages])
        written = io.BytesIO()
        np.savez(written, gram=gram, rows=rows, weights=weights, residuals=residuals)
        write_whole(self.path, written.getbuffer())


NO_FILE = StageFile()


def backward_stages(
    map_steps: MapSteps,
    terms: int,
    stages: int,
    timed: bool,
    ridge: float = 1e-9,
    file: StageFile = NO_FILE,
    prior: Array | None = None,
) -> Iterator[Stage]:
    """Fit the stages, from the last step of an episode backwards.

    Args:
        map_steps: Applies a function to all steps, one part at a time; called once per stage.
        terms: P, features of a step.
        stages: Number of stages.
        timed: Whether sessions end by the clock: then next values are centred, because their mean
            is a constant that would only grow.
        ridge: Precision of the prior on the weights, per row.
        file: The stages that another process fitted to the same steps before it was killed.
        prior: (P, P) precision of the prior on the weights of next values; None for the ridge.

    Raises:
        InputError: The features do not vary enough.
    """
    gram, rows, fitted = file.read(terms)
    yield from fitted
    factor, weights = None, fitted[-1].weights if fitted else None
    for stage in range(len(fitted) + 1, stages + 1):
        sums = reduce(add, map_steps(partial(StageSums.of, terms, weights, stage)))
        if len(sums.gram):
            gram, rows, factor = sums.gram, sums.rows, None
        if factor is None:
            factor = _factor(gram + ridge * rows * np.eye(terms))
            of_later = factor if prior is None else _factor(gram + prior)
        later, squares = sums.centred() if timed else (sums.later, sums.squares)
        moment = sums.moment + later
        solved = linalg.cho_solve(factor, sums.moment) + linalg.cho_solve(of_later, later)
        weights = np.asarray(solved, np.float64)
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
