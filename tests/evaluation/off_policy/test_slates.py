"""Slates from which users choose in ways that the choice model lacks."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.evaluation.off_policy.calibration_weights import calibration_weights
from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.policies.slate_choice import ChoiceModel
from slateflow.user_models.choices import SlateFeatures
from slateflow.user_models.sessions import Sessions
from tests.evaluation.off_policy import slate_shop
from tests.evaluation.off_policy.slate_shop import HABITS, ITEMS, PLACES, POLICIES, logs


def test_weighted_logs_are_clicked_as_the_slates_of_the_target(tmp_path):
    """Sums over the rows of the expectations for each place by an artificial model.

    The model: log-odds of 0.1, 0.2 … for the items, less 1 for no click; a click is worth 1.
    """
    rows = 4_000
    dataset = logs(tmp_path, "all at once", rows, 0)
    shop, ones = dataset.read(), np.ones(rows)
    sessions = Sessions.from_rows(shop, dataset.spec, SlateFeatures(features_match=False))
    users, features = shop.user.shape[1], sessions.shown(np.arange(1), shop.slate[:1]).shape[2]
    liked, weights = 0.1 * np.arange(1, ITEMS + 1), np.zeros((1, features))
    weights[0, users : users + ITEMS] = liked
    choice = ChoiceModel(weights, np.ones(1), np.ones(1))
    values = np.zeros(sessions.design.shape[1])
    values[0] = 1.0
    shown = np.array([9, 1, 4])
    found = calibration_weights(sessions, np.tile(shown, (rows, 1)), choice, values, ones, ones)

    def clicked(slates: np.ndarray) -> np.ndarray:
        odds = np.exp(liked[slates])
        return odds / (np.e + odds.sum(axis=-1, keepdims=True))

    wanted, logged = clicked(shown), clicked(shop.slate)
    assert found.sum() == pytest.approx(rows, rel=0.01)
    for place in range(PLACES):
        p, expected = logged[:, place], wanted[place]
        before, as_expected = logged[:, :place].sum(axis=1), wanted[:place].sum()
        assert found @ p == pytest.approx(rows * expected, rel=0.02)
        of_liked = found @ (p * liked[shop.slate[:, place]])
        assert of_liked == pytest.approx(rows * expected * liked[shown[place]], rel=0.02)
        assert found @ (p * before) == pytest.approx(
            rows * expected * as_expected, abs=0.005 * rows
        )
    # Those of equal slates alone would be 1,320 times as many
    assert np.square(found).sum() < 10 * rows


@pytest.mark.parametrize("habit", HABITS)
def test_estimates_are_right_however_users_choose(tmp_path, habit):
    """For three logs; effects of the place are distinguished from tastes."""
    names = ("what each likes best", "the same upside down")
    targets = {name: POLICIES[name] for name in names}
    found = []
    for seed in range(3):
        dataset = logs(tmp_path / str(seed), habit, 6_000, seed)
        found.append(estimate_policies(dataset, targets, held_out_only=False).policies)
    for name, policy in targets.items():
        each = [one[name] for one in found]
        assert all(one.refusal is None for one in each)
        value = np.mean([one.contributions.value for one in each])
        sem = np.mean([one.contributions.sem for one in each]) / np.sqrt(len(each))
        assert sem < 0.03  # that of exact slates is 0.15
        assert value == pytest.approx(policy.value(habit), abs=4 * sem), name


@pytest.mark.parametrize("habit", HABITS)
def test_few_single_decisions_have_a_verdict_where_choices_are_enough(tmp_path, habit):
    """Forty slates for each feature, and seven or more clicks; sessions would take ninety."""
    found = estimate_policies(logs(tmp_path, habit, 2_000, 3), POLICIES, held_out_only=False)
    for name, one in found.policies.items():
        assert one.refusal is None, name
        low, high = one.contributions.interval(0.999)
        assert low <= POLICIES[name].value(habit) <= high, name


def test_few_single_decisions_that_are_rarely_clicked_have_no_verdict(tmp_path, monkeypatch):
    """1,500 slates have less than one click per feature."""
    monkeypatch.setattr(slate_shop, "TASTE", slate_shop.TASTE - 2.5)
    dataset = logs(tmp_path, "from the top", 1_500, 3)
    found = estimate_policies(dataset, POLICIES, held_out_only=False).policies
    assert all("from 1,500 logged steps" in str(one.refusal) for one in found.values())


def test_what_is_rarely_clicked_has_a_verdict(tmp_path, monkeypatch):
    """10,000 decisions have 230 clicks; two of the items have one each by a kind of user."""
    monkeypatch.setattr(slate_shop, "TASTE", slate_shop.TASTE - 2.5)
    habit = "the first place most"
    dataset = logs(tmp_path, habit, 10_000, 1)
    found = estimate_policies(dataset, POLICIES, held_out_only=False).policies
    for name, one in found.items():
        assert one.refusal is None, name
        assert one.overlap.largest_weight < 100
        low, high = one.contributions.interval(0.999)
        assert low <= POLICIES[name].value(habit) <= high, name
