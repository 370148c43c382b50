"""Tastes that bend more than a polynomial of low degree, as those that peak at an age."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.evaluation.off_policy.double_learning import MOST_WIDER, Correction, Estimated
from slateflow.evaluation.off_policy.estimates import estimate_policies, evidence_of
from slateflow.evaluation.returns import standard_error
from slateflow.policies import RandomPolicy
from tests.evaluation.off_policy.bent_shop import LOOKS, BentShop, BestSlate, ByAge


@pytest.mark.parametrize("explores", [1.0, 0.3])
def test_peaks_are_followed(tmp_path, explores):
    """No polynomial of degree 2 has a peak for each item: all but random were refused, or wrong."""
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
    knots = evidence_of(dataset.read(), dataset.spec).polynomial.knots
    assert (len(knots.feature) > 0) == (spread > 0)
    assert not knots.feature.any()  # the age alone: an item's columns are 0 or 1


def test_slates_are_judged_by_what_suits_the_age(tmp_path):
    """By products with the age alone the best slates were taken for far worse than they are."""
    shop = BentShop(spread=8.0)
    dataset = shop.slates(tmp_path, 10_000, 2)
    targets = {"random": RandomPolicy(len(LOOKS)), "best": BestSlate()}
    found = estimate_policies(dataset, targets, held_out_only=False).policies
    assert all(one.refusal is None for one in found.values())
    best = found["best"].contributions
    assert best.value == pytest.approx(shop.value_of_best_slates(), abs=3 * best.sem)
    assert best.sem < 0.02


def estimated(of_learnt: float, of_propensity: float) -> Estimated:
    """With corrections of these deviations."""
    errors = np.tile([-1.0, 1.0], 50)
    nothing, weight = np.zeros(100), np.ones(400)
    learnt, logged = (
        Correction(weight, errors * deviation, nothing) for deviation in (of_learnt, of_propensity)
    )
    return Estimated(nothing, learnt, logged)


@pytest.mark.parametrize(("wider", "logged"), [(1.0, True), (1.59, True), (1.61, False)])
def test_propensities_are_trusted_where_they_cost_little(wider, logged):
    one = estimated(2.0, 2.0 * wider)
    assert one.trusted is (one.by_propensity if logged else one.learnt)
    rare = Correction(np.eye(1, 400)[0], one.learnt.errors, one.start)
    assert Estimated(one.start, one.learnt, rare).trusted is one.learnt
    ratio = standard_error(one.by_propensity.errors) / standard_error(one.learnt.errors)
    assert (ratio <= MOST_WIDER) == logged
