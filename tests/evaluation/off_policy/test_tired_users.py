"""Users who change in the course of a session, which no column tells."""

from __future__ import annotations

import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.learners import learner_config, train
from slateflow.user_models.session_memory import fitting_decays
from tests.evaluation.off_policy.tired_shop import FADES, Learnt, TiredShop


@pytest.mark.parametrize("tiredness", [0.0, 0.7])
def test_verdicts_are_right_or_none(tmp_path, tiredness):
    """Where users do not tire there is a verdict; where they do, none that is wrong."""
    shop = TiredShop(tiredness)
    dataset = shop.logs(tmp_path, 4_000, 0)
    decays = fitting_decays(dataset)
    assert decays == (() if not tiredness else (pytest.approx(FADES, abs=0.1),))
    policies = shop.policies()
    found = estimate_policies(dataset, policies, held_out_only=False).policies
    given = [name for name, one in found.items() if one.refusal is None]
    if not tiredness:
        assert given == list(policies)
    for name in given:
        low, high = found[name].contributions.interval()
        wider = (high - low) / 4  # an interval of three standard errors on either side
        assert low - wider < shop.value(policies[name]) < high + wider


def test_a_memory_of_many_items_is_refused(tmp_path):
    shop = TiredShop(1.0, items=12)
    found = estimate_policies(shop.logs(tmp_path, 1_500, 0), shop.policies(), held_out_only=False)
    for one in found.policies.values():
        assert "depends on the earlier steps of the session" in one.refusal.reason
        assert "435 features" in one.refusal.reason  # of 28: (28 + 1) (28 + 2) / 2


@pytest.mark.integration
def test_what_tires_is_left_alone_for_a_while(tmp_path):
    shop = TiredShop(0.7)
    scorer, _ = train(shop.logs(tmp_path, 4_000, 0), learner_config("fitted-q"))
    best = max(shop.value(policy) for policy in shop.policies().values())
    assert shop.value(Learnt(scorer, 50_000)) > 1.05 * best
