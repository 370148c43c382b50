"""The verdict from logs alone, on a shop with known truth."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.evaluation.off_policy.logs_verdict import logs_verdict
from slateflow.learners import learner_config, train
from slateflow.policies import ScoringPolicy
from slateflow.trajectories import Folder, Recipe, generate
from slateflow.trajectories.held_out import training_logs
from slateflow.user_models.bilinear_scorer import bilinear_scorer
from tests.evaluation.off_policy.shop import ITEMS, LIKED, dataset, frame


def prefers(dataset, scores) -> ScoringPolicy:
    """Shows each kind of user the item with the highest of these scores (2, ITEMS)."""
    weights = np.zeros((3, 1 + ITEMS))
    weights[1:, 1:] = scores
    return ScoringPolicy(bilinear_scorer(weights.ravel(), dataset.spec))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return dataset(tmp_path_factory.mktemp("shop"), frame(20_000, seed=5))


def test_the_best_candidate_wins_and_the_worst_is_worse(shop):
    worst = -LIKED
    found = logs_verdict(shop, {"best": prefers(shop, LIKED), "worst": prefers(shop, worst)})
    best, least = found.verdict.candidates
    assert (best.learner, best.verdict) == ("best", "winner")
    assert (least.learner, least.verdict) == ("worst", "worse")
    low, high = best.over_baseline.ci
    assert low < 0.30 - LIKED.mean() < high
    assert found.no_verdict is None
    assert found.verdict.logged[0].policy == "logged"
    assert found.overlaps["best"].mean_weight == pytest.approx(1, abs=0.1)


def test_a_candidate_that_is_the_champion_does_not_replace_it(shop):
    best = prefers(shop, LIKED)
    found = logs_verdict(shop, {"again": best}, champion=best)
    (candidate,) = found.verdict.candidates
    assert candidate.over_champion.uplift == 0
    assert candidate.verdict == "better"
    assert found.verdict.winner is None


def test_what_is_better_than_the_champion_replaces_it(shop):
    other = prefers(shop, LIKED[:, ::-1])
    found = logs_verdict(shop, {"new": prefers(shop, LIKED)}, champion=other)
    assert found.verdict.winner.learner == "new"


def test_logs_that_cannot_tell_judge_nobody(tmp_path):
    logged = frame(4000, seed=6)
    wrong = dataset(tmp_path, logged.assign(propensity=logged.propensity / 2))
    found = logs_verdict(wrong, {"best": prefers(wrong, LIKED)})
    (candidate,) = found.verdict.candidates
    assert candidate.verdict == "no verdict"
    assert found.verdict.winner is None
    assert found.no_verdict.reason.startswith("random: the mean weight")


def test_what_cannot_be_judged_stands_last_and_does_not_win(tmp_path):
    shown = np.tile([0.3, 0.3, 0.19, 0.2, 0.01], (2, 1))
    logs = dataset(tmp_path, frame(6000, seed=7, shown=shown))
    candidates = {"rare": prefers(logs, np.eye(ITEMS)[[4, 4]]), "known": prefers(logs, LIKED)}
    found = logs_verdict(logs, candidates)
    assert [one.learner for one in found.verdict.candidates] == ["known", "rare"]
    assert found.verdict.candidates[1].verdict == "no verdict"
    assert list(found.refusals) == ["rare"]


def test_sessions_are_compared_with_what_was_logged(tmp_path):
    """The last step of a session has no fitted values, but it has a logged reward."""
    mixture = {"random": 0.5, "greedy": 0.5}
    logs = generate(Recipe("r", "lts-10-1", 500, 1, mixture), Folder(str(tmp_path)))
    scorer, _ = train(
        training_logs(logs, Folder(f"{logs.path}-training")), learner_config("linucb")
    )
    found = logs_verdict(logs, {"it": ScoringPolicy(scorer)})
    (candidate,) = found.verdict.candidates
    assert found.verdict.logged[0].policy == "logged"
    assert candidate.over_logged.uplift < candidate.over_baseline.uplift
    assert found.overlaps["it"].mean_weight is None  # the policies are known, and need no check
