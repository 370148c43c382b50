"""Slates from which users choose in ways that the choice model does not know."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.evaluation.off_policy.place_weights import place_weights
from slateflow.user_models.item_values import Sessions
from tests.evaluation.off_policy import slate_shop
from tests.evaluation.off_policy.slate_shop import HABITS, ITEMS, PLACES, POLICIES, logs


def pseudo_inverse(slate: tuple[int, ...]) -> dict[tuple[int, ...], float]:
    """Weights of all slates for who always shows one, where logs show all alike.

    q' Γ⁺ 1 of Swaminathan et al. (2017), with Γ summed up over all slates.
    """

    def indicators(one: tuple[int, ...]) -> np.ndarray:
        return np.eye(ITEMS)[list(one)].ravel()

    every = list(itertools.permutations(range(ITEMS), PLACES))
    table = np.array([indicators(one) for one in every])
    weights = table @ np.linalg.pinv(table.T @ table / len(every)) @ indicators(slate)
    return dict(zip(every, weights.tolist(), strict=True))


def test_weights_are_those_of_the_pseudo_inverse(tmp_path):
    dataset = logs(tmp_path, "all at once", 20_000, 0)
    rows, ones = dataset.read(), np.ones(20_000)
    shown = POLICIES["one list for all"].slates[0]
    expected = pseudo_inverse(tuple(shown.tolist()))
    found = place_weights(
        Sessions.from_rows(rows, dataset.spec), np.tile(shown, (20_000, 1)), ones, ones
    )
    exact = np.array([expected[tuple(slate)] for slate in rows.slate.tolist()])
    assert exact.max() > 30  # the slate itself; exact weights would be 1,320
    assert np.abs(found - exact).std() < 0.1 * exact.std()
    assert found.mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("habit", HABITS)
def test_estimates_are_right_however_users_choose(tmp_path, habit):
    """Of three logs; who likes what comes last, or first, is told from the place."""
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


def test_what_is_rarely_clicked_has_a_verdict(tmp_path, monkeypatch):
    """Of 10,000 decisions 230 are clicked; two of the items once each by a kind of user."""
    monkeypatch.setattr(slate_shop, "TASTE", slate_shop.TASTE - 2.5)
    habit = "the first place most"
    dataset = logs(tmp_path, habit, 10_000, 1)
    found = estimate_policies(dataset, POLICIES, held_out_only=False).policies
    for name, one in found.items():
        assert one.refusal is None, name
        assert one.overlap.largest_weight < 100
        low, high = one.contributions.interval(0.999)
        assert low <= POLICIES[name].value(habit) <= high, name
