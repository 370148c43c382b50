"""Sessions of different lengths: the number of the step is not a memory."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.user_models.session_memory import (
    SessionState,
    session_state,
    with_step,
)
from tests.evaluation.off_policy.fading_shop import SHOPS, STEPS, FadingShop
from tests.evaluation.off_policy.tired_shop import FADES, TiredShop


@pytest.mark.parametrize("shop", SHOPS.values(), ids=SHOPS)
@pytest.mark.parametrize("sessions", [2_000, 4_000])
def test_verdicts_are_given_without_a_memory_and_right(tmp_path, shop, sessions):
    dataset = shop.logs(tmp_path, sessions, 0)
    assert session_state(dataset) == SessionState(by_step=True)
    policies = shop.policies()
    found = estimate_policies(dataset, policies, held_out_only=False).policies
    for name, one in found.items():
        assert one.refusal is None, name
        low, high = one.contributions.interval()
        wider = (high - low) / 2  # an interval of four standard errors on either side
        assert low - wider < shop.value(policies[name]) < high + wider, name


def test_a_memory_of_what_was_seen_is_found_beside_the_step(tmp_path):
    state = session_state(TiredShop(0.7).logs(tmp_path, 4_000, 0))
    assert state == SessionState((pytest.approx(FADES, abs=0.1),))


def test_sessions_that_may_end_at_any_step_need_no_number(tmp_path):
    assert session_state(TiredShop(0.0).logs(tmp_path, 4_000, 0)) == SessionState()


def test_the_number_of_the_step_stands_after_the_user(tmp_path):
    rows = FadingShop().logs(tmp_path, 200, 0).read()
    timed = with_step(rows, ends=True).user
    np.testing.assert_array_equal(timed[:, :-2], rows.user)
    for row, step in enumerate(rows.step.tolist()):
        assert timed[row, -2] == pytest.approx(np.log(1 + step))
        assert timed[row, -1] == (step == STEPS - 1)
    assert rows.step.max() == STEPS - 1
    np.testing.assert_array_equal(with_step(rows).user, timed[:, :-1])
    apart = with_step(rows, ends=True, apart=2).user
    np.testing.assert_array_equal(apart[:, :-2], timed)
    np.testing.assert_array_equal(apart[:, -2:], rows.step[:, None] == [1, 2])
