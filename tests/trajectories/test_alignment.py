"""Rows of one day in the features of another: yesterday's champion is evaluated today."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slateflow.environments.logged import LoggedSpec
from slateflow.evaluation.off_policy.logs_verdict import logs_verdict
from slateflow.learners import learner_config, train
from slateflow.policies import ScoringPolicy, SlateScorer
from slateflow.trajectories.alignment import AlignedScorer, CarriedItems
from tests.evaluation.off_policy.tired_shop import TiredShop
from tests.policies.test_scorer import polynomial
from tests.trajectories.sources.shop import log, published

TODAY = """
    country,age,item,propensity,reward
    fr,30,tea,0.5,1
    de,40,rum,0.5,0
    fr,50,milk,0.5,0
"""
YESTERDAY = """
    country,age,item,propensity,reward
    at,31,rum,0.5,0
    de,41,tea,0.5,1
    de,43,tea,0.5,0
    at,51,rum,0.5,1
"""
USER = '[columns]\nuser = ["country", "age"]\n'


def test_features_are_found_by_their_names_and_new_ones_are_zero(tmp_path):
    days = []
    for name, text in (("a", TODAY), ("b", YESTERDAY)):
        log(tmp_path / name, "log.csv", text)
        days.append(published(tmp_path / name, USER))
    today, yesterday = days
    assert today.spec.user_features == ("country=de", "country=fr", "age")
    scorer, _ = train(yesterday, learner_config("linucb", ridge=1.0))
    policy = ScoringPolicy(AlignedScorer(scorer, today.spec, yesterday.spec))
    observation = today.read().observation()
    # Yesterday at, de and age, and France is new. Items are milk, rum, tea; yesterday rum, tea
    known = np.array([[0, 0, 30], [0, 1, 40], [0, 0, 50]], float)
    assert yesterday.spec.user_features == ("country=at", "country=de", "age")
    features = np.array([[0, 0], [1, 0], [0, 1]], float)
    scores = scorer.scores(known, np.zeros(3, int), np.tile(features, (3, 1, 1)))
    best = np.argmax(scores, axis=1)
    np.testing.assert_array_equal(policy.first_place(observation), np.eye(3)[best])
    assert policy.propensities(observation, best[:, None]).tolist() == [1, 1, 1]
    slates, propensities = policy.act(observation, np.random.default_rng(0))
    assert (slates[:, 0] == best).all()
    assert propensities.tolist() == [1, 1, 1]


def two_classes() -> SlateScorer:
    """Slates of two, for users with two columns and items with three; remembers the class."""
    rng = np.random.default_rng(3)
    return SlateScorer(
        user_size=2,
        document_size=3,
        slate_size=2,
        construction="optimal",
        choice_weights=rng.normal(size=(2, 9)),
        choice_no_click=np.zeros(2),
        choice_shares=np.full(2, 0.5),
        item_values=rng.normal(size=(2, 9)),
        click_values=rng.normal(size=(2, 5)),
        no_click_values=rng.normal(size=(2, 5)),
        features_match=False,
    )


def two_sums(counted):
    """A polynomial of the same sizes, whose memory has sums of features by two decays."""
    plain = polynomial(user_size=2 + 2 * (4 + counted), document_size=3)
    return replace(plain, user_size=2, decays=np.array([0.9, 0.5]), counted=counted)


@pytest.mark.parametrize("scorer", [two_classes(), two_sums(False), two_sums(True)])
def test_a_session_is_remembered_in_the_features_of_other_days(scorer):
    """Today has the same features in another order, and two new ones."""
    yesterday = LoggedSpec(
        name="shop",
        num_candidates=6,
        user_features=("a", "b"),
        item_features=("x", "y", "z"),
        slate_size=2,
    )
    today = replace(yesterday, user_features=("b", "new", "a"), item_features=("z", "y", "w", "x"))
    aligned = AlignedScorer(scorer, today, yesterday)
    rng = np.random.default_rng(0)
    memory, own = np.zeros((5, scorer.memory_size)), np.zeros((5, aligned.memory_size))
    for step in range(4):
        user, items = rng.normal(size=(5, 3)), rng.normal(size=(5, 6, 4))
        before, known = user[:, [2, 0]], items[:, :, [3, 1, 0]]
        steps, reward = np.full(5, step), rng.normal(size=5)
        expected = scorer.scores(before, steps, known, memory)
        np.testing.assert_allclose(aligned.scores(user, steps, items, own), expected, rtol=1e-12)
        clicked = rng.integers(-1, 2, 5)
        memory = scorer.remember(memory, before, known[:, :2], clicked, reward)
        own = aligned.remember(own, user, items[:, :2], clicked, reward)


@pytest.mark.integration
def test_a_champion_of_other_days_is_judged_with_its_memory(tmp_path):
    """An equal challenger does not replace it, although there is a new item."""
    dataset = TiredShop(0.7).logs(tmp_path, 4_000, 0)
    scorer, _ = train(dataset, learner_config("fitted-q"))
    assert scorer.memory_size
    yesterday = replace(dataset.spec, item_count=dataset.spec.item_count - 1)
    champion = ScoringPolicy(AlignedScorer(scorer, dataset.spec, yesterday))
    (copy,) = logs_verdict(dataset, {"copy": ScoringPolicy(scorer)}, champion).verdict.candidates
    assert copy.over_champion.uplift == 0


def test_a_known_item_is_not_refused_for_a_new_one_with_the_same_columns(tmp_path):
    text = """unknown_items = "refuse"
        [items]
        file = "items.csv"
        features = ["kind"]
        tell_apart = "never"
    """
    log(tmp_path, "1.csv", "item,propensity,reward\ncap,0.5,1\nboot,0.5,0\n")
    (tmp_path / "items.csv").write_text("item,kind\nboot,shoe\ncap,hat\n")
    then = published(tmp_path, text)
    (tmp_path / "items.csv").write_text("item,kind\nboot,shoe\nbowler,hat\ncap,hat\n")
    now = published(tmp_path, text)
    assert now.encoding.items == ("boot", "bowler", "cap")
    version = then.encoding, then.catalogue
    carried = CarriedItems.of(now, version, then.spec.item_features)
    cap = then.catalogue.features[then.encoding.items.index("cap")]
    described = now.catalogue.features[[0, 2]]
    assert carried.refuses(described).tolist() == [False, False]
    assert carried.seen(described, np.zeros((2, 2)))[1].tolist() == cap.tolist()
