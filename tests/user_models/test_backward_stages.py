"""Backward induction, against explicit regressions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from slateflow.user_models.backward_stages import Transitions, backward_stages

ROWS, TERMS, RIDGE = 60, 4, 0.01


@dataclass
class Steps:
    """Sessions of two steps with complete features, and one candidate that follows."""

    transitions: Transitions
    features: np.ndarray  # (T, P)
    following: np.ndarray  # (S, P)
    reward: np.ndarray  # (T,)
    weights: np.ndarray  # (T,)

    def design(self, block: slice) -> np.ndarray:
        return self.features[block]

    def best_next(self, weights: np.ndarray) -> np.ndarray:
        return self.following @ weights


@pytest.mark.parametrize("shrunk", [None, 5.0])
def test_next_values_have_a_prior_of_their_own(shrunk):
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(ROWS), rng.normal(size=(ROWS, TERMS - 1))])
    continues = np.arange(ROWS) % 2 == 0
    rows = np.arange(ROWS)
    steps = Steps(
        Transitions(rows, rows[continues] + 1, continues, timed=False),
        x,
        x[rows[continues] + 1],
        rng.normal(size=ROWS),
        rng.uniform(0.5, 1.0, ROWS),
    )
    ridge = RIDGE * ROWS * np.eye(TERMS)
    prior = None if shrunk is None else np.diag([0.0, *[shrunk] * (TERMS - 1)])
    found = list(
        backward_stages(
            lambda function: [function(steps)], TERMS, 3, timed=False, ridge=RIDGE, prior=prior
        )
    )
    # Each row by itself, by its root weight, and rows of the prior below
    by = np.sqrt(steps.weights)[:, None]

    def regressed(target: np.ndarray, precision: np.ndarray) -> np.ndarray:
        below = np.sqrt(precision)  # diagonal
        design = np.concatenate([x * by, below])
        return np.linalg.lstsq(design, np.append(target * by[:, 0], np.zeros(TERMS)))[0]

    weights = np.zeros(TERMS)
    for stage in found:
        ahead = np.zeros(ROWS)
        ahead[continues] = steps.following @ weights
        weights = regressed(steps.reward, ridge)
        weights = weights + regressed(ahead, ridge if prior is None else prior)
        np.testing.assert_allclose(stage.weights, weights, rtol=1e-9)
        wrong = steps.reward + ahead - x @ weights
        residual = np.average(np.square(wrong), weights=steps.weights)
        assert stage.residual == pytest.approx(residual)
