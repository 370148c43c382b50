"""The optimum against published numbers, and against integrals without a grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate

from slateflow.environments import preset
from slateflow.environments.long_term_satisfaction.optimum import optimal_return
from slateflow.evaluation import episode_returns
from slateflow.policies import GreedyPolicy


@pytest.mark.parametrize(
    ("name", "published", "digit"),
    [
        ("modified-lts-20-2", 1195.80, 0.01),
        ("modified-lts-10-1", 1190.67, 0.01),
        ("lts-20-2", 1136.3, 0.1),
        ("lts-10-1", 1116.7, 0.1),
    ],
)
def test_published_optima(name, published, digit):
    assert optimal_return(preset(name)) == pytest.approx(published, abs=digit)


def satisfied(exposure: float) -> float:
    """Satisfaction of the modified world."""
    return 1 / (1 + math.exp(-0.058 * exposure))


def mean_over_users(value) -> float:
    """Average over the initial exposures of users: uniform in ±½ / 0.3."""
    total, _ = integrate.quad(value, -0.5 / 0.3, 0.5 / 0.3)
    return total * 0.3


@pytest.mark.parametrize("candidates", [1, 2, 10, 20])
def test_one_step_is_the_best_of_n_chocolates(candidates):
    """At the last step the sweetest pays most, and the highest of N scores has density N·cᴺ⁻¹."""
    spec = preset("modified-lts-10-1", num_candidates=candidates, time_budget=1)

    def value(exposure: float) -> float:
        level = satisfied(exposure)
        best, _ = integrate.quad(
            lambda c: candidates * c ** (candidates - 1) * math.exp((4 + c) * level + 0.1**2 / 2),
            0,
            1,
        )
        return best

    assert optimal_return(spec) == pytest.approx(mean_over_users(value), rel=1e-5)


def test_two_steps_without_choice():
    """With one candidate there is no choice: the value is a plain integral."""
    spec = preset(
        "modified-lts-10-1", num_candidates=1, slate_size=1, time_budget=2, innovation_stddev=0.0
    )

    def reward(exposure: float) -> float:  # ∫ exp((4 + c)s) dc in closed form
        level = satisfied(exposure)
        return math.exp(4 * level + 0.005) * (math.exp(level) - 1) / level

    def value(exposure: float) -> float:
        later, _ = integrate.quad(lambda c: reward(0.7 * exposure - 2 * (c - 0.5)), 0, 1)
        return reward(exposure) + later

    assert optimal_return(spec) == pytest.approx(mean_over_users(value), rel=1e-5)


@pytest.mark.parametrize("sensitivity", [0.058, 1.0])
def test_two_steps_with_a_choice_of_two_by_enumeration(sensitivity):
    """All pairs of candidates on a fine lattice, and the better of the two by its total value.

    With a sensitivity of 1 kale pays off even in two steps, so the better is not the sweeter.
    """
    spec = preset(
        "modified-lts-10-1",
        num_candidates=2,
        time_budget=2,
        innovation_stddev=0.0,
        sensitivity=sensitivity,
    )

    def level(exposure):
        return 1 / (1 + np.exp(-sensitivity * exposure))

    def last(exposure):  # ∫ 2c exp((4 + c)s) dc in closed form
        s = level(exposure)
        return 2 * np.exp(4 * s + 0.005) * (np.exp(s) * (1 / s - 1 / s**2) + 1 / s**2)

    score = (np.arange(600) + 0.5) / 600
    nodes, weights = np.polynomial.legendre.leggauss(40)
    total, sweeter_is_worse = 0.0, 0
    for node, weight in zip(nodes, weights, strict=True):
        exposure = node * 0.5 / 0.3
        whole = np.exp((4 + score) * level(exposure) + 0.005) + last(
            0.7 * exposure - 2 * (score - 0.5)
        )
        sweeter_is_worse += whole[0] > whole[-1]
        total += weight / 2 * np.maximum(whole[:, None], whole[None, :]).mean()
    assert optimal_return(spec, 3201, 1601) == pytest.approx(total, rel=1e-5)
    assert (sweeter_is_worse > 0) == (sensitivity == 1.0)


def test_noise_of_the_user_is_integrated():
    """Wide noise and two steps, against 400,000 simulated users."""
    spec = preset(
        "modified-lts-10-1",
        num_candidates=1,
        time_budget=2,
        innovation_stddev=0.5,
        sensitivity=0.5,
    )
    rng = np.random.default_rng(0)
    start, noise = rng.uniform(-0.5 / 0.3, 0.5 / 0.3, 400_000), rng.normal(0, 0.5, 400_000)
    first, second = rng.random(400_000), rng.random(400_000)
    later = 0.7 * start - 2 * (first - 0.5) + noise
    played = sum(
        np.exp((4 + c) / (1 + np.exp(-0.5 * x)) + 0.005)
        for c, x in ((first, start), (second, later))
    )
    error = played.std() / math.sqrt(len(played))
    assert abs(optimal_return(spec) - played.mean()) < 4 * error


def test_a_finer_grid_changes_nothing():
    spec = preset("modified-lts-20-2")
    assert optimal_return(spec, 801, 601) == pytest.approx(optimal_return(spec), abs=0.01)


def test_nobody_passes_it_and_the_sweetest_reaches_it_where_nothing_is_to_trade_off():
    spec = preset("lts-20-2")
    sweetest = episode_returns(spec, GreedyPolicy(2), 4000, seed=0)
    assert abs(sweetest.mean() - optimal_return(spec)) < 4 * sweetest.std() / math.sqrt(4000)


def test_it_is_not_known_where_the_candidates_stay():
    assert optimal_return(preset("modified-lts-20-2", resample_documents=False)) is None
