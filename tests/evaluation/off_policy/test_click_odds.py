"""Clicks whose odds multiply: values of sessions follow them, and weights correct the rest."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slateflow.environments.logged import LoggedSpec
from slateflow.evaluation.off_policy import item_sessions
from slateflow.evaluation.off_policy.click_odds import chosen_odds
from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.evaluation.off_policy.item_sessions import ItemSessions
from slateflow.policies import RandomPolicy
from slateflow.user_models.session_memory import SessionState
from tests.evaluation.off_policy.retrieved_shop import POLICIES, RetrievedShop


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Logs of 6,000 sessions."""
    return RetrievedShop().logs(tmp_path_factory.mktemp("retrieved"), 6_000, 1)


def test_policies_that_show_what_was_seldom_are_judged_right(logs, monkeypatch):
    def judged():
        found = estimate_policies(logs, POLICIES, held_out_only=False).policies
        assert all(one.refusal is None for one in found.values())
        return found

    shop, ours = RetrievedShop(), judged()
    for name, one in ours.items():
        low, high = one.contributions.interval()
        wider = (high - low) / 4  # an interval of three standard errors on either side
        assert low - wider < shop.value(POLICIES[name]) < high + wider, name
    monkeypatch.setattr(item_sessions, "chosen_odds", lambda *asked: None)
    plain = judged()
    for name in ("what fits", "topic first"):
        off, left = (one[name].kinds[0].value - shop.value(POLICIES[name]) for one in (plain, ours))
        assert off > 1.5 * abs(left)  # with weights that are learnt


def rows(probability, count: int = 20_000):
    """Monomials of a user and an item, clicks, and visitors."""
    rng = np.random.default_rng(0)
    user, item = rng.uniform(-1, 1, count), rng.uniform(-1, 1, count)
    design = np.column_stack([np.ones(count), user, item, user * item])
    click = (rng.random(count) < probability(user, item)).astype(np.float64)
    which = np.array([True] * 4), np.array([True, True, False, False])
    return design, click, np.ones(count, np.bool_), np.arange(count), *which, which[1]


def test_held_out_visitors_choose():
    odds = rows(lambda user, item: 1 / (1 + np.exp(2 - 3 * user - 3 * item)))
    assert chosen_odds(*odds) is not None
    assert chosen_odds(*rows(lambda user, item: 0.5 + 0.2 * user + 0.2 * item)) is None
    design, click, *others = odds
    assert chosen_odds(design, np.zeros_like(click), *others) is None
    assert chosen_odds(design, np.ones_like(click), *others) is None


def test_weights_are_those_of_the_world_and_features_those_of_a_plain_loop():
    made = rows(lambda user, item: 1 / (1 + np.exp(1 - 2 * user - item)))
    odds = chosen_odds(*made)
    np.testing.assert_allclose(odds.weights, [[-1, 2, 1, 0]] * 2, atol=0.2)
    assert (odds.weights[0] != odds.weights[1]).all()
    design, half = made[0], np.arange(len(made[0])) % 2
    found = odds.features(design, half)
    assert found.shape == (20_000, 4)
    for row in range(50):
        weights = odds.weights[row % 2].tolist()
        sums = sum(w * x for w, x in zip(weights, design[row].tolist(), strict=True))
        probability, user = 1 / (1 + math.exp(-sums)), design[row, 1]
        expected = [1, user, probability, probability * user]
        assert found[row].tolist() == pytest.approx(expected, rel=1e-9)


def test_a_half_is_judged_by_the_other():
    design, click, *others = rows(lambda user, item: 1 / (1 + np.exp(2 - 3 * user - 3 * item)))
    before = chosen_odds(design, click, *others).weights
    changed = click.copy()
    changed[::2] = np.roll(click[::2], 1)  # of the first half
    after = chosen_odds(design, changed, *others)
    assert after is None or (after.weights[0] == before[0]).all()


def test_rewards_that_are_no_clicks_and_memories_have_no_odds(logs):
    read = logs.read()
    spec: LoggedSpec = logs.spec
    assert ItemSessions(read, spec).odds is not None
    read.reward[0] = 2.0
    sessions = ItemSessions(read, spec)
    assert sessions.odds is None
    assert ItemSessions(logs.read(), spec, SessionState((0.5,))).odds is None
    assert math.isfinite(sessions.estimate(RandomPolicy(1)).start.mean())
