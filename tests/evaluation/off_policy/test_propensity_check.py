"""Propensities refute a model that does not know what the logging policy knew."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.evaluation.off_policy.corrections import Correction, Estimated
from slateflow.evaluation.off_policy.estimates import estimate_policies, prepared_sessions
from slateflow.evaluation.off_policy.propensity_check import disagreement
from slateflow.evaluation.off_policy.visitors import Visitors
from slateflow.evaluation.returns import standard_error
from slateflow.policies import RandomPolicy
from tests.evaluation.off_policy import confounded_shop
from tests.evaluation.off_policy.confounded_shop import THE_LIKED
from tests.evaluation.off_policy.first_on_offer import FirstOnOffer
from tests.evaluation.off_policy.shop import OneItem


def test_sessions_of_a_policy_that_knew_more_are_not_judged(tmp_path):
    dataset = confounded_shop.sessions(tmp_path, 6_000, 0, column=False)
    targets = {"random": RandomPolicy(1), "one": OneItem(1), "another": OneItem(3)}
    found = estimate_policies(dataset, targets, held_out_only=False).policies
    sessions = prepared_sessions(dataset.read(), dataset.spec)
    for name, one in found.items():
        estimated = sessions.estimate(targets[name])
        value = estimated.start + estimated.learnt.errors
        wrong = value.mean() - confounded_shop.VALUE
        assert wrong > 0.1 * confounded_shop.VALUE + 2 * standard_error(value)  # and sure of it
        assert "the model of values and the propensities disagree" in one.refusal.reason


@pytest.mark.parametrize("explores", [confounded_shop.EXPLORES, 1.0])
def test_sessions_are_judged_where_a_column_tells_what_it_knew(tmp_path, explores):
    dataset = confounded_shop.sessions(tmp_path, 8_000, 1, column=True, explores=explores)
    targets = {"random": RandomPolicy(1), "the liked": THE_LIKED, "one": OneItem(1)}
    truth = [confounded_shop.VALUE, confounded_shop.VALUE_KNOWING, confounded_shop.VALUE]
    found = estimate_policies(dataset, targets, held_out_only=False).policies
    for one, value in zip(found.values(), truth, strict=True):
        assert one.refusal is None
        assert one.contributions.value == pytest.approx(value, abs=3 * one.contributions.sem)


def test_sessions_of_a_random_policy_are_judged_though_nobody_knows_the_kinds(tmp_path):
    """One session in sixteen shows the policy's item at both steps before the last."""
    dataset = confounded_shop.sessions(tmp_path, 6_000, 2, column=False, explores=1.0)
    targets = {"random": RandomPolicy(1), "one": OneItem(1)}
    found = estimate_policies(dataset, targets, held_out_only=False).policies
    for one in found.values():
        value = one.contributions
        assert value.value == pytest.approx(confounded_shop.VALUE, abs=3 * value.sem)
        assert one.refusal is None or "of the logged steps" in one.refusal.reason
    assert found["random"].refusal is None


@pytest.mark.parametrize("column", [False, True])
def test_slates_are_judged_where_a_column_tells_what_the_policy_knew(tmp_path, column):
    """Where slates are seldom logged, weights by propensities carry little information."""
    dataset = confounded_shop.slates(tmp_path, 8_000, 3, column)
    targets = {"random": RandomPolicy(2), "first": FirstOnOffer(2)}
    one, first = estimate_policies(dataset, targets, held_out_only=False).policies.values()
    value = one.contributions
    assert one.refusal == first.refusal
    if column:
        assert one.refusal is None
        assert value.value == pytest.approx(confounded_shop.VALUE_OF_TWO, abs=3 * value.sem)
    else:
        assert one.kinds[0].interval()[0] > 1.1 * confounded_shop.VALUE_OF_TWO
        assert "the logging policy knows more about what users choose" in one.refusal.reason


@pytest.mark.parametrize(
    ("off", "error", "weight", "refused"),
    [
        pytest.param(0.5, 0.1, np.ones(400), True, id="far off"),
        pytest.param(0.3, 0.1, np.ones(400), False, id="perhaps by chance"),
        pytest.param(0.04, 0.001, np.ones(400), False, id="too little to matter"),
        pytest.param(0.5, 0.1, np.eye(1, 400)[0], False, id="one row carries all"),
        pytest.param(0.5, 0.1, np.zeros(400), False, id="nothing logged"),
    ],
)
def test_what_is_said_to_disagree(off, error, weight, refused):
    spread = np.tile([1.0, -1.0], 200) * np.sqrt(399)  # a standard error of 1
    nothing, value = np.zeros(400), 2 + 0.05 * spread
    learnt, logged = (
        Correction(nothing, errors, nothing, nothing) for errors in (nothing, off + error * spread)
    )
    found = disagreement(Estimated(value, learnt, logged, nothing), weight, Visitors(None))
    assert (found is not None) == refused
    if found is not None:
        assert "disagree: the estimate is 2, and 2.5 ± 0.2 if propensities" in found.reason
