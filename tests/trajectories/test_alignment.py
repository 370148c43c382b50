"""Rows of one day in the features of another: a champion of yesterday is asked about today."""

from __future__ import annotations

import numpy as np

from slateflow.learners import learner_config, train
from slateflow.policies import ScoringPolicy
from slateflow.trajectories.alignment import AlignedPolicy
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
    policy = AlignedPolicy(ScoringPolicy(scorer), today.spec, yesterday.spec)
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
