"""Vectors of zeros and ones as bits: what counts as one, and what comes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slateflow.trajectories.bits import Bits


def binary(least_rows: int = 0) -> st.SearchStrategy:
    shapes = st.tuples(st.integers(least_rows, 40), st.integers(1, 21))
    return hnp.arrays(np.float32, shapes, elements=st.sampled_from([0.0, 1.0]), fill=st.nothing())


@given(binary())
def test_what_goes_in_comes_out(values):
    bits = Bits.of(values)
    assert bits is not None
    assert len(bits) == len(values)
    assert bits.packed.size == -(-values.size // 8)
    ones = [8 * byte + bit for byte, held in enumerate(bits.packed) for bit in range(8)
            if held >> bit & 1]  # fmt: skip
    assert ones == np.flatnonzero(values).tolist()
    assert bits.numbers().dtype == np.float32
    np.testing.assert_array_equal(bits.numbers(), values)


@given(binary(), st.integers(0, 5), st.integers(0, 50))
def test_slices_are_those_of_the_vectors(values, eights, end):
    bits, first = Bits.of(values), 8 * eights
    assert bits is not None
    np.testing.assert_array_equal(bits[first:end].numbers(), values[first:end])


@given(binary(least_rows=1), st.data())
@pytest.mark.parametrize("other", [-0.0, np.nan, 2.0, np.nextafter(np.float32(1), np.float32(0))])
def test_another_number_anywhere_makes_them_none(other, values, data):
    values.flat[data.draw(st.integers(0, values.size - 1))] = other
    assert Bits.of(values) is None
