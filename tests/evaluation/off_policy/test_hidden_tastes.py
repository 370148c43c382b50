"""Users choose from slates by tastes that no column contains."""

from __future__ import annotations

import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies
from tests.evaluation.off_policy.hidden_shop import POLICIES, TASTES, logs, value


def judged(folder, tastes: str, spread: float, steps: int, sessions: int, seed: int):
    """Estimate, and true value, of each policy."""
    dataset = logs(folder, tastes, spread, steps, sessions, seed)
    found = estimate_policies(dataset, POLICIES, held_out_only=False).policies
    for name, one in found.items():
        yield one, steps * value(POLICIES[name], tastes, spread, seed)


@pytest.mark.parametrize("tastes", TASTES)
def test_sessions_tell_users_of_several_tastes_apart(tmp_path, tastes):
    """None had a verdict, as any user who chooses seemed to have chosen as expected of them."""
    for one, truth in judged(tmp_path, tastes, 1.5, 3, 3_000, seed=1):
        assert one.refusal is None
        low, high = one.contributions.interval(0.999)
        assert low <= truth <= high
        assert high - low < 0.5 * truth


def test_single_decisions_do_not_praise_slates_of_one_kind(tmp_path):
    """With one class of users estimates were up to seven standard errors too high."""
    trusted = 0
    for seed in range(3):
        for one, truth in judged(tmp_path / str(seed), "of two kinds", 0.9, 1, 10_000, seed):
            if one.refusal is None:
                trusted += 1
                low, high = one.contributions.interval(0.999)
                assert low <= truth <= high
    assert trusted
