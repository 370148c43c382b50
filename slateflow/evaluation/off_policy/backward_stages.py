"""Backward induction by least squares: the recursion of fitted-Q iteration.

Q₁ regresses the reward on the features of what was shown, and Q_k the reward plus the value of the
next step by Q_{k-1}. The dynamics do not depend on the time, so every stage uses all rows, and the
design matrix is the same at every stage: it is factored once.

Where all sessions have the same number of steps, a stage is the number of steps left. Where they
end by themselves, nobody knows how many are left: the stages approach one Q-function for all steps,
and a session that has ended is worth nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from slateflow.errors import InputError
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
    def from_rows(cls, rows: Trajectories) -> Transitions:
        """Take the steps that have a successor, and the ends where sessions end by themselves.

        Sessions of a single step have nothing but ends.
        """
        lengths, last = rows.lengths, rows.last
        timed = same_length(lengths)
        used = ~last if timed else ~last | rows.terminated
        if (lengths == 1).all():
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


@dataclass(frozen=True)
class Stage:
    """A fitted Q-function."""

    weights: Array  # (P,)
    residual: float  # mean square


def backward_stages(
    design: Callable[[slice], Array],
    rewards: Array,
    next_values: Callable[[int, Array], Array],
    stages: int,
    ridge: float = 1e-9,
    row_weights: Array | None = None,
) -> Iterator[Stage]:
    """Fit the stages, from the last step of an episode backwards.

    Args:
        design: From a slice of the T steps to the features (B, P) of what was shown there. They
            are made anew at every stage, a block in memory at a time.
        rewards: (T,) of the steps.
        next_values: From a stage k, from 1 on, and its weights, to the values (T,) of the next
            steps with k steps left.
        stages: How many.
        ridge: Precision of the prior on the weights, for each row.
        row_weights: (T,) by which steps count; None for all alike.

    Raises:
        InputError: The features do not vary enough.
    """
    steps = list(blocks(len(rewards)))
    weight = np.ones(len(rewards)) if row_weights is None else row_weights
    gram: Array = sum(
        (x.T @ (x * weight[block, None]) for block in steps for x in [design(block)]),
        start=np.zeros(()),
    )
    try:
        precision = gram + ridge * len(rewards) * np.eye(len(gram))
        factor = linalg.cho_factor(precision, lower=True)
    except linalg.LinAlgError as error:
        raise InputError(
            "dataset: expected candidates that vary, got too few different ones for the "
            "polynomial; log a random policy, lower the degree or raise the ridge"
        ) from error
    values: Array = np.zeros(len(rewards))
    for stage in range(1, stages + 1):
        target = rewards + values
        moment: Array = sum(
            (design(block).T @ (weight * target)[block] for block in steps), start=np.zeros(())
        )
        weights = np.asarray(linalg.cho_solve(factor, moment), np.float64)
        # The squared residual, without another pass
        explained = weights @ (2 * moment - gram @ weights)
        residual = max(float((weight * target) @ target - explained), 0.0)
        yield Stage(weights, residual / float(weight.sum()))
        if stage < stages:
            values = next_values(stage, weights)
