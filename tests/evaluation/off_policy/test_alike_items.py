"""Slates whose items influence each other."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.evaluation.off_policy.unexplained_clicks import clicks_are_unexplained
from slateflow.policies import RandomPolicy
from slateflow.user_models.choices import SlateFeatures
from slateflow.user_models.slate_columns import likeness_matters
from tests.evaluation.off_policy.alike_shop import PLACES, POLICIES, AlikeShop

TARGETS = {"random": RandomPolicy(PLACES), **POLICIES}


@pytest.mark.parametrize("effect", ["none", "above"])
def test_slates_are_judged_by_what_bores_beside_its_like(tmp_path, effect):
    """Without likeness "the least" was overestimated."""
    shop = AlikeShop(effect)
    dataset = shop.slates(tmp_path, 10_000, 1)
    found = estimate_policies(dataset, TARGETS, held_out_only=False).policies
    for name, value in shop.values().items():
        one = found[name]
        assert one.refusal is None, name
        assert one.contributions.value == pytest.approx(value, abs=3 * one.contributions.sem)
        assert one.contributions.sem < 0.03


def test_slates_that_bear_on_each_other_otherwise_are_no_verdict(tmp_path):
    dataset = AlikeShop("drawn away").slates(tmp_path, 15_000, 2)
    for one in estimate_policies(dataset, TARGETS, held_out_only=False).policies.values():
        assert "do not explain what users choose" in str(one.refusal)


@pytest.mark.parametrize("effect", ["above", "anywhere"])
def test_held_out_slates_say_whether_likeness_matters(tmp_path, effect):
    rows = AlikeShop(effect).slates(tmp_path, 10_000, 3).read()
    assert likeness_matters(rows, SlateFeatures(features_match=False))
    rows.clicked[:] = np.random.default_rng(1).integers(-1, PLACES, len(rows))
    rows.reward[:] = rows.clicked >= 0
    assert not likeness_matters(rows, SlateFeatures(features_match=False))


@pytest.mark.parametrize("seed", range(5))
def test_clicks_that_likeness_explains_are_found_out(tmp_path, seed):
    """Likes of single items leave clicks unexplained; the true likes explain them."""
    shop = AlikeShop("above")
    rows = shop.slates(tmp_path, 15_000, 10 + seed).read()
    taste = rows.user.argmax(axis=1)
    assert not clicks_are_unexplained(rows, shop.clicks(taste, rows.slate))
    assert clicks_are_unexplained(rows, AlikeShop("none").clicks(taste, rows.slate))
