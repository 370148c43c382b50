"""The visitor of a session: names in logs, and hashes in datasets."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.errors import InputError
from slateflow.trajectories import Dataset, Folder, generate
from slateflow.trajectories.description.first_look import FirstLook
from slateflow.trajectories.held_out import parts_and_held_out, training_logs
from tests.trajectories.sources.shop import log, published, recipe

COLUMNS = '[columns]\nepisode = "visit"\nvisitor = "who"\n'


def visits(names: list[str], first: int = 0) -> dict[str, list]:
    """A session of two decisions for each visitor."""
    count = 2 * len(names)
    return {
        "visit": [f"v{first + n // 2}" for n in range(count)],
        "who": [names[n // 2] for n in range(count)],
        "item": ["tea", "mug"] * len(names),
        "propensity": [0.5] * count,
        "reward": [0, 1] * len(names),
    }


def names_and_numbers(dataset: Dataset, names: list[str]) -> dict[str, set[int]]:
    rows = dataset.read()
    assert rows.visitor is not None
    found: dict[str, set[int]] = {}
    for start, name in zip(rows.starts, names, strict=True):
        found.setdefault(name, set()).add(int(rows.visitor[start]))
    return found


def test_a_visitor_is_a_number_and_the_name_stays_outside(tmp_path):
    names = ["ada", "bob", "ada", "cem", "bob", "ada"]
    log(tmp_path, "1.parquet", visits(names))
    dataset = published(tmp_path, COLUMNS)
    found = names_and_numbers(dataset, names)
    assert all(len(numbers) == 1 for numbers in found.values())
    assert len(set.union(*found.values())) == 3
    (part,) = dataset.parts
    stored = (tmp_path / "data" / dataset.path.rpartition("/")[2] / part.path).read_bytes()
    assert b"cem" not in stored


def test_without_the_column_nothing_changes(tmp_path):
    log(tmp_path, "1.parquet", visits(["ada", "bob", "ada"]))
    dataset = published(tmp_path, '[columns]\nepisode = "visit"\n')
    rows = dataset.read()
    assert rows.visitor is None
    assert "visitor" not in rows.columns()
    assert dataset.hold_out.by == "hash"


def test_visits_of_one_are_held_out_together(tmp_path):
    names = [f"u{n % 40}" for n in range(400)]
    log(tmp_path, "1.parquet", visits(names))
    dataset = published(tmp_path, COLUMNS)
    ((_, rows, held_out),) = parts_and_held_out(dataset)
    assert rows.visitor is not None
    for one in np.unique(rows.visitor):
        assert len(set(held_out[rows.visitor == one].tolist())) == 1
    assert 0.05 < held_out.mean() < 0.4
    taken = training_logs(dataset, Folder(str(tmp_path / "taken"))).read()
    np.testing.assert_array_equal(taken.episode, rows.episode[~held_out])
    np.testing.assert_array_equal(taken.visitor, rows.visitor[~held_out])
    again = Dataset.open(dataset.path)  # from the manifest
    assert again.hold_out.to_dict() == {"every": 5, "by": "visitor"}


def test_they_are_known_again_the_next_day(tmp_path):
    """The day of an earlier dataset is reused, with the same result as if both were new."""
    first = [f"u{n}" for n in range(30)]
    log(tmp_path, "1.parquet", visits(first))
    published(tmp_path, COLUMNS)
    second = ["u3", "new", "u4"]
    log(tmp_path, "2.parquet", visits(second, first=30))
    both = published(tmp_path, COLUMNS)
    found = names_and_numbers(both, [*first, *second])
    assert all(len(numbers) == 1 for numbers in found.values())
    anew = generate(recipe(tmp_path, COLUMNS), Folder(str(tmp_path / "anew")))
    assert anew.digest == both.digest


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        (["ada", "bob", "cem", "cem"], "1.csv: row 2: who: expected the visitor of its session"),
        (["ada", "ada", "", "cem"], "1.csv: row 3: who: expected a value"),
    ],
)
def test_what_cannot_be_is_named(tmp_path, who, expected):
    made = visits(["ada", "cem"]) | {"who": who}
    rows = zip(*made.values(), strict=True)
    lines = [",".join(made), *(",".join(map(str, row)) for row in rows)]
    log(tmp_path, "1.csv", "\n".join(lines))
    with pytest.raises(InputError, match=expected):
        published(tmp_path, COLUMNS)


def test_numbers_and_texts_are_names(tmp_path):
    """1.0, as pandas writes whole numbers in columns with gaps, is 1."""
    made = visits(["ada", "cem"])
    log(tmp_path, "1.parquet", made | {"who": [1, 1, 2, 2]})
    log(tmp_path, "2.parquet", visits(["a", "b"], first=2) | {"who": [1.0, 1.0, 2.0, 2.0]})
    log(tmp_path, "3.parquet", visits(["a", "b"], first=4) | {"who": ["1", "1", "2", "2"]})
    rows = published(tmp_path, COLUMNS).read()
    assert rows.visitor is not None
    assert len(np.unique(rows.visitor)) == 2


def test_a_first_look_counts_them(tmp_path):
    log(tmp_path, "1.parquet", visits(["ada", "bob", "ada"] * 20))
    assert FirstLook.of(published(tmp_path, COLUMNS)).visitors == 2
