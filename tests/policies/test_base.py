"""Slates from scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slateflow.policies import top_slates

ROWS = st.lists(st.lists(st.integers(-2, 2), min_size=7, max_size=7), min_size=1, max_size=5)


@given(ROWS, st.integers(1, 7), st.sampled_from([1, 300]))
def test_best_first_and_of_equals_the_first(rows, places, times):
    slates = top_slates(np.array(times * rows), places)
    assert slates.dtype == np.int32
    for slate, row in zip(slates.tolist(), times * rows, strict=True):
        # Pairs of (falling score, position) are what a stable order is.
        assert slate == [i for _, i in sorted((-score, i) for i, score in enumerate(row))][:places]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_the_scores_stay_as_they_are(dtype):
    scores = np.array([[1, 3, 2]], dtype=dtype)
    assert top_slates(scores, 2).tolist() == [[1, 2]]
    assert scores.tolist() == [[1, 3, 2]]
