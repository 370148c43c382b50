"""Users who change in the course of a session, without a column that shows it."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.evaluation.off_policy.slate_sessions import SlateSessions
from slateflow.learners import learner_config, train
from slateflow.policies import RandomPolicy
from slateflow.trajectories import Folder, Recipe, generate
from slateflow.user_models.session_memory import NOTHING, fitting_memory
from tests.evaluation.off_policy.tired_shop import (
    FADES,
    ITEMS,
    KINDS,
    Learnt,
    TiredShop,
    slates_seen,
)


@pytest.mark.parametrize("tiredness", [0.0, 0.7])
def test_verdicts_are_right_or_none(tmp_path, tiredness):
    """If users do not tire there is a verdict; if they do, verdicts are right or refused."""
    shop = TiredShop(tiredness)
    dataset = shop.logs(tmp_path, 4_000, 0)
    memory = fitting_memory(dataset)
    assert memory.items or memory == NOTHING
    assert memory.decays == (() if not tiredness else (pytest.approx(FADES, abs=0.1),))
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
        assert "465 features" in one.refusal.reason  # of 29: (29 + 1) (29 + 2) / 2


@pytest.mark.parametrize("tiredness", [0.0, 0.3])
def test_slates_are_judged_only_where_nobody_tires(tmp_path, tiredness):
    dataset = slates_seen(tiredness, tmp_path, 2_000, 0)
    targets = {"random": RandomPolicy(2)}
    (one,) = estimate_policies(dataset, targets, held_out_only=False).policies.values()
    if tiredness:
        assert "what users choose depends on what they saw earlier" in str(one.refusal)
    else:
        assert one.refusal is None


class TheBestTwo:
    """Shows each kind of user what it likes best, even when it is tired of that."""

    def __init__(self) -> None:
        best = np.argsort(-TiredShop(0.0).taste, axis=1)[:, :2]
        self.slates = best.astype(np.int32)

    def act(self, observation, rng):
        del rng
        kind = observation["user"][:, :KINDS].argmax(axis=1)
        return self.slates[kind], np.ones(len(kind))

    def propensities(self, observation, slates):
        return (self.act(observation, None)[0] == slates).all(axis=1).astype(float)

    def first_place(self, observation):
        return np.eye(ITEMS)[self.act(observation, None)[0][:, 0]]


def test_users_who_are_moved_by_sight_are_not_judged_where_no_log_has_been(tmp_path):
    """A column contains their tiredness of shown items, which random slates keep low."""
    dataset = slates_seen(0.7, tmp_path, 2_000, 0, column=True)
    targets = {"random": RandomPolicy(2), "the best two": TheBestTwo()}
    found = estimate_policies(dataset, targets, held_out_only=False)
    random, best = (found.policies[name] for name in targets)
    assert random.refusal is None
    low, high = random.contributions.interval()
    assert low < found.logged.value < high
    assert "the estimate rests on" in best.refusal.reason


@pytest.mark.parametrize("world", ["interest-evolution", "interest-exploration"])
def test_users_of_recsim_choose_by_what_they_see(tmp_path, world):
    """Although kinds of users are hidden and interests change, the choice model knows both.

    And only clicked items move users.
    """
    recipe = Recipe("r", world, 100, 3, {"random": 0.5, "greedy": 0.5})
    dataset = generate(recipe, Folder(str(tmp_path)))
    evidence = SlateSessions(dataset.read(), dataset.spec)
    assert evidence.unfit is None
    assert not evidence.sessions.by_sight
    assert not evidence.sessions.by_clicks


@pytest.mark.integration
def test_what_tires_is_left_alone_for_a_while(tmp_path):
    shop = TiredShop(0.7)
    scorer, _ = train(shop.logs(tmp_path, 4_000, 0), learner_config("fitted-q"))
    best = max(shop.value(policy) for policy in shop.policies().values())
    assert shop.value(Learnt(scorer, 50_000)) > 1.05 * best
