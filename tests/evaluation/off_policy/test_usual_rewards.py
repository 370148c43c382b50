"""Rewards that nearly all decisions earn, and rare exceptions, which count as clicks do."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.evaluation.off_policy.contributions import usual
from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.evaluation.off_policy.weighted_rows import WeightedRows
from tests.evaluation.off_policy.confounded_shop import clicks_on
from tests.evaluation.off_policy.shop import OneItem

SHOWN = 0.025
"""Share of the logged rows that show the target's only item."""


def logged(rate, rng, rows=3_000, others=0.15):
    """Weights (E,) of the target, and rare events (E,), with this rate for its item."""
    own = rng.random(rows) < SHOWN
    return own / SHOWN, (rng.random(rows) < np.where(own, rate, others)).astype(float)


@pytest.mark.parametrize("others", [0.05, 0.15])
@pytest.mark.parametrize("estimator", ["snips", "dm", "dr"])
@pytest.mark.parametrize(("sign", "base"), [(-1.0, 1.0), (-1.0, 0.0), (1.0, 100.0)])
def test_the_interval_is_that_of_clicks_turned_over_or_moved(others, estimator, sign, base):
    weight, event = logged(0.03, np.random.default_rng(4), others=others)
    shown, target = np.random.default_rng(5).random((2, len(weight)))

    plain = WeightedRows(weight, event, shown, target)
    other = WeightedRows(weight, *(base + sign * one for one in (event, shown, target)))
    ends = sorted(base + sign * end for end in plain[estimator].interval())
    assert other[estimator].interval() == pytest.approx(ends)
    assert other[estimator].value == pytest.approx(base + sign * plain[estimator].value)
    assert other.skewness == pytest.approx(plain.skewness, abs=1e-9)


def test_intervals_hold_of_an_item_whose_users_hardly_ever_leave():
    """Half a user in 75 leaves on average: in six logs of ten nobody does."""
    rng, rate, held = np.random.default_rng(6), 0.007, []
    for _ in range(400):
        weight, leaves = logged(rate, rng)
        expected = np.full(len(leaves), 1 - rate)
        low, high = WeightedRows(weight, 1 - leaves, expected, expected).dr().interval()
        held.append(low <= 1 - rate <= high)
    assert np.mean(held) > 0.93


def test_differences_count_the_same_events_or_none():
    """Under one policy clicks are rare, under the other users who do not click."""
    rng = np.random.default_rng(7)
    first = np.arange(2_000) % 2 == 0
    clicks = (rng.random(2_000) < np.where(first, 0.02, 0.98)).astype(float)
    nothing = np.zeros(2_000)
    few, many = (WeightedRows(2.0 * own, clicks, nothing, nothing).dr() for own in (first, ~first))
    assert few.rewarded is not None
    assert many.rewarded is not None
    assert (many - many).rewarded is not None
    difference = many - few
    assert difference.rewarded is None
    assert difference.value == pytest.approx(many.value - few.value)


def test_what_is_usual_is_so_in_the_logs_or_under_the_policy():
    clicks, ones = np.arange(100) % 5 == 0, np.ones(100)
    of_others = np.where(clicks, 0.0, 1.0)
    assert usual(clicks.astype(float), ones) is None
    assert usual(clicks.astype(float), of_others) == 0.0
    assert usual(clicks + 7.0, of_others) == 7.0
    assert usual(clicks + 7.0, 1 - of_others) == 8.0
    assert usual(np.arange(100) * 1.0, ones) is None


def test_sessions_whose_users_like_nearly_everything_are_judged(tmp_path):
    """Users click 99.95% at each of three steps; estimates sometimes exceed 3 clicks."""
    steps, rates, beyond = 3, np.array([0.9, 0.92, 0.94, 0.9995]), 0
    for seed in range(4):
        rng = np.random.default_rng([seed, 8])
        item = rng.integers(0, 4, 4_000 * steps)
        logs = clicks_on(tmp_path / str(seed), item, steps, 0.25, rates, rng)
        found = estimate_policies(logs, {"liked": OneItem(3)}, held_out_only=False)
        liked = found.policies["liked"]
        assert liked.refusal is None
        low, high = liked.contributions.interval()
        assert low < steps * rates[3] < high
        beyond += liked.contributions.value > steps
    assert beyond > 0
