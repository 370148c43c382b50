"""Scoring rules against equivalent plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.environments import preset
from slateflow.environments.recsim_import import load_recsim
from slateflow.environments.worlds import scoring_rule
from slateflow.errors import InputError

RNG = np.random.default_rng(3)


def observed(users: np.ndarray, candidates: np.ndarray) -> dict[str, np.ndarray]:
    return {"user": users, "candidates": candidates, "step": np.zeros((len(users), 1))}


@pytest.mark.parametrize("name", ["modified-lts-20-2", "lts-10-1", "interest-exploration"])
def test_greedy_is_the_first_feature_where_no_affinity_is_seen(name):
    spec = preset(name)
    candidates = RNG.random((7, 4, spec.document_size))
    observation = observed(RNG.random((7, spec.user_size)), candidates)
    scores = scoring_rule("greedy", spec)(observation)
    assert scores.tolist() == [[document[0] for document in row] for row in candidates.tolist()]
    assert (scoring_rule("opposite", spec)(observation) == -scores).all()


def test_quality_is_that_of_the_document_where_it_is_seen():
    spec = preset("interest-exploration")
    assert scoring_rule("quality", spec) == scoring_rule("greedy", spec)


def test_affinity_is_the_product_of_user_and_document():
    spec = preset("interest-evolution")
    users, candidates = RNG.uniform(-1, 1, (7, 20)), RNG.random((7, 4, 20))
    scores = scoring_rule("affinity", spec)(observed(users, candidates))
    by_hand = [
        [sum(u * d for u, d in zip(user, document, strict=True)) for document in row]
        for user, row in zip(users, candidates, strict=True)
    ]
    np.testing.assert_allclose(scores, by_hand, rtol=1e-12)
    assert scoring_rule("greedy", spec) == scoring_rule("affinity", spec)


def test_quality_is_the_mean_of_the_cluster_where_it_is_hidden():
    spec = preset("interest-evolution", min_utility=-2.0, max_utility=5.0)
    clusters = RNG.integers(0, 20, (7, 4))
    scores = scoring_rule("quality", spec)(observed(np.zeros((7, 20)), np.eye(20)[clusters]))
    recsims = load_recsim().interest_evolution.UtilityModelVideoSampler(
        min_utility=-2.0, max_utility=5.0
    )
    np.testing.assert_allclose(scores, recsims.cluster_means[clusters], rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "world", "message"),
    [
        ("best", "lts-20-2", "unknown scorer 'best': expected one of greedy, opposite, affinity"),
        ("affinity", "lts-20-2", "lts-20-2 shows nothing to go by; expected one of greedy, opp"),
        ("quality", "modified-lts-10-1", "shows nothing to go by; expected one of greedy, opp"),
        ("affinity", "interest-exploration", "expected one of greedy, opposite, quality"),
    ],
)
def test_rules_that_a_world_has_nothing_for_are_refused(name, world, message):
    with pytest.raises(InputError, match=message):
        scoring_rule(name, preset(world))
