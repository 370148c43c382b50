"""Solutions against exact arithmetic, where doubles have no Cholesky factor."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import linalg

from slateflow.user_models.normal_equations import NormalEquations


def exact_solution(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    """Gauss-Jordan elimination in fractions."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for column in range(len(rows)):
        pivot = next(i for i in range(column, len(rows)) if rows[i][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for i, row in enumerate(rows):
            if i != column:
                rows[i] = [a - row[column] * b for a, b in zip(row, rows[column], strict=True)]
    return [row[-1] for row in rows]


@pytest.mark.parametrize("ridge", [0.001, 1.0, 1000.0])
@pytest.mark.parametrize(("low", "high"), [(1950, 2008), (100, 90_000)])
def test_predictions_are_those_of_exact_arithmetic(low, high, ridge):
    """Products of (1, year, year²) and (1, item, item); the indicators of items add up to 1."""
    rng = np.random.default_rng(0)
    year, item, paid = (
        rng.integers(*ends, 300).astype(object) for ends in ((low, high), (0, 2), (0, 2))
    )
    user = np.array([year**0, year, year**2])
    features = np.array([u * c for u in user for c in (item**0, item, 1 - item)])  # (9, R)
    matrix, right = features @ features.T, features @ paid  # of Python's integers
    precision = [[Fraction(int(value)) for value in row] for row in matrix]
    for i in range(9):
        precision[i][i] += Fraction(ridge)
    exact = exact_solution(precision, [Fraction(int(value)) for value in right])
    expected = [
        float(sum(w * int(x) for w, x in zip(exact, row, strict=True))) for row in features.T
    ]
    equations = NormalEquations.of(matrix.astype(float) + ridge * np.eye(9))
    found = features.T.astype(float) @ equations.solved(right.astype(float))
    np.testing.assert_allclose(found, expected, atol=0.005)


def test_a_matrix_of_good_condition_is_solved_to_the_last_digits():
    rng = np.random.default_rng(1)
    x, right = rng.normal(size=(200, 12)), rng.normal(size=12)
    size = np.geomspace(1e-4, 1e4, 12)
    equations = NormalEquations.of(x.T @ x * size * size[:, None])
    expected = linalg.solve(x.T @ x, right / size) / size
    np.testing.assert_allclose(equations.solved(right), expected, rtol=1e-12)
    factor = equations.unscaled_factor / size[:, None]
    np.testing.assert_allclose(factor @ factor.T, x.T @ x, rtol=1e-9, atol=1e-9)
