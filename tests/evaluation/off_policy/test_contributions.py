"""Intervals from sums over sessions, against exact ones and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from slateflow.evaluation.off_policy.contributions import (
    Contributions,
    WeightedErrors,
    p_value,
    rare,
    weighted_events,
    with_skewness,
    without_skewness,
)
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
    found, expected = difference.compare(), compare(first, second)
    assert (found.uplift, *found.ci) == pytest.approx((expected.uplift, *expected.ci))
    assert found.p_value == pytest.approx(expected.p_value)
    alike = Contributions(first) - Contributions(first)
    assert alike.compare() == compare(first, first)


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
    gained = np.where(np.arange(2000) < 1900, 1.0, -1.0)
    assert stats.binomtest(100, 2000).pvalue < 1e-99  # where chance decides which one is clicked
    assert Contributions(zeros, gained).compare().p_value == 1e-15


def covered(target, logging, rates, rows: int, repeats: int, seed: int):
    """Shares of logs whose interval of an uplift covers the truth, lies above, usually covers."""
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


def test_clicks_that_happen_to_be_missing_are_allowed_for():
    """1% of the choices have weights of 50, and 2% of these a click: four in 20,000 rows."""
    share, held = np.array([0.99, 0.01]), {True: 0, False: 0}
    truth, rng, repeats = 0.02, np.random.default_rng(6), 600
    for _ in range(repeats):
        weight = np.where(rng.random(20_000) < share[1], 50.0, 0.5 / 0.99)
        reward = (rng.random(len(weight)) < truth).astype(float)
        for known in held:
            errors = WeightedErrors(weight, reward, reward) if known else None
            one = Contributions.of(np.zeros(len(weight)), weight * reward, reward, errors)
            low, high = one.interval()
            held[known] += low <= truth <= high
    assert held[True] / repeats >= 0.93
    assert held[False] / repeats < 0.93


def hall(t: float, skewness: float, rows: int) -> float:
    """√n g(t / √n), with Hall's (1992) g, a = 1/3, b = 1/6 and the contributions' skewness."""
    a, b, x = 1 / 3, 1 / 6, t / np.sqrt(rows)
    cubic = x + a * skewness * x**2 + a**2 * skewness**2 * x**3 / 3 + b * skewness / rows
    return float(np.sqrt(rows) * cubic)


@pytest.mark.parametrize("skewness", [-40.0, -3.0, 0.0, 1e-9, 5.0, 60.0])
@pytest.mark.parametrize("t", [-9.0, -1.96, 0.0, 0.3, 1.96, 9.0])
def test_the_transformation_is_halls_and_its_inverse_a_root(t, skewness):
    rows = 900
    of_estimate = skewness / np.sqrt(rows)
    found = without_skewness(np.array(t), of_estimate)
    assert found == pytest.approx(hall(t, skewness, rows), abs=1e-9)
    root = optimize.brentq(lambda one: hall(one, skewness, rows) - t, -1e3, 1e3, xtol=1e-12)
    assert with_skewness(np.array(t), of_estimate) == pytest.approx(root, abs=1e-6)


def revenue(rows: int, seed: int) -> tuple[Contributions, Contributions]:
    """Log-normal rewards with mean 1: a policy that shows one item of ten, and a uniform one."""
    rng = np.random.default_rng(seed)
    reward = np.exp(rng.normal(-0.5, 1.0, rows))
    one = np.ones(rows)
    first, second = (
        Contributions.of(
            one - each, each * reward, reward, WeightedErrors(each, reward - 1, reward)
        )
        for each in (np.where(rng.random(rows) < 0.1, 10.0, 0.0), one)
    )
    return first, second


def test_limits_and_p_value_are_of_one_transformation():
    first, second = revenue(2_000, 1)
    for shift in np.linspace(-0.3, 0.3, 21):
        moved = Contributions(first.dense + shift, errors=first.errors)
        found = (moved - second).compare()
        low, high = found.ci
        assert (found.p_value < 0.05) == (not low <= 0 <= high)
        at_zero = (moved - second).interval(1 - found.p_value)
        assert min(abs(one) for one in at_zero) == pytest.approx(0, abs=1e-6)


def test_the_skewness_adds_up_from_third_cumulants():
    """An exponential variable has variance 1 and third cumulant 2."""
    rows, rng = 1_000_000, np.random.default_rng(5)
    error, rest = rng.exponential(1.0, (2, rows)) - 1
    weight = np.where(rng.random(rows) < 0.1, 10.0, 0.0)
    first = Contributions(2 * rest + weight * error, errors=WeightedErrors(weight, error, error))
    second = Contributions(error, errors=WeightedErrors(np.ones(rows), error, error))
    # Weights differ by 9 in a tenth of the rows, otherwise by −1
    second_moment, third_moment = 0.1 * 9**2 + 0.9, 0.1 * 9**3 - 0.9
    expected = (2**3 * 2 + third_moment * 2) / (2**2 + second_moment) ** 1.5
    assert (first - second).skewness * np.sqrt(rows) == pytest.approx(expected, rel=0.02)
    assert Contributions(first.dense).skewness == 0.0


def test_intervals_of_revenue_hold_where_the_usual_ones_lie_too_low():
    """1,500 logs of 2,000 rows: shares of 0.025 have a standard error of 0.004."""
    beyond, logs = np.zeros((2, 2)), 1_500
    for seed in range(logs):
        first, second = revenue(2_000, seed)
        difference = first - second
        for place, one in enumerate((difference, Contributions(difference.dense))):
            low, high = one.interval()
            beyond[place] += high < 0, low > 0
    (too_low, too_high), (usually_too_low, usually_too_high) = beyond / logs
    assert 0.01 <= too_low <= 0.037
    assert 0.01 <= too_high <= 0.037
    assert usually_too_low > 0.05 > 0.02 > usually_too_high


def test_rare_rewards_are_events_where_they_are_of_about_one_size():
    """50 rewards are 1: Σ r Σ r³ / (Σ r²)² is 1.4 if the 51st is 4, and 1.7 if it is 5."""
    rewards = np.append(np.zeros(949), np.ones(50))
    assert rare(np.append(rewards, 4.0))
    assert not rare(np.append(rewards, 5.0))
    assert not rare(np.append(rewards, -1.0))
    assert rare(np.zeros(10))
    assert not rare(np.ones(10))


@pytest.mark.parametrize("clicks", [True, False])
def test_decisions_of_a_session_count_as_single_ones(clicks):
    """Sessions of four: sums are four times as large, and the rest is the same per decision."""
    rng, rows, steps = np.random.default_rng(8), 8_000, 4
    weight = np.where(rng.random(rows) < 0.05, 20.0, 0.0)
    reward = (rng.random(rows) < 0.03).astype(float) if clicks else rng.lognormal(-1.1, 1.5, rows)
    expected = np.full(rows, reward.mean())
    weighted, error = weight * reward, reward - expected
    model = expected - weight * expected
    single = Contributions.of(
        model, weighted, reward, WeightedErrors(weight, error, reward, missing=2.0)
    )

    def summed(values: np.ndarray) -> np.ndarray:
        return values.reshape(-1, steps).sum(axis=1)

    errors = WeightedErrors(weight, error, reward, 2.0, summed(weight * error))
    sessions = Contributions.of(summed(model), summed(weighted), reward, errors)
    assert (sessions.rewarded is not None) == clicks
    assert sessions.sessions == rows / steps
    assert sessions.value == pytest.approx(steps * single.value)
    if not clicks:
        assert sessions.skewness == pytest.approx(single.skewness, rel=0.05)
    ours, theirs = (np.subtract(one.interval(), one.value) for one in (sessions, single))
    np.testing.assert_allclose(ours, steps * theirs, rtol=0.05)
    assert abs(theirs[1]) > 1.1 * abs(theirs[0])  # missing rewards would raise the estimate


def test_errors_of_other_decisions_are_not_compared():
    """With a memory values may be fitted to other steps; the sessions are the same."""
    first, second = (
        Contributions(
            np.arange(10.0) * each,
            errors=WeightedErrors(np.ones(rows), np.ones(rows), np.ones(rows), 0.0, np.ones(10)),
        )
        for each, rows in ((2, 30), (1, 20))
    )
    difference = first - second
    assert difference.errors is None
    assert difference.interval() == Contributions(np.arange(10.0)).interval()
