"""Intervals from sums over sessions, against exact ones and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from slateflow.evaluation.off_policy.contributions import Contributions, p_value, weighted_events
from slateflow.evaluation.verdict import compare


def test_of_equal_weights_the_interval_is_that_of_poisson():
    low, high = weighted_events(np.append(np.full(7, 0.5), np.zeros(90)))
    assert low == pytest.approx(0.5 * stats.chi2.ppf(0.025, 14) / 2)
    assert high == pytest.approx(0.5 * stats.chi2.ppf(0.975, 16) / 2)


def test_without_an_event_the_upper_limit_is_that_of_one_more():
    low, high = weighted_events(np.zeros(5), one_more=2.0)
    assert (low, high) == (0.0, pytest.approx(2.0 * -np.log(0.025)))


def test_where_rewards_are_frequent_a_difference_is_compared_as_play_is():
    rng = np.random.default_rng(0)
    first, second = rng.normal(1, 1, 50), rng.normal(0, 1, 50)
    difference = Contributions(first) - Contributions(second)
    assert difference.compare() == compare(first, second)


def test_the_p_value_is_where_the_interval_ends_at_nothing():
    rng = np.random.default_rng(1)
    clicks = (rng.random(2000) < 0.03).astype(float)
    weight = rng.gamma(1.0, 1.0, 2000)
    zeros = np.zeros(2000)
    difference = Contributions.of(zeros, weight * clicks, clicks) - Contributions.of(
        zeros, clicks, clicks
    )
    found = difference.compare()
    low, high = difference.interval(1 - found.p_value)
    assert min(abs(low), abs(high)) < 1e-5
    assert p_value(0.0, difference.interval) == 1.0


def covered(target, logging, rates, rows: int, repeats: int, seed: int):
    """How often the interval of an uplift over the logging policy holds the truth, and misses."""
    rng = np.random.default_rng(seed)
    truth = float((target - logging) @ rates)
    held = above = plain = 0
    for _ in range(repeats):
        item = rng.choice(len(rates), rows, p=logging)
        reward = (rng.random(rows) < rates[item]).astype(float)
        weight, zeros = (target / logging)[item], np.zeros(rows)
        weighted = Contributions.of(zeros, weight * reward, reward)
        difference = weighted - Contributions.of(zeros, reward, reward)
        low, high = difference.interval()
        held += low <= truth <= high
        above += low > truth
        low, high = Contributions(difference.sums).interval()
        plain += low <= truth <= high
    return held / repeats, above / repeats, plain / repeats


def test_intervals_of_rare_clicks_hold_where_the_usual_ones_do_not():
    rng = np.random.default_rng(3)
    logging = rng.dirichlet(np.full(34, 3.0)) * 0.9 + 0.1 / 34
    target = rng.dirichlet(np.full(34, 0.5))
    rates = np.minimum(0.008 * rng.gamma(2, 0.5, 34), 1.0)
    held, above, plain = covered(target, logging, rates, 10_000, 600, 4)
    assert held >= 0.93  # 600 repeats: a standard error of 0.009
    assert above <= 0.04
    assert held >= plain
