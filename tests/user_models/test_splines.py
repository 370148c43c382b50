"""Hinges at knots."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.user_models.polynomial import MOST_BENT, Polynomial, bends, term_count
from slateflow.user_models.splines import Knots


def features(rows: int = 400) -> np.ndarray:
    """Two columns of a user, one of them 0 or 1, and two of a candidate likewise."""
    rng = np.random.default_rng(4)
    two = rng.integers(0, 2, (rows, 2))
    return np.column_stack([rng.uniform(18, 80, rows), two[:, 0], rng.normal(size=rows), two[:, 1]])


def test_columns_of_two_values_have_no_knots():
    knots = Knots.at_quantiles(features(), 3)
    assert knots.feature.tolist() == [0, 0, 0, 0, 2, 2, 2, 2]


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_terms_are_products_with_the_other_side(degree):
    """Each hinge alone, with each column of the other side, and with each of that side's hinges."""
    x = features()
    knots = Knots.at_quantiles(x, 1)
    polynomial = Polynomial.over(x, degree, 2, knots)
    hinges = [
        np.maximum(x[:, f] - v, 0) ** 2 for f, v in zip(knots.feature, knots.value, strict=True)
    ]
    user, candidate = hinges[:2], hinges[2:]
    expected = [*user, *candidate]
    expected += [h * x[:, c] for h in user for c in (2, 3)]
    expected += [h * x[:, c] for h in candidate for c in (0, 1)]
    expected += [h * g for h in user for g in candidate]
    plain = Polynomial.over(x, degree, 2).design(x)
    count = term_count(2, 2, degree) + len(expected)
    assert len(polynomial.powers) == count == plain.shape[1] + knots.term_count(2, 4)
    design = polynomial.design(x)
    # The terms are standardised first, so the spaces that they span are compared
    ours = np.linalg.lstsq(design, np.column_stack(expected), rcond=None)[0]
    np.testing.assert_allclose(design @ ours, np.column_stack(expected), atol=1e-6)
    assert np.linalg.matrix_rank(design) == np.linalg.matrix_rank(
        np.column_stack([plain, *expected])
    )


def test_degrees_are_those_of_user_and_candidate():
    x = features()
    polynomial = Polynomial.over(x, 1, 2, Knots.at_quantiles(x, 1))
    of_user, of_candidate = polynomial.degrees(2)
    owner = np.array([0, 0, 1, 1, 0, 0, 1, 1])  # two columns each, and two hinges
    for one, exponents in enumerate(polynomial.powers):
        assert of_user[one] == sum(exponents[owner == 0])
        assert of_candidate[one] == sum(exponents[owner == 1])


def test_splines_are_of_degree_2_at_most_and_have_no_more_terms_than_allowed():
    found = bends(features(), 5, 2, 2)
    assert [(degree, len(knots.feature)) for degree, knots in found] == [(2, 8), (2, 16)]
    of_items = np.column_stack([features()[:, 0], np.tile(np.eye(20), (20, 1))])
    # 4 hinges times (1, item), and with 253 terms of degree 2 they would be more than 200
    ((degree, knots),) = bends(of_items, 5, 1, 1)
    assert (degree, len(knots.feature)) == (1, 4)
    assert term_count(1, 20, 1) + knots.term_count(1, 21) == 42 + 4 * 21 <= MOST_BENT


def test_what_is_remembered_has_no_knots():
    x = np.column_stack([features()[:, :1], features()[:, 2], features()[:, 2:]])
    assert {*bends(x, 3, 2, 1)[0][1].feature.tolist()} == {0, 2}
