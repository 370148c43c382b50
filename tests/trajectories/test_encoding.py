"""Values of requests become features, or are refused with the column's name."""

from __future__ import annotations

import pytest

from slateflow.errors import InputError
from slateflow.trajectories.encoding import Column

CATEGORIES = Column("country", "categories", ("at", "de"))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (CATEGORIES, [1.5], "country: expected texts, whole numbers or booleans, got "),
        (CATEGORIES, [["at"]], "country: expected texts, whole numbers or booleans, got "),
        (CATEGORIES, ["at", 1], "country: expected texts, whole numbers or booleans, got "),
        (Column("age", "number"), ["old"], "age: expected numbers, got "),
        (Column("taste", "numbers", size=2), [[1.0, 2.0], [3.0]], "taste: expected lists of 2 "),
    ],
)
def test_a_value_of_another_kind_is_refused(column, values, message):
    with pytest.raises(InputError, match=f"^{message}") as caught:
        column.encode(values)
    assert "\n" not in str(caught.value)


def test_a_whole_number_becomes_the_nearest_float():
    assert Column("age", "number").encode([2**60 + 1, None]).tolist() == [[2.0**60], [0]]
    taste = Column("taste", "numbers", size=2)
    assert taste.encode([[2**60 + 1, 3]]).tolist() == [[2.0**60, 3]]
