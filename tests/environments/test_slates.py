"""Slates as a space, and the numbering of ordered slates."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from gymnasium.vector.utils import batch_space
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from slateflow.environments import SlateSpace
from slateflow.environments.slates import all_distinct, slate_numbers, slates_of
from slateflow.errors import InputError

SIZES = st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@given(SIZES)
def test_numbers_follow_itertools(sizes):
    permutations = list(itertools.permutations(range(sizes[0]), sizes[1]))[:300]
    for number, slate in enumerate(permutations):
        assert tuple(slates_of(np.array([number]), *sizes)[0]) == slate
        assert slate_numbers(np.array([slate]), sizes[0]) == [number]


@given(st.integers(2, 60), st.data())
def test_numbers_make_the_round_trip(candidates, data):
    places = data.draw(st.integers(1, min(candidates, 6)))
    slate = data.draw(st.permutations(range(candidates)))[:places]
    number = slate_numbers(np.array([slate]), candidates)
    assert slates_of(number, candidates, places).tolist() == [slate]


@pytest.mark.parametrize("number", [-1, 6])
def test_numbers_without_a_slate_are_refused(number):
    with pytest.raises(InputError, match=f"number of a slate below 6, got {number}"):
        slates_of(np.array([0, number]), 3, 2)


@given(st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), min_size=1, max_size=5))
def test_distinct_is_what_sets_say(slates):
    assert all_distinct(np.array(slates)) == all(len(set(slate)) == 3 for slate in slates)


def test_samples_are_uniform_over_ordered_slates():
    space = SlateSpace(4, 2, num_envs=6_000)
    space.seed(3)
    sampled = space.sample()
    assert space.contains(sampled)
    counts = [
        np.all(sampled == slate, axis=1).sum() for slate in itertools.permutations(range(4), 2)
    ]
    assert sum(counts) == 6_000
    assert chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize(
    ("slate", "belongs"),
    [
        ([3, 7], True),
        ([3, 3], False),
        ([3, 20], False),
        ([-1, 3], False),
        ([3], False),
        (np.array([3, 7], dtype=np.int32), True),
        (np.array([3.0, 7.0]), False),
    ],
)
def test_only_distinct_candidates_belong(slate, belongs):
    assert SlateSpace(20, 2).contains(slate) == belongs


def test_a_batch_of_slates_is_a_space_of_slates():
    batched = batch_space(SlateSpace(20, 2), 5)
    assert isinstance(batched, SlateSpace)
    assert batched.shape == (5, 2)
    assert batched.sample() in batched
    assert np.tile([1, 1], (5, 1)) not in batched


def test_masks_are_refused():
    with pytest.raises(InputError, match="mask"):
        SlateSpace(3, 2).sample(mask=(np.ones(3, dtype=np.int8),) * 2)
