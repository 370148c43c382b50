"""Values and weights are also fitted to sessions that are not evidence."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.evaluation.off_policy import estimates, item_sessions
from slateflow.evaluation.off_policy.estimates import (
    estimate_policies,
    held_out_values,
    prepared_sessions,
)
from slateflow.evaluation.off_policy.item_sessions import FITTED_ROWS, ItemSessions
from slateflow.evaluation.off_policy.overlap import VERDICT_ROWS_PER_FEATURE
from slateflow.evaluation.off_policy.repeated_choices import RepeatedChoices
from slateflow.learners import learner_config, train
from slateflow.policies import RandomPolicy, ScoringPolicy
from slateflow.trajectories import Folder, Recipe, generate
from slateflow.trajectories.held_out import HELD_OUT, parts_and_held_out, training_logs
from slateflow.user_models.session_memory import session_state
from tests.evaluation.off_policy.retrieved_shop import POLICIES, RetrievedShop

SESSIONS = 5_000


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Logs whose held-out sessions are too few for a verdict by themselves."""
    return RetrievedShop().logs(tmp_path_factory.mktemp("shop"), SESSIONS, 3)


def halves(logs):
    """Held-out sessions, and the others."""
    ((_, rows, held_out),) = parts_and_held_out(logs)
    return rows.where(held_out), rows.where(~held_out)


def test_held_out_sessions_get_a_verdict_with_the_others_beside_them(logs, monkeypatch):
    found = estimate_policies(logs, POLICIES, held_out_only=True)
    assert found.sessions < SESSIONS / 4
    for name, one in found.policies.items():
        assert one.refusal is None, name
        truth = RetrievedShop().value(POLICIES[name])
        assert one.contributions.value == pytest.approx(truth, abs=3.5 * one.contributions.sem)
    held_out, _ = halves(logs)
    choices = RepeatedChoices.of(held_out)
    monkeypatch.setattr(estimates, "_rows", lambda *_, **__: (held_out, None, choices))
    monkeypatch.setattr(item_sessions, "ROWS_BY_PROPENSITY", VERDICT_ROWS_PER_FEATURE)
    alone = estimate_policies(logs, POLICIES, held_out_only=True).policies["random"]
    assert f"values and weights are learnt from {len(held_out):,} logged steps" in str(
        alone.refusal
    )


@pytest.mark.parametrize("every", [1, 2, 5, 10])
def test_some_of_the_held_out_are_evidence_however_many_there_are(tmp_path, monkeypatch, every):
    """Every fifth of the places 4, 9, 14 … is used, not the multiples of 5 among them."""
    logs = generate(Recipe("r", "lts-10-1", 500, 1, {"random": 1.0}), Folder(str(tmp_path)))
    monkeypatch.setattr(estimates, "MOST_ROWS", logs.rows // (HELD_OUT * every))
    rows, *_ = estimates._rows(logs, held_out_only=True)
    numbers = rows.episode[rows.starts]
    assert len(numbers) == 100 // every
    assert (numbers % 5 == 4).all()


def test_what_is_estimated_is_the_evidence_alone(logs, monkeypatch):
    """The values of a session come from models fitted to other sessions, evidence or not."""
    monkeypatch.setattr("slateflow.evaluation.off_policy.item_sessions.FITTED_ROWS", SESSIONS)
    held_out, others = halves(logs)
    ours = ItemSessions(held_out, logs.spec, beside=others)
    found = ours.estimate(RandomPolicy(1), np.ones(len(held_out)))
    everything = prepared_sessions(ours.fitted, logs.spec)
    whole = everything.estimate(RandomPolicy(1), np.ones(len(ours.fitted)))
    sessions, rows = len(held_out.starts), len(held_out)
    assert found.start.shape == (sessions,)
    assert found.trusted.weight.shape == (rows,)
    np.testing.assert_allclose(found.start, whole.start[:sessions], rtol=1e-6)
    np.testing.assert_allclose(found.learnt.errors, whole.learnt.errors[:sessions], atol=1e-6)
    for name in ("learnt", "by_propensity"):
        part, all_rows = (getattr(one, name).weight for one in (found, whole))
        np.testing.assert_allclose(part, all_rows[:rows], atol=1e-6)
    assert ours.probabilities(RandomPolicy(1)).shape == (rows,)


def test_a_choice_between_trainings_rests_on_held_out_sessions_alone(logs):
    """Policies prefer what the sessions from which they were learnt happen to favour."""
    training = training_logs(logs, Folder(f"{logs.path}-training"))
    scorer, _ = train(training, learner_config("linucb"))
    held_out, _ = halves(logs)
    found = held_out_values(logs, {"it": scorer})["it"].value
    sessions = prepared_sessions(held_out, logs.spec, session_state(logs))
    alone = sessions.estimate(ScoringPolicy(scorer)).start.mean()
    assert found == pytest.approx(float(alone), rel=1e-9)


def test_no_more_of_them_are_read_than_it_takes(logs, monkeypatch):
    held_out, others = halves(logs)
    many = ItemSessions(held_out, logs.spec, beside=others)
    assert len(held_out) < many.fitted_steps <= len(held_out) + len(others)
    monkeypatch.setattr(
        "slateflow.evaluation.off_policy.item_sessions.FITTED_ROWS",
        FITTED_ROWS // 2,
    )
    few = ItemSessions(held_out, logs.spec, beside=others)
    assert len(held_out) < few.fitted_steps <= FITTED_ROWS // 2 * few.features * 1.1
    assert (few.fitted.episode[: len(held_out)] == held_out.episode).all()
    assert len(few.rows) == len(many.rows) == len(held_out)
