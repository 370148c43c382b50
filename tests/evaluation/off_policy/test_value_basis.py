"""Tastes that bend more than a polynomial of low degree, such as those that peak at an age."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.evaluation.off_policy.corrections import MOST_WIDER, Correction, Estimated
from slateflow.evaluation.off_policy.estimates import estimate_policies, prepared_sessions
from slateflow.evaluation.off_policy.value_basis import chosen_polynomial
from slateflow.evaluation.returns import standard_error
from slateflow.policies import RandomPolicy
from slateflow.user_models.backward_stages import Transitions
from slateflow.user_models.session_memory import with_step
from tests.evaluation.off_policy.bent_shop import LOOKS, BentShop, BestSlate, ByAge
from tests.trajectories.sources.shop import log, published


@pytest.mark.parametrize("explores", [1.0, 0.3])
def test_peaks_are_followed(tmp_path, explores):
    """A polynomial of degree 2 cannot peak for each item: all but random were refused, or wrong."""
    shop = BentShop(spread=8.0)
    dataset = shop.logs(tmp_path, 4_000, 0, explores)
    targets = {"random": RandomPolicy(1), "best": ByAge(), "next": ByAge(1)}
    found = estimate_policies(dataset, targets, held_out_only=False).policies
    truth = {name: shop.value(target) for name, target in targets.items() if name != "random"}
    truth["random"] = shop.value(ByAge(explores=1.0))
    for name, one in found.items():
        assert one.refusal is None, name
        low, high = one.contributions.interval()
        wider = (high - low) / 4  # an interval of three standard errors on either side
        assert low - wider < truth[name] < high + wider


@pytest.mark.parametrize("spread", [0.0, 8.0])
def test_held_out_sessions_choose_the_knots(tmp_path, spread):
    dataset = BentShop(spread).logs(tmp_path, 2_000, 1)
    knots = prepared_sessions(dataset.read(), dataset.spec).polynomial.knots
    assert (len(knots.feature) > 0) == (spread > 0)
    assert not knots.feature.any()  # the age alone: an item's columns are 0 or 1


def test_slates_are_judged_by_what_suits_the_age(tmp_path):
    """From products with the age alone the best slates were badly underestimated."""
    shop = BentShop(spread=8.0)
    dataset = shop.slates(tmp_path, 10_000, 2)
    targets = {"random": RandomPolicy(len(LOOKS)), "best": BestSlate()}
    found = estimate_policies(dataset, targets, held_out_only=False).policies
    assert all(one.refusal is None for one in found.values())
    best = found["best"].contributions
    assert best.value == pytest.approx(shop.value_of_best_slates(), abs=3 * best.sem)
    assert best.sem < 0.03


def rated(folder, squares: float):
    """Logs of 6,600 steps: six numbers of a user, optionally with squares, rate eight items."""
    rng, sessions = np.random.default_rng(3), 2_200
    session = np.repeat(np.arange(sessions), rng.integers(1, 6, sessions))
    user, item = rng.normal(size=(sessions, 6))[session], rng.integers(0, 8, len(session))
    likes = rng.normal(size=(6, 8))
    rating = (user * likes.T[item]).sum(axis=1) + squares * (user**2).sum(axis=1)
    log(
        folder,
        "log.parquet",
        {
            **{f"user_{number}": column for number, column in enumerate(user.T)},
            "session": session,
            "t": np.arange(len(session)),
            "item": item,
            "propensity": 0.125,
            "reward": rating + rng.normal(size=len(session)),
        },
    )
    names = ", ".join(f'"user_{number}"' for number in range(6))
    return published(folder, f'[columns]\nuser = [{names}]\nepisode = "session"\ntime = "t"\n')


@pytest.mark.parametrize("squares", [0.0, 0.3])
def test_few_logs_have_a_lower_degree_where_that_tells_as_much(tmp_path, squares):
    """Some of the 120 terms of degree 2 are sums of others; 28 of the user and 7 × 7 remain."""
    dataset = rated(tmp_path, squares)
    sessions = prepared_sessions(dataset.read(), dataset.spec)
    assert sessions.features == (28 + 7 * 7 if squares else 7 * 8)
    assert (sessions.verdict_steps(by_propensity=False) > dataset.rows) == (squares > 0)
    assert sessions.verdict_steps(by_propensity=True) < dataset.rows


@pytest.mark.parametrize("most", [140, 80])
def test_the_number_of_the_step_bends_in_a_lower_degree(tmp_path, most):
    """Without its powers the ends, which bend with it, would require degree 2."""
    dataset = rated(tmp_path, 0.0)
    rows = with_step(dataset.read())
    shown = rows.features_at(rows.slate[:, 0])
    x = np.concatenate([rows.user, shown], axis=1).astype(np.float64)
    transitions = Transitions.from_rows(rows, by_the_clock=False)
    found = chosen_polynomial(rows, x, transitions, (2, 1), own=6, steps=(6,), most=most)
    degrees, step = np.add(*found.degrees(7)), found.powers[:, 6]
    assert len(found) == (136 if most == 140 else 8 * 9 + 2)
    assert sorted(step[degrees == step]) == ([0, 1, 2] if most == 140 else [0, 1, 2, 3])


def estimated(of_learnt: float, of_propensity: float) -> Estimated:
    """Estimates with corrections of these standard deviations."""
    errors = np.tile([-1.0, 1.0], 50)
    nothing, weight = np.zeros(100), np.ones(400)
    learnt, logged = (
        Correction(weight, errors * deviation, nothing, nothing)
        for deviation in (of_learnt, of_propensity)
    )
    return Estimated(nothing, learnt, logged, weight)


@pytest.mark.parametrize(("wider", "logged"), [(1.0, True), (7.99, True), (8.01, False)])
def test_propensities_are_trusted_where_they_cost_little(wider, logged):
    one = estimated(2.0, 2.0 * wider)
    assert one.trusted is (one.by_propensity if logged else one.learnt)
    rare = Correction(np.eye(1, 400)[0], one.learnt.errors, one.start, one.start)
    assert Estimated(one.start, one.learnt, rare, one.error).trusted is one.learnt
    some = Correction(
        np.repeat([4.0, 0.0], [100, 300]), one.by_propensity.errors, one.start, one.start
    )
    assert Estimated(one.start, one.learnt, some, one.error).trusted is (
        some if logged else one.learnt
    )
    # Propensities replace learnt weights that leave too little, even with wide intervals
    edge = Correction(np.repeat([40.0, 0.0], [10, 390]), one.learnt.errors, one.start, one.start)
    assert Estimated(one.start, edge, some, one.error).trusted is some
    assert Estimated(one.start, edge, rare, one.error).trusted is edge
    # 1 decision in 40 agrees with the logs
    many = Correction(np.ones(4_000), one.learnt.errors, one.start, one.start)
    few = Correction(
        np.repeat([40.0, 0.0], [100, 3_900]), one.by_propensity.errors, one.start, one.start
    )
    assert Estimated(one.start, many, few, one.error).trusted is (few if logged else many)
    ratio = standard_error(one.by_propensity.errors) / standard_error(one.learnt.errors)
    assert (ratio <= MOST_WIDER) == logged
