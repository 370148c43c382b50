"""Models of choices from slates are also fitted to sessions that are not evidence."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.evaluation.off_policy.estimates import _rows, estimate_policies
from slateflow.evaluation.off_policy.slate_sessions import SlateSessions
from slateflow.policies import RandomPolicy
from tests.evaluation.off_policy.slate_shop import HABITS, PLACES, POLICIES, logs

ROWS = 10_000


@pytest.mark.parametrize("habit", HABITS)
def test_held_out_slates_get_a_verdict_with_the_others_beside_them(tmp_path, habit):
    dataset = logs(tmp_path, habit, ROWS, 4)
    found = estimate_policies(dataset, POLICIES, held_out_only=True)
    assert found.sessions < ROWS / 4
    for name, one in found.policies.items():
        assert one.refusal is None, name
        truth = POLICIES[name].value(habit)
        assert one.contributions.value == pytest.approx(truth, abs=3.5 * one.contributions.sem)
        assert one.contributions.sem < 0.09  # exact slates have 0.3


def test_held_out_slates_alone_may_be_too_few(tmp_path):
    dataset = logs(tmp_path, "all at once", ROWS // 4, 4)
    alone, with_others = (
        estimate_policies(dataset, POLICIES, held_out_only=True, beside=beside)
        for beside in (False, True)
    )
    refusal = str(alone.policies["one list for all"].refusal)
    assert f"values and weights are learnt from {alone.sessions:,} logged steps" in refusal
    assert with_others.policies["one list for all"].refusal is None


def test_the_estimate_is_of_the_evidence_alone(tmp_path):
    """The values of a session come from models fitted to other sessions, evidence or not."""
    dataset = logs(tmp_path, "from the top", ROWS, 1)
    held_out, others, _ = _rows(dataset, held_out_only=True)
    assert others is not None
    ours = SlateSessions(held_out, dataset.spec, others)
    sessions, target = len(held_out.starts), POLICIES["what each likes best"]
    ratio = np.ones(len(held_out))
    found = ours.estimate(target, ratio)
    whole = SlateSessions(ours.fitted, dataset.spec).estimate(target, np.ones(ROWS))
    np.testing.assert_allclose(found.start, whole.start[:sessions], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.learnt.weight, whole.learnt.weight[:sessions], atol=1e-3)
    for name in ("learnt", "by_propensity"):
        one = getattr(found, name)
        assert one.errors.shape == one.weighted.shape == (sessions,)
    assert ours.probabilities(RandomPolicy(PLACES)).shape == (sessions,)
    assert 0 <= ours.unsupported(target) < 0.1
