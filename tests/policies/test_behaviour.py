"""Random is uniform with an exact propensity; greedy is a sort; settings define a policy."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from slateflow.environments import preset, presets
from slateflow.environments.rules import Opposite, first_feature
from slateflow.errors import InputError
from slateflow.policies import (
    BEHAVIOURS,
    Behaviour,
    EpsilonMixture,
    GreedyPolicy,
    RandomPolicy,
    SoftmaxPolicy,
    behaviour_label,
    behaviour_policy,
)

SIZES = st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


def observed(candidates: np.ndarray) -> dict[str, np.ndarray]:
    """The observation of users with candidates of (B, N) scores."""
    batch = len(candidates)
    return {
        "user": np.full((batch, 1), 0.5, dtype=np.float32),
        "candidates": candidates[:, :, None],
        "step": np.zeros((batch, 1), dtype=np.int32),
    }


@pytest.mark.parametrize(("candidates", "places"), [(5, 1), (5, 2), (4, 3), (3, 3)])
def test_random_is_uniform_over_ordered_slates(candidates, places):
    slates, _ = RandomPolicy(places).act(
        observed(np.zeros((30_000, candidates))), np.random.default_rng(7)
    )
    counts = Counter(map(tuple, slates.tolist()))
    every = list(itertools.permutations(range(candidates), places))
    assert set(counts) <= set(every)
    assert chisquare([counts[slate] for slate in every]).pvalue > 0.001


@given(SIZES, st.integers(0, 2**32))
def test_random_shows_distinct_candidates_with_their_propensity(sizes, seed):
    candidates, places = sizes
    slates, propensities = RandomPolicy(places).act(
        observed(np.zeros((9, candidates))), np.random.default_rng(seed)
    )
    assert slates.dtype == np.int32
    assert slates.shape == (9, places)
    for slate in slates.tolist():
        assert len(set(slate)) == places
        assert set(slate) <= set(range(candidates))
    ordered_slates = math.factorial(candidates) // math.factorial(candidates - places)
    assert propensities.dtype == np.float64
    assert propensities.tolist() == [1 / ordered_slates] * 9


def test_random_depends_on_nothing_but_its_stream():
    observation = observed(np.random.default_rng(1).random((50, 20)))
    policy = RandomPolicy(2)
    one, again, other = (
        policy.act(observation, np.random.default_rng(seed))[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any(axis=1).mean() > 0.9


SCORES = st.lists(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=6, max_size=6),
    min_size=1,
    max_size=4,
)


@given(SCORES, st.integers(1, 6), st.sampled_from(["greedy", "opposite"]))
def test_greedy_and_opposite_are_a_sort(scores, places, name):
    spec = preset("modified-lts-20-2", num_candidates=6, slate_size=places)
    policy = behaviour_policy(name, spec)
    slates, propensities = policy.act(observed(np.array(scores)), np.random.default_rng(0))
    for slate, row in zip(slates.tolist(), scores, strict=True):
        ascending = name == "opposite"  # Python's sort is stable: the first of equals wins
        best = sorted(range(6), key=lambda i: row[i] if ascending else -row[i])
        assert slate == best[:places]
    assert propensities.tolist() == [1.0] * len(scores)
    assert propensities.dtype == np.float64


def test_deterministic_policies_leave_the_stream_alone():
    rng = np.random.default_rng(3)
    GreedyPolicy(2, first_feature).act(observed(np.zeros((4, 5))), rng)
    assert rng.random() == np.random.default_rng(3).random()


def test_names_of_policies():
    spec = preset("modified-lts-20-2")
    assert behaviour_policy("random", spec) == RandomPolicy(2)
    assert behaviour_policy("greedy", spec) == GreedyPolicy(2, first_feature)
    assert behaviour_policy("opposite", spec) == GreedyPolicy(2, Opposite(first_feature))
    with pytest.raises(InputError, match="unknown policy 'best': expected one of random, greedy"):
        behaviour_policy("best", spec)


@pytest.mark.parametrize("name", presets())
def test_every_policy_has_a_label_in_every_world(name):
    labels = [behaviour_label(behaviour, preset(name)) for behaviour in BEHAVIOURS]
    assert labels[BEHAVIOURS.index("random")] == "random"
    assert len(set(labels)) == 3


def test_greedy_goes_by_quality_where_the_user_is_hidden():
    spec = preset("interest-exploration", num_candidates=4, slate_size=2)
    candidates = np.array([[[1.5, 0, 1], [2.5, 1, 0], [1.2, 1, 0], [1.9, 0, 1]]])
    observation = {"user": np.zeros((1, 0)), "candidates": candidates, "step": np.zeros((1, 1))}
    rng = np.random.default_rng(0)
    for name, slate in [("greedy", [1, 3]), ("opposite", [2, 0])]:
        assert behaviour_policy(name, spec).act(observation, rng)[0].tolist() == [slate]


def test_greedy_goes_by_affinity_where_the_user_is_seen():
    spec = preset("interest-evolution", num_candidates=4, slate_size=2, num_features=10)
    rng = np.random.default_rng(4)
    user, candidates = rng.uniform(-1, 1, (30, 10)), rng.random((30, 4, 10))
    observation = {"user": user, "candidates": candidates, "step": np.zeros((30, 1))}
    for name, sign in [("greedy", -1), ("opposite", 1)]:
        slates, propensities = behaviour_policy(name, spec).act(observation, rng)
        assert propensities.tolist() == [1.0] * 30
        for lane, slate in enumerate(slates.tolist()):
            scores = [sum(user[lane] * document) for document in candidates[lane]]
            assert slate == sorted(range(4), key=lambda one: sign * scores[one])[:2]


@pytest.mark.parametrize("name", BEHAVIOURS)
@pytest.mark.parametrize("world", presets())
def test_plain_policies_know_the_propensity_of_every_slate(world, name):
    spec = preset(world, num_candidates=5, slate_size=2)
    rng = np.random.default_rng(2)
    observation = {
        "user": rng.uniform(size=(20, spec.user_size)),
        "candidates": rng.uniform(size=(20, 5, spec.document_size)),
        "step": np.zeros((20, 1), dtype=np.int32),
    }
    policy = behaviour_policy(name, spec)
    slates, propensities = policy.act(observation, rng)
    np.testing.assert_array_equal(policy.propensities(observation, slates), propensities)
    every = [np.tile(slate, (20, 1)) for slate in itertools.permutations(range(5), 2)]
    total = np.sum([policy.propensities(observation, slate) for slate in every], axis=0)
    np.testing.assert_allclose(total, 1, rtol=1e-12)


def test_settings_make_a_policy():
    spec = preset("modified-lts-20-2")
    greedy, opposite = GreedyPolicy(2, first_feature), Opposite(first_feature)
    for settings, expected in [
        ({"scorer": "opposite"}, GreedyPolicy(2, opposite)),
        ({"epsilon": 0.1}, EpsilonMixture(greedy, RandomPolicy(2), 0.1)),
        ({"temperature": 2}, SoftmaxPolicy(2, first_feature, 2)),
        (
            {"scorer": "opposite", "temperature": 0.5, "epsilon": 1},
            EpsilonMixture(SoftmaxPolicy(2, opposite, 0.5), RandomPolicy(2), 1),
        ),
    ]:
        assert behaviour_policy(Behaviour(**settings), spec) == expected
        assert Behaviour(**settings).to_dict() == settings
    assert Behaviour(scorer="greedy", epsilon=0.0).to_dict() == {}


def test_settings_have_labels():
    evolution = preset("interest-evolution")
    for settings, label in [
        ({"epsilon": 0.25}, "best match, ε 0.25"),
        ({"scorer": "opposite"}, "worst match"),
        ({"scorer": "quality", "temperature": 0.5}, "softmax of quality, T 0.5"),
        ({"temperature": 2, "epsilon": 1}, "softmax of best match, T 2, ε 1"),
    ]:
        assert behaviour_label(Behaviour(**settings), evolution) == label
    assert behaviour_label("greedy", evolution) == "best match"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scorer": ["greedy"]}, "scorer: expected a text"),
        ({"epsilon": 1.1}, "epsilon: expected at most 1, got 1.1"),
        ({"epsilon": -0.1}, "epsilon: expected at least 0, got -0.1"),
        ({"epsilon": float("nan")}, "epsilon: expected a finite number, got nan"),
        ({"epsilon": "0.1"}, "epsilon: expected a number, got '0.1'"),
        ({"epsilon": True}, "epsilon: expected a number, got True"),
        ({"temperature": 0}, "temperature: expected at least 1e-06, got 0"),
        ({"temperature": float("inf")}, "temperature: expected a finite number, got inf"),
        ({"temperature": "hot"}, "temperature: expected a number, got 'hot'"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(InputError, match=message) as refused:
        Behaviour(**settings)
    assert "\n" not in str(refused.value)
