"""Rows of one day in the features of another: a champion of yesterday is asked about today."""

from __future__ import annotations

import numpy as np

from slateflow.learners import learner_config, train
from slateflow.policies.learned import observed_scores
from slateflow.trajectories.alignment import described_as
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
    rows = described_as(today.read(), today.spec, yesterday.spec)
    # at, de, age; France is new
    assert rows.user.tolist() == [[0, 0, 30], [0, 1, 40], [0, 0, 50]]
    # Today's items are milk, rum, tea; yesterday's features were rum, tea
    assert rows.catalogue.features.tolist() == [[0, 0], [1, 0], [0, 1]]
    assert rows.candidates.tolist() == today.read().candidates.tolist()
    scorer, _ = train(yesterday, learner_config("linucb", ridge=1.0))
    scores = observed_scores(scorer, rows.observation())
    known = yesterday.encoding.user_features({"country": ["fr", "de", "fr"], "age": [30, 40, 50]})
    features = np.array([[0, 0], [1, 0], [0, 1]], float)
    expected = scorer.scores(known, np.zeros(3, int), np.tile(features, (3, 1, 1)))
    np.testing.assert_allclose(scores, expected)
