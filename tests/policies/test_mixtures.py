"""Softmax and epsilon mixtures: propensities by enumeration, frequencies by chi-square."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from slateflow.environments.rules import first_feature
from slateflow.errors import InputError
from slateflow.policies import EpsilonMixture, GreedyPolicy, RandomPolicy, SoftmaxPolicy

SIZES = [(4, 1), (4, 2), (4, 3), (4, 4), (1, 1), (6, 2)]
KINDS = ["softmax", "epsilon", "both"]


def policy(kind: str, places: int, epsilon: float = 0.3, temperature: float = 0.6):
    greedy = GreedyPolicy(places, first_feature)
    softmax = SoftmaxPolicy(places, first_feature, temperature)
    if kind == "softmax":
        return softmax
    exploit = greedy if kind == "epsilon" else softmax
    return EpsilonMixture(exploit, RandomPolicy(places), epsilon)


def observed(scores: np.ndarray, batch: int) -> dict[str, np.ndarray]:
    """Observation of `batch` users with the same scores."""
    return {
        "user": np.zeros((batch, 0)),
        "candidates": np.broadcast_to(scores[None, :, None], (batch, len(scores), 1)),
        "step": np.zeros((batch, 1), dtype=np.int32),
    }


def by_hand(kind: str, scores: list[float], epsilon: float, temperature: float, places: int):
    """Probability of every slate by a plain loop over the places."""
    every = list(itertools.permutations(range(len(scores)), places))
    softmax = {}
    for slate in every:
        left, probability = list(range(len(scores))), 1.0
        for candidate in slate:
            weights = {one: math.exp(scores[one] / temperature) for one in left}
            probability *= weights[candidate] / sum(weights.values())
            left.remove(candidate)
        softmax[slate] = probability
    best = tuple(sorted(range(len(scores)), key=lambda one: -scores[one])[:places])
    greedy = {slate: float(slate == best) for slate in every}
    if kind == "softmax":
        return softmax
    exploit = greedy if kind == "epsilon" else softmax
    return {s: epsilon / len(every) + (1 - epsilon) * exploit[s] for s in every}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("candidates", "places"), SIZES)
def test_propensities_are_those_of_the_loop_and_of_the_frequencies(kind, candidates, places):
    scores = np.random.default_rng(candidates).uniform(-1, 1, candidates)
    expected = by_hand(kind, scores.tolist(), 0.3, 0.6, places)
    assert sum(expected.values()) == pytest.approx(1)
    chosen = policy(kind, places)
    every = np.array(list(expected))
    computed = chosen.propensities(observed(scores, len(every)), every)
    np.testing.assert_allclose(computed, list(expected.values()), rtol=1e-12)

    draws = 40_000
    slates, propensities = chosen.act(observed(scores, draws), np.random.default_rng(11))
    assert (slates.dtype, propensities.dtype) == (np.int32, np.float64)
    shown = list(map(tuple, slates.tolist()))
    np.testing.assert_allclose(propensities, [expected[slate] for slate in shown], rtol=1e-12)
    counts = Counter(shown)
    if len(expected) > 1:
        observed_counts = [counts[slate] for slate in expected]
        assert chisquare(observed_counts, np.array(list(expected.values())) * draws).pvalue > 0.001


@given(
    st.lists(st.floats(-50, 50), min_size=3, max_size=5),
    st.integers(1, 3),
    st.sampled_from(KINDS),
    st.floats(0, 1),
    st.floats(0.01, 100),
)
def test_propensities_add_up_to_one_over_all_slates(scores, places, kind, epsilon, temperature):
    every = np.array(list(itertools.permutations(range(len(scores)), places)))
    chosen = policy(kind, places, epsilon, temperature)
    computed = chosen.propensities(observed(np.array(scores), len(every)), every)
    assert ((computed >= 0) & (computed <= 1 + 1e-12)).all()
    assert computed.sum() == pytest.approx(1, rel=1e-12)


@given(st.integers(0, 2**32), st.sampled_from(KINDS), st.sampled_from([1e-6, 1e-3, 1.0, 1e6]))
def test_what_is_shown_has_a_propensity_above_zero_at_any_temperature(seed, kind, temperature):
    rng = np.random.default_rng(seed)
    slates, propensities = policy(kind, 3, temperature=temperature).act(
        observed(rng.uniform(-5, 5, 6), 50), rng
    )
    assert ((propensities > 0) & (propensities <= 1)).all()
    assert all(len(set(slate)) == 3 for slate in slates.tolist())


def test_softmax_keeps_its_digits_where_one_candidate_outweighs_the_rest():
    scores = np.array([40.0, 1.0, 0.0])
    computed = SoftmaxPolicy(3, first_feature, 1.0).propensities(
        observed(scores, 1), np.array([[0, 1, 2]])
    )
    # After the first place, e to the 40 is gone; 1 − e^40 / (e^40 + e + 1) would be noise.
    assert computed[0] == pytest.approx(math.e / (math.e + 1), rel=1e-12)


def test_cold_is_greedy_and_hot_is_uniform():
    scores = np.random.default_rng(5).random(7)
    observation = observed(scores, 300)
    cold, certain = SoftmaxPolicy(2, first_feature, 1e-6).act(observation, np.random.default_rng(0))
    greedy, _ = GreedyPolicy(2, first_feature).act(observation, np.random.default_rng(0))
    np.testing.assert_array_equal(cold, greedy)
    assert certain == pytest.approx(1)
    _, hot = SoftmaxPolicy(2, first_feature, 1e9).act(observation, np.random.default_rng(0))
    assert hot == pytest.approx(1 / 42)


def test_the_ends_of_epsilon_are_its_two_policies():
    observation = observed(np.random.default_rng(5).random(7), 300)
    greedy = GreedyPolicy(2, first_feature)
    for epsilon, other in [(0.0, greedy), (1.0, RandomPolicy(2))]:
        mixed = EpsilonMixture(greedy, RandomPolicy(2), epsilon)
        slates, propensities = mixed.act(observation, np.random.default_rng(1))
        np.testing.assert_allclose(propensities, other.propensities(observation, slates))
    # The number of draws does not depend on the coins, so slates are equal wherever they explore.
    half, whole = (EpsilonMixture(greedy, RandomPolicy(2), one) for one in (0.5, 1.0))
    some, all_of_them = (one.act(observation, np.random.default_rng(1))[0] for one in (half, whole))
    explored = (some == all_of_them).all(axis=1)
    assert 0.4 < explored.mean() < 0.65


def test_any_scoring_rule_will_do():
    @dataclass(frozen=True)
    class Later:
        """A policy outside of this package, which prefers later positions."""

        def __call__(self, observation):
            batch, candidates, _ = observation["candidates"].shape
            return np.tile(np.arange(candidates), (batch, 1))  # integers will do, too

    observation = observed(np.zeros(4), 2)
    slates, _ = GreedyPolicy(2, Later()).act(observation, np.random.default_rng(0))
    assert slates.tolist() == [[3, 2]] * 2
    weights = [math.exp(one) for one in range(4)]
    computed = SoftmaxPolicy(1, Later(), 1.0).propensities(observation, np.array([[3], [0]]))
    np.testing.assert_allclose(computed, [weights[3] / sum(weights), weights[0] / sum(weights)])


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan, 1e-7])
def test_bad_temperatures_are_refused(temperature):
    with pytest.raises(InputError, match="temperature: expected a number from 1e-06, got"):
        SoftmaxPolicy(2, first_feature, temperature)


@pytest.mark.parametrize("epsilon", [-0.1, 1.1, math.nan])
def test_bad_epsilons_are_refused(epsilon):
    with pytest.raises(InputError, match=r"epsilon: expected a number in \[0, 1\], got"):
        EpsilonMixture(RandomPolicy(2), RandomPolicy(2), epsilon)
