"""Priors of centred columns, against regressions whose columns were centred row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from slateflow.user_models.bilinear import (
    NO_SQUARES,
    Block,
    LinearStatistics,
    Squares,
    bilinear_features,
)
from slateflow.user_models.centring import Centring, bilinear_prior
from slateflow.user_models.prior import WeightGroups, chosen_prior

ROWS, PLACES = 600, 2


@dataclass(frozen=True)
class World:
    """Users have a depth and an indicator, items a price and an indicator; two are seen."""

    user_size: int = 2
    document_size: int = 2
    features_match: bool = False
    slate_size: int = PLACES
    user_chooses: bool = True


def table(shift: float = 0.0, scale: float = 1.0):
    """Users (R, 2), shown items (R, 2, 2) and clicks; depths and prices are shifted and scaled."""
    rng = np.random.default_rng(4)
    depth, price = rng.normal(size=ROWS), rng.normal(size=(ROWS, PLACES))
    man, new = rng.integers(0, 2, ROWS), rng.integers(0, 2, (ROWS, PLACES))
    liked = depth[:, None] * price + 0.5 * new - 0.3 * man[:, None] * price
    clicked = np.where((liked + rng.normal(size=liked.shape)).max(axis=1) > 0, liked.argmax(1), -1)
    user = np.stack([shift + scale * depth, man], axis=1)
    return user, np.stack([shift + scale * price, new], axis=2), clicked


def statistics_of(user, shown, clicked, squares=NO_SQUARES):
    reward = (clicked >= 0).astype(float)
    block = Block.from_shown(user, shown, clicked, reward, squares)
    return LinearStatistics.from_block(block)


def less_mean(values, column: int = 0):
    """The values, the mean of one column taken out."""
    values = values.copy()
    values[..., column] -= values[..., column].mean()
    return values


@pytest.mark.parametrize("squares", [NO_SQUARES, Squares((0,), (0,))])
def test_sums_are_centred_as_rows_are(squares):
    user, shown, clicked = table(shift=8.0 if squares.user else 60.0)
    statistics = statistics_of(user, shown, clicked, squares)
    centring = Centring.of(statistics, World(), squares)
    found = centring.centred(statistics)
    expected = statistics_of(less_mean(user), less_mean(shown), clicked, squares)
    np.testing.assert_allclose(found.gram, expected.gram, atol=1e-4 * expected.gram.max())
    np.testing.assert_allclose(found.moment, expected.moment, atol=1e-6)
    deviations = [1.0, user[:, 0].std(), 1.0], [1.0, shown[:, :, 0].std(), 1.0]
    np.testing.assert_allclose(centring.user.size[:3], deviations[0], rtol=1e-6)
    np.testing.assert_allclose(centring.candidate.size[:3], deviations[1], rtol=1e-6)


def test_the_prior_is_that_of_centred_weights():
    """Predictions are equal, whether the rows are centred or the prior is turned."""
    user, shown, clicked = table(shift=60.0)
    statistics = statistics_of(user, shown, clicked)
    centring = Centring.of(statistics, World())
    precision = np.diag(np.random.default_rng(5).random(len(statistics.moment)))
    weights = np.linalg.solve(statistics.gram + centring.prior(precision), statistics.moment)
    found = bilinear_features(user, shown) @ weights[:9] + np.append(0, weights[9:])
    user, shown = less_mean(user), less_mean(shown)
    centred = statistics_of(user, shown, clicked)
    weights = np.linalg.solve(centred.gram + precision, centred.moment)
    expected = bilinear_features(user, shown) @ weights[:9] + np.append(0, weights[9:])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_neither_origin_nor_unit_of_a_column_matters():
    scores = []
    for shift, scale in ((0.0, 1.0), (44.0, 1.0), (-200.0, 7.0)):
        user, shown, clicked = table(shift, scale)
        statistics = statistics_of(user, shown, clicked)
        prior = bilinear_prior(statistics, World())
        weights = np.linalg.solve(statistics.gram + prior, statistics.moment)
        scores.append(bilinear_features(user, shown) @ weights[:9])
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], atol=1e-3 * scores[0].std())


def test_indicators_are_left_as_they_are():
    rng = np.random.default_rng(6)
    user, shown = rng.integers(0, 2, (ROWS, 2)), rng.integers(0, 2, (ROWS, PLACES, 2))
    statistics = statistics_of(user, shown, rng.integers(-1, PLACES, ROWS))
    found = bilinear_prior(statistics, World())
    np.testing.assert_array_equal(found, chosen_prior(statistics, WeightGroups.of(World())))


@pytest.mark.parametrize("squares", [NO_SQUARES, Squares((0,), ())])
def test_columns_that_are_too_far_away_are_left_as_they_are(squares):
    """Sums of squares have no digits for a deviation of 1 around 10⁹, but have some at 10³."""
    user, shown, clicked = table()

    def changes(far: float):
        statistics = statistics_of(user + np.array([far, 0]), shown, clicked, squares)
        centring = Centring.of(statistics, World(), squares)
        return centring.user.change, centring.candidate.change

    of_user, of_candidate = changes(1e9)
    np.testing.assert_array_equal(of_user, np.eye(len(of_user)))
    assert of_candidate[1, 0] != 0
    near, _ = changes(1e3)
    np.testing.assert_allclose(near[1, 0], -1e3 - user[:, 0].mean(), rtol=1e-9)
