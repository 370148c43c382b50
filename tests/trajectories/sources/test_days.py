"""Nights of a source: days of an earlier dataset are not read again, with the same result."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slateflow.errors import InputError
from slateflow.trajectories import Dataset, Folder, generate
from slateflow.trajectories.held_out import training_logs
from slateflow.trajectories.sources import dsjson, publish, table
from tests.object_store import object_store
from tests.trajectories.sources.shop import log, recipe

COLUMNS = '[columns]\nuser = ["age", "country"]\ncandidates = "offered"\npolicy = "bucket"\n'
SESSIONS = COLUMNS + 'episode = "session"\ntime = "t"\n'
ITEMS = '[items]\nfile = "items.csv"\nid = "id"\nfeatures = ["price"]\n'
START = 1_790_000_000


def decisions(rows: int, seed: int, news: bool = True) -> pd.DataFrame:
    """Decisions by time; sessions have several rows, and items and countries change."""
    rng = np.random.default_rng(seed)
    moment = np.arange(rows) / rows if news else np.zeros(rows)
    low, high = (10 * moment).astype(int), (10 * moment).astype(int) + 6
    count = rng.integers(2, 6, rows)
    offered = [
        rng.permutation(np.arange(a, b))[:n].tolist()
        for a, b, n in zip(low, high, count, strict=True)
    ]
    session = np.arange(rows) // 4 + rng.integers(0, 3, rows)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 80, rows),
            "country": [f"c{int(3 * m) + rng.integers(0, 2)}" for m in moment],
            "session": session,
            "t": np.arange(rows) * 10,
            "bucket": np.where(session % 3, "a", "b"),
            "offered": offered,
            "item": [one[0] for one in offered],
            "propensity": [1 / len(one) for one in offered],
            "reward": rng.integers(0, 2, rows),
        }
    )


@contextmanager
def reading() -> Iterator[set[str]]:
    """The names of the files that are read in the block."""
    names: set[str] = set()
    real = table.read_columns

    def read(folder, name, path, columns):
        names.add(name)
        return real(folder, name, path, columns)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "read_columns", read)
        yield names


def arrive(folder: Path, number: int, rows: pd.DataFrame) -> None:
    """A new file, written a day after the one before."""
    path = log(folder, f"{number:02d}.parquet", rows.to_dict("list"))
    os.utime(path, (START + 86_400 * number,) * 2)


def night(folder: Path, text: str, data: str) -> tuple[Dataset, set[str]]:
    """The dataset of the current files, and the names of those that were read."""
    with reading() as names:
        dataset = generate(recipe(folder, text), Folder(str(folder / data)))
    return Dataset.open(dataset.path).verify(), names


def assert_same(one: Dataset, other: Dataset) -> None:
    assert one.digest == other.digest
    assert one.parts == other.parts
    assert one.days == other.days
    assert one.hold_out == other.hold_out
    assert one.spec == other.spec
    assert one.encoding == other.encoding
    for name, values in one.read().columns().items():
        np.testing.assert_array_equal(other.read().columns()[name], values)


@pytest.mark.integration
@settings(max_examples=8)
@given(
    cuts=st.sets(st.integers(1, 59), min_size=1, max_size=4),
    days=st.sampled_from(["", "days = 2\n"]),
    held_out=st.sampled_from(["", 'held_out = "last"\n']),
    text=st.sampled_from([SESSIONS, COLUMNS + 'time = "t"\n', SESSIONS.replace("candidates", "#")]),
    seed=st.integers(0, 9),
)
def test_nights_give_the_dataset_of_one_reading(cuts, days, held_out, text, seed, tmp_path_factory):
    folder, rows = tmp_path_factory.mktemp("nights"), decisions(60, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "PART_ROWS", 9)
        for number, (start, stop) in enumerate(pairwise([0, *sorted(cuts), 60])):
            arrive(folder, number, rows[start:stop])
            kept, _ = night(folder, days + held_out + text, "data")
            fresh, _ = night(folder, days + held_out + text, f"fresh-{number}")
            assert_same(kept, fresh)


@pytest.mark.parametrize("days", ["", "days = 2\n"])
def test_only_the_new_day_is_read(tmp_path, days):
    # Without sessions over midnight, and with the same items and countries every day
    for number in range(4):
        rows = decisions(40, 0, news=False).assign(t=np.arange(40) + 1_000 * number)
        rows["session"] += 100 * number
        arrive(tmp_path, number, rows)
        dataset, read = night(tmp_path, days + SESSIONS, "data")
        assert read == {f"{number:02d}.parquet"}
        assert [day.file["name"] for day in dataset.days] == [
            f"{n:02d}.parquet" for n in range(max(0, number - 1) if days else 0, number + 1)
        ]
    parts = {part.day: Path(dataset.path, part.path) for part in dataset.parts}
    links = [parts[day.key].stat().st_nlink for day in dataset.days]
    assert links == ([2, 1] if days else [4, 3, 2, 1])


def test_sessions_over_midnight_have_their_days_read_again(tmp_path):
    session = np.arange(80) // 7  # those of rows 14 to 20, 35 to 41 and 56 to 62
    rows = decisions(80, 1, news=False).assign(session=session, bucket="a")
    for number in range(4):
        arrive(tmp_path, number, rows[20 * number : 20 * number + 20])
        _, read = night(tmp_path, SESSIONS, "data")
        assert read == {f"{n:02d}.parquet" for n in range(max(0, number - 1), number + 1)}


@pytest.mark.parametrize("news", ["items", "countries"])
def test_what_is_new_changes_old_days_without_reading_them(tmp_path, news):
    rows = decisions(60, 2, news=False)
    arrive(tmp_path, 0, rows)
    night(tmp_path, COLUMNS, "data")
    if news == "countries":
        rows["country"] = "b"  # before the others
    else:
        rows["item"], rows["offered"] = -1, [[-1, n] for n in rows["item"]]
        rows["propensity"] = 0.5
    arrive(tmp_path, 1, rows)
    dataset, read = night(tmp_path, COLUMNS, "data")
    assert read == {"01.parquet"}
    assert_same(dataset, night(tmp_path, COLUMNS, "fresh")[0])


def test_items_of_a_file_keep_the_parts_where_new_ones_are_written_below(tmp_path):
    rows = decisions(40, 3, news=False)
    items = "id,price\n" + "".join(f"{n},{n / 2}\n" for n in range(7))
    (tmp_path / "items.csv").write_text(items)
    arrive(tmp_path, 0, rows)
    first, _ = night(tmp_path, COLUMNS + ITEMS, "data")
    (tmp_path / "items.csv").write_text(items + "new,9\n")
    arrive(tmp_path, 1, rows)
    second, read = night(tmp_path, COLUMNS + ITEMS, "data")
    assert read == {"01.parquet", "items.csv"}
    for part in first.parts:
        taken = next(other for other in second.parts if other.sha256 == part.sha256)
        assert Path(first.path, part.path).samefile(Path(second.path, taken.path))


def test_items_that_are_described_anew_make_another_dataset_of_the_same_rows(tmp_path):
    items = [(n, n / 2) for n in range(7)]

    def written(factor):
        lines = [f"{item},{factor * price}" for item, price in items]
        (tmp_path / "items.csv").write_text("\n".join(["id,price", *lines]))
        return night(tmp_path, COLUMNS + ITEMS, "data")

    arrive(tmp_path, 0, decisions(40, 3, news=False))
    first, _ = written(1)
    assert written(1)[0].path == first.path  # written once more, with nothing new
    second, read = written(100)
    assert read == {"items.csv"}
    assert second.path != first.path
    assert second.digest != first.digest
    assert (second.read().catalogue.features == 100 * first.read().catalogue.features).all()
    assert_same(second, night(tmp_path, COLUMNS + ITEMS, "fresh")[0])


@pytest.mark.parametrize("damage", ["part", "facts", "empty facts", "all of it"])
def test_a_damaged_day_is_read_again(tmp_path, damage):
    for number in range(2):
        arrive(tmp_path, number, decisions(20, number))
    first, _ = night(tmp_path, COLUMNS, "data")
    if damage == "all of it":
        Path(first.path, "_manifest.json").write_text("{}")
    else:
        name = first.parts[0].path if damage == "part" else first.days[0].facts
        Path(first.path, name).write_bytes(b"" if damage == "empty facts" else b"half")
    arrive(tmp_path, 2, decisions(20, 2))
    dataset, read = night(tmp_path, COLUMNS, "data")
    assert read == {"02.parquet", "00.parquet", *(["01.parquet"] if damage == "all of it" else [])}
    assert_same(dataset, night(tmp_path, COLUMNS, "fresh")[0])


def test_damage_that_two_datasets_share_is_repaired_by_the_documented_way(tmp_path):
    rows = decisions(20, 0, news=False)
    arrive(tmp_path, 0, rows)
    first, _ = night(tmp_path, COLUMNS, "data")
    arrive(tmp_path, 1, rows)
    second, _ = night(tmp_path, COLUMNS, "data")
    file = Path(second.path, second.parts[0].path)
    assert file.samefile(Path(first.path, first.parts[0].path))
    whole = file.read_bytes()
    for place in range(20, len(whole)):  # some bytes, of statistics, are not read
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            first.verify()
        except InputError:
            break
    Path(second.path, "_manifest.json").unlink()
    again, _ = night(tmp_path, COLUMNS, "data")
    assert again.digest == second.digest
    assert place < len(whole) - 1
    assert not file.samefile(Path(first.path, first.parts[0].path))


@pytest.mark.integration
def test_days_are_taken_over_in_an_object_store(tmp_path):
    with object_store("shop") as url:
        for number in range(2):
            arrive(tmp_path, number, decisions(20, 0, news=False))
            with reading() as names:
                kept = generate(recipe(tmp_path, COLUMNS), Folder(f"{url}/data")).verify()
            assert names == {f"{number:02d}.parquet"}
        assert_same(kept, night(tmp_path, COLUMNS, "fresh")[0])


def test_a_copy_of_a_day_that_an_earlier_dataset_knows(tmp_path):
    rows = decisions(200, 0)
    arrive(tmp_path, 0, rows)
    night(tmp_path, COLUMNS, "data")
    shuffled = rows.sample(frac=1, random_state=0)[rows.columns[::-1]]
    arrive(tmp_path, 1, shuffled)
    with reading() as names, pytest.raises(InputError) as caught:
        generate(recipe(tmp_path, COLUMNS), Folder(str(tmp_path / "data")))
    assert "01.parquet: expected each file's logs once, got the rows of 00.par" in str(caught.value)
    assert names == {"01.parquet"}


def line(number: int, **more: str) -> str:
    """A decision between two actions as dsjson."""
    document = {
        "_label_cost": -(number % 2), "_label_probability": 0.5, "_label_Action": 1 + number % 2,
        "_labelIndex": number % 2, "a": [1, 2], "p": [0.5, 0.5],
        "c": {"User": {"age": number, **more}, "_multi": [{"i": {"id": "a"}}, {"i": {"id": "b"}}]},
    }  # fmt: skip
    return json.dumps(document)


def test_a_feature_that_comes_up_later_is_zero_in_old_days(tmp_path, monkeypatch):
    read: list[str] = []
    documents = dsjson.DsjsonReader._documents

    def reading(self, name, path):
        read.append(name)
        return documents(self, name, path)

    monkeypatch.setattr(dsjson.DsjsonReader, "_documents", reading)
    (tmp_path / "logs").mkdir()
    for number, more in enumerate([{}, {"city": "graz"}, {"city": "wels"}, {}]):
        path = tmp_path / "logs" / f"{number}.json"
        path.write_text("\n".join(line(n, **more) for n in range(number, number + 5)) + "\n")
        os.utime(path, (START + number,) * 2)
        found = recipe(tmp_path, 'format = "dsjson"\ndays = 2\n')
        read.clear()
        kept = generate(found, Folder(str(tmp_path / "data"))).verify()
        assert set(read) == {f"{number}.json"}
        assert_same(kept, generate(found, Folder(str(tmp_path / f"fresh-{number}"))))
    assert kept.spec.user_features == ("User.age", "User.city=wels")


def test_another_recipe_takes_no_days(tmp_path):
    arrive(tmp_path, 0, decisions(20, 0))
    night(tmp_path, COLUMNS, "data")
    arrive(tmp_path, 1, decisions(20, 1))
    _, read = night(tmp_path, COLUMNS.replace('"age", ', ""), "data")
    assert read == {"00.parquet", "01.parquet"}
    os.utime(tmp_path / "logs" / "01.parquet", (START, START))  # written again
    _, read = night(tmp_path, COLUMNS.replace('"age", ', ""), "data")
    assert read == {"01.parquet"}


def test_a_session_stays_held_out_as_long_as_its_day_is_there(tmp_path):
    held: list[dict[int, bool]] = []
    for number in range(4):
        arrive(tmp_path, number, decisions(200, number, news=False))
        dataset, _ = night(tmp_path, "days = 2\n" + COLUMNS, "data")
        rows = dataset.read()
        held.append(
            dict(zip(rows.episode.tolist(), dataset.hold_out.mask(rows).tolist(), strict=True))
        )
    for before, after in pairwise(held):
        both = set(before) & set(after)
        assert len(both) >= 200 or number == 1
        assert all(before[episode] == after[episode] for episode in both)
    assert 0.1 < np.mean(list(held[-1].values())) < 0.3


@pytest.mark.parametrize("held_out", ["", 'held_out = "last"\n'])
def test_training_logs_take_the_days_of_earlier_ones(tmp_path, held_out, monkeypatch):
    monkeypatch.setattr(publish, "PART_ROWS", 20)
    text = held_out + COLUMNS + 'time = "t"\n'
    links = []
    for number in range(7):
        rows = decisions(50, 0, news=False).assign(t=np.arange(50) + 1_000 * number)
        arrive(tmp_path, number, rows)
        dataset, _ = night(tmp_path, text, "data")
        name = f"shop.{number}"
        kept = training_logs(dataset, Folder(str(tmp_path / "training" / name))).verify()
        fresh = training_logs(dataset, Folder(str(tmp_path / f"fresh-{number}" / name)))
        assert (kept.digest, kept.parts) == (fresh.digest, fresh.parts)
        every = dataset.read()
        np.testing.assert_array_equal(
            kept.read().episode, every.episode[~dataset.hold_out.mask(every)]
        )
        links.append([Path(kept.path, part.path).stat().st_nlink for part in kept.parts])
    taken = np.array([link > 1 for link in links[-1]])
    # By a hash all days except the last; the last fifth of 350 rows begins in the sixth
    days = np.array([[day.key for day in dataset.days].index(part.day) for part in kept.parts])
    assert taken[days < (5 if held_out else 6)].all()
    assert not taken[days == 6].any()
