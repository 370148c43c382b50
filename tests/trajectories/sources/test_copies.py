"""Copies of a file in another form, and genuine days that are similar."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from slateflow.errors import InputError
from slateflow.trajectories import Folder, generate
from slateflow.trajectories.sources.planning import reader_of
from slateflow.trajectories.sources.survey import Survey
from tests.trajectories.sources.shop import log, published, recipe

COLUMNS = """[columns]
user = ["age", "score", "member", "city"]
candidates = "offered"
episode = "session"
time = "at"
"""
ROWS = 150


def decisions(seed: int = 0) -> pd.DataFrame:
    """Sessions of two steps; the first city is missing, and others look like numbers."""
    rng = np.random.default_rng(seed)
    offered = [rng.permutation(9)[: 2 + row % 3].tolist() for row in range(ROWS)]
    city = rng.choice(["graz", "wels", "8010", "01067"], ROWS).astype(object)
    city[0] = None
    return pd.DataFrame(
        {
            "age": rng.integers(18, 80, ROWS),
            "score": rng.random(ROWS).astype(np.float32),
            "member": rng.random(ROWS) < 0.5,
            "city": city,
            "session": [f"s{row // 2}" for row in range(ROWS)],
            "at": pd.Timestamp("2026-11-30") + pd.to_timedelta(np.arange(ROWS), "min"),
            "offered": offered,
            "item": [one[0] for one in offered],
            "propensity": [1 / len(one) for one in offered],
            "reward": rng.integers(0, 2, ROWS),
        }
    )


def as_csv(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with lists in CSV's form."""
    joined = rows.offered.map(lambda ids: "|".join(map(str, ids)))
    return rows.assign(offered=joined)


def shuffled(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sample(frac=1, random_state=0)


Writes = Callable[[pd.DataFrame, Path], object]

FORMS: dict[str, tuple[str, Writes]] = {
    "packed": ("b.csv.gz", lambda rows, path: as_csv(rows).to_csv(path, index=False)),
    "shuffled": ("b.csv", lambda rows, path: as_csv(shuffled(rows)).to_csv(path, index=False)),
    "columns": ("b.csv", lambda rows, path: as_csv(rows[rows.columns[::-1]]).to_csv(path)),
    "parquet": ("b.parquet", lambda rows, path: rows.to_parquet(path)),
    "compressed": ("b.parquet", lambda rows, path: rows.to_parquet(path, compression="zstd")),
    "types": (
        "b.parquet",
        lambda rows, path: (
            shuffled(rows)
            .assign(
                age=rows.age.astype(float),
                score=rows.score.astype(float),
                member=rows.member.map({True: "True", False: "False"}),
                city=rows.city.astype("category"),
                reward=rows.reward > 0,
                offered=rows.offered.map(lambda ids: [str(one) for one in ids[::-1]]),
            )
            .to_parquet(path)
        ),
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("first", ["a.csv", "a.parquet"])
def test_a_copy_in_another_form(tmp_path, form, first):
    name, write = FORMS[form]
    rows, logs = decisions(), tmp_path / "logs"
    logs.mkdir()
    if first.endswith(".csv"):
        as_csv(rows).to_csv(logs / first, index=False)
    else:
        rows.to_parquet(logs / first)
    write(rows, logs / name)
    with pytest.raises(InputError) as caught:
        generate(recipe(tmp_path, COLUMNS), Folder(str(tmp_path / "data")))
    assert str(caught.value) == (
        f"{logs}/{name}: expected each file's logs once, got the rows of {first}; "
        "move one of the two away"
    )
    assert not list((tmp_path / "data").glob("*"))


def content(folder: Path, rows: pd.DataFrame, text: str) -> str:
    """The digest of the rows of a file."""
    log(folder, "a.parquet", rows.to_dict("list"))
    return Survey.of(reader_of(recipe(folder, text))).facts.content


SLATES = '[columns]\nuser = ["x", "y", "v"]\nclicked = "clicked"\n'


def slates() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "x": rng.integers(0, 9, ROWS),
            "y": rng.integers(0, 9, ROWS),
            "v": rng.random((ROWS, 2)).tolist(),
            "item": [rng.permutation(4)[:2].tolist() for _ in range(ROWS)],
            "propensity": 1 / 12,
            "clicked": rng.integers(-1, 2, ROWS),
            "reward": rng.random(ROWS),
        }
    )


def test_rows_that_differ_in_one_way(tmp_path):
    rows = slates()
    changed = {
        "one reward": rows.assign(reward=[0.5, *rows.reward[1:]]),
        "the pairing": rows.assign(x=np.roll(rows.x, 1)),
        "two columns, one for the other": rows.rename(columns={"x": "y", "y": "x"}),
        "places of a slate": rows.assign(item=rows["item"].map(lambda ids: ids[::-1])),
        "places of a vector": rows.assign(v=rows.v.map(lambda values: values[::-1])),
        "one row twice for another": rows.iloc[[1, *range(1, ROWS)]],
        "one row less": rows[1:],
        "all rows twice": pd.concat([rows, rows]),
    }
    known = {content(tmp_path, one, SLATES) for one in (rows, *changed.values())}
    assert len(known) == 1 + len(changed)
    assert "" not in known
    assert content(tmp_path, shuffled(rows), SLATES) in known


def test_two_days_of_a_little_shop(tmp_path):
    """All kinds of rows are equally frequent on both days, in a different order."""
    kinds = [(seg, item, reward) for seg in "uv" for item in "ab" for reward in (0, 1)]
    day = pd.DataFrame(kinds * 13, columns=["seg", "item", "reward"]).assign(propensity=0.5)
    for name, rows in (("monday", day), ("tuesday", shuffled(day))):
        log(tmp_path, f"{name}.csv", rows.to_csv(index=False))
    text = '[columns]\nuser = ["seg"]\n'
    assert published(tmp_path, text).rows == 208
    log(tmp_path, "wednesday.csv", day.to_csv(index=False))
    with pytest.raises(InputError, match=r"wednesday\.csv: .* got the bytes of monday\.csv"):
        generate(recipe(tmp_path, text), Folder(str(tmp_path / "data")))


@pytest.mark.parametrize(("kinds", "refused"), [(19, False), (20, True)])
def test_so_many_different_rows_are_no_chance(tmp_path, kinds, refused):
    day = pd.DataFrame({"seg": [f"s{row % kinds}" for row in range(100)], "item": ["a", "b"] * 50})
    day = day.assign(item=["ab"[row % kinds % 2] for row in range(100)], propensity=0.5, reward=0)
    assert len(day.drop_duplicates()) == kinds
    for name, rows in (("monday", day), ("tuesday", shuffled(day))):
        log(tmp_path, f"{name}.csv", rows.to_csv(index=False))
    text = '[columns]\nuser = ["seg"]\n'
    if refused:
        with pytest.raises(InputError, match="got the rows of monday"):
            published(tmp_path, text)
    else:
        assert published(tmp_path, text).rows == 200


def line(number: int, event: object = None) -> str:
    """A decision between two actions as dsjson, with its number among the user's features."""
    document = {
        "_label_cost": -(number % 2), "_label_probability": 0.5, "_label_Action": 1,
        "Timestamp": f"2026-11-30T00:00:{number:02d}Z", "EventId": event, "a": [1, 2],
        "p": [0.5, 0.5],
        "c": {"User": {"n": number}, "_multi": [{"i": {"id": "a"}}, {"i": {"id": "b"}}]},
    }  # fmt: skip
    return json.dumps(document)


def decided(numbers: range | list[int]) -> str:
    """Decisions with these numbers, which are their ids."""
    return "\n".join(line(number, f"e{number}") for number in numbers)


DSJSON = 'format = "dsjson"\n'


def test_decisions_that_were_delivered_twice_in_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("slateflow.trajectories.sources.dsjson.BATCH_LINES", 4)
    numbers = [0, 1, 2, 1, 3, 0, 0, 4, 5, 2]
    log(tmp_path, "a.json", decided(numbers))
    assert published(tmp_path, DSJSON).read().user[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_decisions_without_an_id_are_all_taken(tmp_path):
    log(tmp_path, "a.json", "\n".join([*map(line, [1, 1, 2]), line(3, ""), line(3, "")]))
    log(tmp_path, "b.json", "\n".join(map(line, [1, 1])))
    found = published(tmp_path, DSJSON).read().user[:, 0].tolist()
    assert found == [1, 1, 2, 3, 3, 1, 1]


@pytest.mark.parametrize("held_out", ["", 'held_out = "last"\n'])
@pytest.mark.parametrize("days", ["", "days = 9\n"])
@pytest.mark.parametrize("come", ["abc", "cba", "bac"])
def test_decisions_that_were_delivered_in_two_files(tmp_path, held_out, days, come):
    """Such decisions count in the first file in any order of arrival; old days are reused."""
    files = {"a": [0, 1, 2, 3, 3], "b": [2, 3], "c": [1, 4, 3, 5]}
    text = DSJSON + held_out + days
    for name in come:
        log(tmp_path, f"{name}.json", decided(files[name]))
        kept = published(tmp_path, text)
    rows = kept.read()
    assert sorted(rows.user[:, 0].tolist()) == [0, 1, 2, 3, 4, 5]
    assert len(np.unique(rows.episode)) == 6
    assert [sum(part.rows for part in kept.parts if part.day == day.key) for day in kept.days] == (
        [4, 0, 2] if not held_out else [4, 2, 0]
    )
    fresh = generate(recipe(tmp_path, text), Folder(str(tmp_path / "fresh")))
    assert (fresh.digest, fresh.parts) == (kept.digest, kept.parts)


def visits(rows: int, first: int = 0, *, minutes: float = 1.0) -> pd.DataFrame:
    """Single decisions on few items, of users with one coarse column."""
    rng = np.random.default_rng([first, rows])
    return pd.DataFrame(
        {
            "country": rng.choice(["at", "de", "fr"], rows),
            "at": pd.Timestamp("2026-11-30")
            + pd.to_timedelta((first + np.arange(rows)) * minutes // 1, "min"),
            "item": rng.integers(0, 3, rows),
            "propensity": 1 / 3,
            "reward": (rng.random(rows) < 0.2).astype(int),
        }
    )


VISITS = '[columns]\nuser = ["country"]\ntime = "at"\n'
EXPORTS = {"cumulative": [(0, 400), (0, 800), (0, 1200)], "last three": [(0, 600), (200, 800)]}


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_that_overlap_are_refused(tmp_path, name):
    """Counted twice, rows would be held out and trained on."""
    rows = visits(1200)
    for number, (begin, end) in enumerate(EXPORTS[name]):
        log(tmp_path, f"day-{number}.parquet", rows[begin:end])
    share = {"cumulative": "100%", "last three": "[67][0-9]%"}[name]
    with pytest.raises(
        InputError,
        match=rf"day-1.parquet: expected each decision once, got about {share} of its rows, or of "
        r"those of day-0.parquet, in both; give each night's file only that night's decisions",
    ):
        published(tmp_path, VISITS)


def test_a_night_that_overlaps_with_an_earlier_one_is_refused(tmp_path):
    """The facts of the first day come from the earlier dataset."""
    rows = visits(800)
    log(tmp_path, "day-0.parquet", rows[:400])
    assert published(tmp_path, VISITS).rows == 400
    log(tmp_path, "day-1.parquet", rows)
    with pytest.raises(InputError, match=r"about 100% of its rows, or of those of day-0.parquet"):
        published(tmp_path, VISITS)


@pytest.mark.parametrize("minutes", [1.0, 0.005], ids=["other times", "coarse times"])
def test_files_of_other_rows_do_not_overlap(tmp_path, minutes):
    """With 200 decisions a minute many rows of one file are the same, and of two as well."""
    for number in range(3):
        first = number * 800 if minutes == 1.0 else 0
        rows = visits(800 + number, first, minutes=minutes)
        log(tmp_path, f"part-{number}.parquet", rows)
    assert published(tmp_path, VISITS).rows == 2403


@pytest.mark.parametrize(
    ("again", "minutes", "refused"),
    [(0.3, 1.0, "2[0-9]%"), (0.02, 1.0, ""), (0.3, 0.005, "")],
    ids=["a third", "a few", "coarse times"],
)
def test_rows_that_a_file_has_twice(tmp_path, again, minutes, refused):
    """Of 130 rows 30 are copies, which is 23%."""
    rows = visits(2_000, minutes=minutes)
    log(tmp_path, "day.parquet", pd.concat([rows, rows[: int(again * len(rows))]]))
    if not refused:
        assert published(tmp_path, VISITS).rows == int((1 + again) * 2_000)
        return
    with pytest.raises(
        InputError,
        match=rf"day.parquet: expected each decision once, got about {refused} of the rows a "
        r"second time, equal in every column and in time; remove the duplicates",
    ):
        published(tmp_path, VISITS)


def test_customers_who_come_every_day_are_no_overlap(tmp_path):
    """Without a time, a customer's rows of two days may be the same."""
    for number in range(3):
        rows = visits(600, number).drop(columns="at")
        log(tmp_path, f"day-{number}.parquet", rows.assign(country=np.arange(600)))
    assert published(tmp_path, '[columns]\nuser = ["country"]\n').rows == 1800


def test_sessions_without_times_that_are_exported_again_are_refused(tmp_path):
    """Each session would be followed by its copy, as if it had twice as many steps."""
    rows = visits(1200).drop(columns="at").assign(session=np.arange(1200) // 4)
    rows["country"] = np.random.default_rng(1).integers(0, 50, 1200)
    log(tmp_path, "day-0.parquet", rows[:800])
    log(tmp_path, "day-1.parquet", rows)
    with pytest.raises(InputError, match=r"day-1.parquet: expected .* once, got about 100%"):
        published(tmp_path, '[columns]\nuser = ["country"]\nepisode = "session"\n')
