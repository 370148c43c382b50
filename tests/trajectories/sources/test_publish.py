"""Datasets of own logs: equal for any division into files, whole after a kill, found again."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slateflow.errors import InputError
from slateflow.trajectories import Dataset, Encoding, Folder, generate
from slateflow.trajectories.files.dataset import MANIFEST
from slateflow.trajectories.held_out import training_logs
from slateflow.trajectories.sources import order, publish
from tests.object_store import object_store
from tests.trajectories.sources.shop import log, published, recipe

COLUMNS = """
[columns]
user = ["age", "country"]
candidates = "offered"
episode = "session"
time = "t"
policy = "bucket"
"""


def table(rows: int, seed: int = 0) -> pd.DataFrame:
    """Decisions of sessions of several steps, in random order."""
    rng = np.random.default_rng(seed)
    offered = [rng.permutation(9)[:count].tolist() for count in rng.integers(2, 7, rows)]
    session = rng.integers(0, rows // 3 + 1, rows)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 80, rows),
            "country": rng.choice(["at", "de", "fr"], rows),
            "session": [f"s{number}" for number in session],
            "t": rng.permutation(rows),
            "bucket": np.where(session % 2, "a", "b"),
            "offered": offered,
            "item": [rng.choice(one) for one in offered],
            "propensity": [1 / len(one) for one in offered],
            "reward": rng.integers(0, 2, rows),
        }
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Dataset:
    """All rows from one file."""
    folder = tmp_path_factory.mktemp("whole")
    log(folder, "a.parquet", table(100))
    return published(folder, COLUMNS)


def test_rows_are_those_of_a_plain_loop_over_the_table(whole):
    frame, rows = table(100), whole.read()
    begins = frame.groupby("session")["t"].min().sort_values()
    number = {session: place for place, session in enumerate(begins.index)}
    wanted = sorted(
        frame.to_dict("records"), key=lambda row: (row["bucket"], number[row["session"]], row["t"])
    )
    for place, row in enumerate(wanted):
        assert rows.episode[place] == rows.episode.min() + number[row["session"]]
        offered = rows.candidates[place][: rows.offered[place]]
        assert [whole.encoding.items[item] for item in offered] == [
            str(one) for one in row["offered"]
        ]
        assert str(row["item"]) == whole.encoding.items[offered[rows.slate[place, 0]]]
        country = [float(row["country"] == name) for name in ("at", "de", "fr")]
        assert rows.user[place].tolist() == [row["age"], *country]
        assert rows.reward[place] == row["reward"]


def sessions(dataset: Dataset) -> list[tuple]:
    """The sorted sessions, each with its policy and all values of its rows but the number."""
    found = []
    for part, rows in zip(dataset.parts, dataset.iter_parts(), strict=True):
        columns = [v.tolist() for name, v in rows.columns().items() if name != "episode"]
        steps = [tuple(map(str, step)) for step in zip(*columns, strict=True)]
        ends = [*rows.starts.tolist(), len(rows)]
        found += [(part.policy, *steps[start:stop]) for start, stop in pairwise(ends)]
    return sorted(found)


@settings(max_examples=15)
@given(cuts=st.sets(st.integers(1, 99), max_size=6), size=st.sampled_from([7, 50, 1000]))
def test_any_split_into_files_gives_the_same_sessions(whole, cuts, size, tmp_path_factory):
    folder, frame = tmp_path_factory.mktemp("split"), table(100)
    edges = [0, *sorted(cuts), 100]
    for number, (start, stop) in enumerate(pairwise(edges)):
        log(folder, f"{number}.parquet", frame[start:stop].to_dict("list"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "MOST_FILES", 3)
        patch.setattr(publish, "PART_ROWS", size)
        dataset = published(folder, COLUMNS)
    assert sessions(dataset) == sessions(whole)
    numbers = [number for rows in dataset.iter_parts() for number in rows.episode[rows.starts]]
    assert len(set(numbers)) == len(numbers) == whole.episodes


@pytest.mark.parametrize("days", [None, 2])
def test_sessions_keep_their_numbers_whatever_other_files_come(tmp_path, days):
    """Later files, even those that sort before the first, leave its numbers unchanged."""
    keys = COLUMNS if days is None else f"days = {days}\n{COLUMNS}"

    def kept(*names):
        folder = tmp_path / " ".join(names)
        folder.mkdir()
        for name in names:
            frame = table(60, seed=int(name[4:]))
            log(folder, f"{name}.parquet", frame.assign(session=name + frame["session"]))
        dataset = published(folder, keys)
        rows = dataset.read()
        held = dataset.hold_out.mask(rows)
        return set(zip(map(tuple, rows.user.tolist()), rows.episode, held, strict=True))

    before = kept("day-9")
    assert any(held for *_, held in before)
    assert before < kept("day-10", "day-9")
    assert before < kept("day-1", "day-9")


def test_rows_that_are_in_order_pass_through_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "PART_ROWS", 30)
    frame = table(100)
    log(tmp_path, "a.parquet", frame[:45].to_dict("list"))
    log(tmp_path, "b.parquet", frame[45:].to_dict("list"))
    dataset = published(tmp_path, '[columns]\ncandidates = "offered"\nuser = ["age"]')
    assert [part.rows for part in dataset.parts] == [30, 15, 30, 25]  # a day begins a part
    assert dataset.read().user[:, 0].tolist() == frame["age"].tolist()
    sessions = table(100).sort_values(["bucket", "session", "t"])
    assert sessions["session"].nunique() < 100


def test_an_interrupted_run_keeps_its_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "PART_ROWS", 20)
    log(tmp_path, "a.parquet", table(100))
    dataset = published(tmp_path, COLUMNS)
    parts = [Path(dataset.path) / part.path for part in dataset.parts]
    (Path(dataset.path) / MANIFEST).unlink()
    parts[1].unlink()
    parts[2].write_bytes(b"half")
    times = {part: part.stat().st_mtime_ns for part in (parts[0], *parts[3:])}
    again = published(tmp_path, COLUMNS)
    assert again.digest == dataset.digest
    assert {part: part.stat().st_mtime_ns for part in times} == times


def test_a_published_dataset_is_found_again_and_never_changes(tmp_path):
    log(tmp_path, "a.parquet", table(50))
    first = published(tmp_path, COLUMNS)
    manifest = Path(first.path) / MANIFEST
    before = manifest.stat().st_mtime_ns
    assert published(tmp_path, COLUMNS).digest == first.digest
    assert manifest.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="found one with other columns; a published dataset never"):
        published(tmp_path, COLUMNS.replace('"age", ', ""))


def test_progress_is_by_part(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "PART_ROWS", 20)
    log(tmp_path, "a.parquet", table(100))
    seen: list[tuple[int, int]] = []
    data = Folder(str(tmp_path / "data"))
    dataset = generate(
        recipe(tmp_path, COLUMNS), data, progress=lambda done, total: seen.append((done, total))
    )
    count = len(dataset.parts)
    assert seen == [(done, count) for done in range(1, count + 1)]


def test_the_encoding_makes_the_features_that_the_logs_have(whole):
    encoding = Dataset.open(whole.path).encoding
    assert encoding == whole.encoding == Encoding.from_dict(whole.encoding.to_dict())
    frame = table(100)
    features = encoding.user_features({"age": frame["age"], "country": frame["country"]})
    assert features.dtype == np.float32
    by_row = {tuple(row) for row in whole.read().user.tolist()}
    assert {tuple(row) for row in features.tolist()} == by_row
    unknown = encoding.user_features({"country": ["nl"], "age": [30.5]})
    assert unknown.tolist() == [[30.5, 0, 0, 0]]
    assert encoding.item_numbers(["8", "0", "9", "x"]).tolist() == [8, 0, -1, -1]
    assert encoding.item_numbers(np.array([8, 11])).tolist() == [8, -1]
    with pytest.raises(InputError, match="user: expected the columns age, country, got none named"):
        encoding.user_features({"age": [1]})
    with pytest.raises(InputError, match="age: expected numbers"):
        encoding.user_features({"age": ["old"], "country": ["at"]})


def test_training_logs_leave_the_held_out_sessions_out(whole, tmp_path):
    training = training_logs(whole, Folder(str(tmp_path / "training"))).verify()
    rows = whole.read()
    held = whole.hold_out.mask(rows)
    assert 0 < held.sum() < len(rows)
    assert training.read().episode.tolist() == rows.episode[~held].tolist()
    assert training.encoding == whole.encoding
    inner = training.read()
    assert training.hold_out.mask(inner).any()  # a choice among trainings needs some


@pytest.mark.integration
def test_logs_are_read_from_an_object_store_and_published_there(whole, tmp_path):
    with object_store("shop") as url:
        source, frame = Folder(f"{url}/logs"), table(100)
        for number, rows in enumerate((frame[:30], frame[30:])):
            sink = io.BytesIO()
            rows.to_parquet(sink)
            source.write(f"2026/{number}.parquet", sink.getvalue())
        items = '[items]\nfile = "items.csv"\nid = "id"\n'
        Folder(url).write("items.csv", ("id\n" + "\n".join(map(str, range(9)))).encode())
        for text in (COLUMNS, COLUMNS + items.replace("items.csv", f"{url}/items.csv")):
            found = recipe(tmp_path, text, source=f"{url}/logs/**/*.parquet")
            dataset = generate(found, Folder(f"{url}/data-{len(text)}"))
            assert Dataset.open(dataset.path).verify().rows == 100
            assert sessions(dataset) == sessions(whole)
