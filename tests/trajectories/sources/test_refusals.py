"""A misfit in a log is named by file, row and column, and leaves nothing behind."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from slateflow.errors import InputError
from slateflow.trajectories import Folder, generate
from slateflow.trajectories.sources import column_files, publish
from slateflow.trajectories.sources.files import find_files
from tests.trajectories.sources.shop import log, recipe

GOOD = "user,item,offered,propensity,reward,clicked,session,t"
ROWS = [
    "1.5,a,a|b,0.5,1,,s,1",
    "2.5,b,a|b,0.5,0,,s,2",
    "3.5,a,a|b|c,0.25,0,,r,3",
    "4.5,c,b|c,0.5,1,,r,4",
]
ALL = '[columns]\nuser = ["user"]\ncandidates = "offered"\nepisode = "session"\ntime = "t"\n'


def csv(*rows: str) -> str:
    return "\n".join([GOOD, *rows])


def refusal(folder, text: str) -> str:
    """The error of generation, after which nothing of the dataset remains."""
    data = folder / "data"
    with pytest.raises(InputError) as caught:
        generate(recipe(folder, text), Folder(str(data)))
    assert not data.exists() or not list(data.iterdir())
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_only_item_on_offer_is_certain(tmp_path):
    rows = [{"item": "a", "offered": ["a"], "propensity": 1 - gap} for gap in (0, 1e-4, 0.5)]
    rows.insert(0, {"item": "b", "offered": ["a", "b"], "propensity": 0.5})
    frame, text = pd.DataFrame(rows).assign(reward=1), '[columns]\ncandidates = "offered"\n'
    log(tmp_path, "a.parquet", frame.to_dict("list"))
    expected = "propensity: expected 1, as the row offers one item, got 0.5; correct the log"
    assert f"a.parquet: row 4: {expected}" in refusal(tmp_path, text)
    log(tmp_path, "a.parquet", frame[:3].to_dict("list"))
    assert generate(recipe(tmp_path, text), Folder(str(tmp_path / "data"))).rows == 3


DISTINCT = "a text, or a whole number of a type that has all its digits, such as int64"
DATED = (
    "numbers, texts or lists of numbers; a date as a number, such as days, or as a text named in "
    "`categories`"
)
TRAPS = {
    "propensity above one": ("3.5,a,a|b|c,1.5,0,,r,3", "propensity: expected a probability"),
    "propensity of zero": ("3.5,a,a|b|c,0,0,,r,3", "propensity: expected a probability in (0, 1]"),
    "no propensity": ("3.5,a,a|b|c,,0,,r,3", "propensity: expected a probability in (0, 1], got "
    "none"),
    "a propensity whose square is no number": ("3.5,a,a|b|c,1e-150,0,,r,3", "propensity: expected "
    "a probability of 1e-100 or more, got 1e-150"),
    "a list with an end": ("3.5,a,a|b|,0.25,0,,r,3", "offered: expected ids without a gap"),
    "a text for a propensity": ("3.5,a,a|b|c,often,0,,r,3", "(0, 1], got often"),
    "not a number": ("3.5,a,a|b|c,nan,0,,r,3", "(0, 1], got none"),
    "no reward": ("3.5,a,a|b|c,0.25,,,r,3", "reward: expected a number, got none"),
    "an infinite reward": ("3.5,a,a|b|c,0.25,1e999,,r,3", "reward: expected a finite number"),
    "a reward beyond float32": ("3.5,a,a|b|c,0.25,1e60,,r,3", "reward: expected a number within "
    "±3.4e38, the range of float32, got 1e60"),
    "a user beyond float32": ("-1e60,a,a|b|c,0.25,0,,r,3", "user: expected a number within "
    "±3.4e38, the range of float32, got -1e+60"),
    "shown but not offered": ("3.5,d,a|b|c,0.25,0,,r,3", "item: expected an item among the "
    "candidates"),
    "offered twice": ("3.5,a,a|b|a,0.25,0,,r,3", "offered: expected each id once in a row"),
    "an id is missing": ("3.5,a,,0.25,0,,r,3", "offered: expected a value, got none"),
    "a text among numbers": ("old,a,a|b|c,0.25,0,,r,3", "user: expected numbers such as 1234.5, as "
    "in most rows, or the column's name in `categories`, got old"),
    "no user": (",a,a|b|c,0.25,0,,r,3", "user: expected a number in every row; a column of its own "
    "may say where there was none, got none"),
    "two rows at one time": ("3.5,a,a|b|c,0.25,0,,r,4", "t: expected one row of a session at a "
    "time"),
    "a session is missing": ("3.5,a,a|b|c,0.25,0,,,3", "session: expected a value"),
    "a time of more than 64 bits": ("3.5,a,a|b|c,0.25,0,,r,99999999999999999999", "t: expected a "
    "number from −2^63 to below 2^63, got 99999999999999999999"),
    "no time": ("3.5,a,a|b|c,0.25,0,,r,late", "30:00Z, or a number, got late"),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAPS)
def test_a_row_that_does_not_fit(tmp_path, name):
    row, expected = TRAPS[name]
    log(tmp_path, "a.csv", csv(*ROWS[:1]))
    log(tmp_path, "b.csv", csv(ROWS[1], row, ROWS[3]))
    message = refusal(tmp_path, ALL)
    place = "row 3" if name == "two rows at one time" else "row 2"  # the later of the two
    assert f"logs/b.csv: {place}: {expected}" in message or (
        f"logs/b.csv: {place}: " in message and expected in message
    )


@pytest.mark.parametrize("wrong", ["2026-02-30", "28.11.2026", "9 o'clock"])
def test_the_row_whose_time_is_none_is_named(tmp_path, wrong):
    times = ["2026-11-27T09:30:00Z", "2026-11-28 09:30", wrong, "2026-11-29"]
    rows = [f"a,0.5,1,{time}\n" for time in times]
    log(tmp_path, "a.csv", "item,propensity,reward,at\n" + "".join(rows))
    message = refusal(tmp_path, '[columns]\ntime = "at"\n')
    expected = "expected a point in time, such as 2026-11-28T09:30:00Z, or a number"
    assert f"logs/a.csv: row 3: at: {expected}, got {wrong};" in message


def test_rows_of_a_session_that_nanoseconds_tell_apart(tmp_path):
    times = pd.to_datetime([1_790_000_000_000_000_100, 1_790_000_000_000_000_200])
    log(tmp_path, "a.parquet", {"item": "a", "propensity": 0.5, "reward": 1, "s": 1, "at": times})
    assert (
        "a.parquet: row 2: at: expected one row of a session at a time, points in time to the "
        "microsecond, got another at the same one"
    ) in refusal(tmp_path, '[columns]\nepisode = "s"\ntime = "at"\n')


@pytest.mark.parametrize("name", ["csv", "parquet", "one parquet"])
@pytest.mark.parametrize("zones", [("-05:00", ""), ("", "Z")])
def test_times_with_and_without_a_zone(tmp_path, monkeypatch, name, zones):
    times = [f"2026-01-0{day}T00:10:00{zone}" for day, zone in enumerate(zones, 1)]
    monkeypatch.setattr(column_files, "BATCH_ROWS", 1)
    base = {"item": "a", "propensity": 0.5, "reward": 1.0}
    if name == "one parquet":
        log(tmp_path, "a.parquet", {**base, "at": times})
    for file, time in zip("ab", times, strict=True):
        if name == "csv":
            log(tmp_path, f"{file}.csv", f"item,propensity,reward,at\na,0.5,1,{time}\n")
        elif name == "parquet":
            log(tmp_path, f"{file}.parquet", {**base, "at": pd.to_datetime([time])})
    kind = "without" if zones[1] else "with"
    place = {"csv": "b.csv: row 1", "parquet": "b.parquet: row 1"}.get(name, "a.parquet: row 2")
    expected = f"at: expected points in time {kind} a time zone, as in rows before, got 2026-01-02"
    assert f"{place}: {expected}" in refusal(tmp_path, '[columns]\ntime = "at"\n')


def test_an_item_that_the_catalogue_lacks(tmp_path):
    log(tmp_path, "a.csv", csv(*ROWS))
    (tmp_path / "items.csv").write_text("id,price\na,1\nb,2\n")
    items = '[items]\nfile = "items.csv"\nid = "id"\nfeatures = ["price"]\n'
    message = refusal(tmp_path, ALL + items)
    assert (
        "logs/a.csv: row 3: offered: expected an id from the catalogue of 2, or in the recipe "
        "unknown_items = \"zeros\", got 'c'; correct the log and try again"
    ) in message
    (tmp_path / "items.csv").write_text("id,price\na,1\nb,2\na,3\n")
    assert "items.csv: row 3: id: expected each id once, got a" in refusal(tmp_path, ALL + items)


@pytest.mark.parametrize("name", ["item", "offered"])
def test_texts_of_parquet_that_should_be_lists(tmp_path, name):
    row = {"item": ["a"], "offered": [["a", "b"]], "propensity": 1, "reward": 1}
    log(tmp_path, "a.parquet", {**row, name: ["a|b"]})
    (tmp_path / "items.csv").write_text("id,price\na,1\nb,2\n")
    items = '[items]\nfile = "items.csv"\nid = "id"\nfeatures = ["price"]\n'
    message = refusal(tmp_path, f'[columns]\ncandidates = "offered"\n{items}')
    expected = "expected an id from the catalogue of 2, several of them as a list, or in the recipe"
    assert f"a.parquet: row 1: {name}: {expected}" in message
    assert "got 'a|b';" in message


def test_slates_that_do_not_fit(tmp_path):
    clicked = '[columns]\ncandidates = "offered"\nclicked = "clicked"\n'
    for row, expected in [
        ("1,a|a,a|b|c,0.5,0,,s,1", "row 2: item: expected different items in a slate"),
        ("1,a,a|b|c,0.5,0,,s,1", "row 2: item: expected 2 ids, as in the first row"),
        ("1,a|b,a|b|c,0.5,0,2,s,1", "row 2: clicked: expected a place from 0 to 1"),
        ("1,a|b,a|b|c,0.5,0,x,s,1", "row 2: clicked: expected a place in the slate"),
        ("1,a|b,a|b|c,0.5,0,0.5,s,1", "row 2: clicked: expected a place in the slate"),
        ("1,a|b,a|b|c,0.5,0,3e9,s,1", "row 2: clicked: expected a place in the slate"),
    ]:
        log(tmp_path, "a.csv", csv("1,a|b,a|b|c,0.5,0,0,s,1", row))
        assert expected in refusal(tmp_path, clicked)
    log(tmp_path, "a.csv", csv("1,a|b,a|b|c,0.5,0,0,s,1"))
    message = refusal(tmp_path, '[columns]\ncandidates = "offered"\n')
    assert message.startswith("clicked: expected the clicked place of slates of 2, got no column")


def test_parquet_that_does_not_fit(tmp_path):
    frame = {"age": [1, 2], "item": ["a", "b"], "propensity": [0.5, 0.5], "reward": [0.0, 1.0]}
    for changed, expected in [
        ({"age": [1.0, float("inf")]}, "row 2: age: expected finite numbers, got inf"),
        ({"age": [1.0, None]}, "row 2: age: expected"),
        ({"age": [[1.0], [1.0, 2.0]]}, "row 2: age: expected lists of 1 finite numbers"),
        ({"reward": [0.0, None]}, "row 2: reward: expected"),
        ({"propensity": ["a half", "0.5"]}, "row 1: propensity: expected a probability"),
        ({"item": [0.5, 1.0]}, "row 1: item: expected a text or a whole number, got 0.5"),
        ({"item": [1.0, 2.5]}, "row 2: item: expected a text or a whole number, got 2.5"),
        ({"item": [1.0, 1e19]}, "row 2: item: expected a text or a whole number, got 1e+19"),
        ({"item": [[1.0], [2.5]]}, "row 2: item: expected a text or a whole number, got 2.5"),
        ({"item": [b"a", b"b"]}, "row 1: item: expected a text or a whole number, got"),
        ({"item": pd.to_datetime([1, 2])}, "row 1: item: expected a text or a whole number, got"),
        ({"item": [1.0, 2.0**53]}, f"row 2: item: expected {DISTINCT}, got 9007199254740992.0"),
        ({"item": np.float32([3, 2**24])}, f"row 2: item: expected {DISTINCT}, got 16777216.0"),
        ({"age": pd.to_datetime([1, 2])}, f"row 1: age: expected {DATED}, got 1970-01-01"),
        ({"age": [None, "2026-11-28"]}, f"row 2: age: expected {DATED}, got 2026-11-28"),
        ({"item": [["a"], [None]]}, "row 2: item: expected ids without a gap, got none"),
        ({"age": [np.zeros(0)] * 2}, "row 1: age: expected lists of one or more numbers, got []"),
        ({"age": [[1.0], []]}, "row 2: age: expected lists of one or more numbers, got []"),
    ]:
        log(tmp_path, "a.parquet", {**frame, **changed})
        assert f"a.parquet: {expected}" in refusal(tmp_path, '[columns]\nuser = ["age"]\n')
    log(tmp_path, "a.parquet", {**frame, "t": np.array([1, 2**63], np.uint64)})
    expected = "row 2: t: expected a number from −2^63 to below 2^63, got 9223372036854775808"
    assert f"a.parquet: {expected}" in refusal(tmp_path, '[columns]\ntime = "t"\n')
    log(tmp_path, "a.parquet", frame)
    log(tmp_path, "b.parquet", {**frame, "age": ["old", "young"]})
    message = refusal(tmp_path, '[columns]\nuser = ["age"]\n')
    assert "b.parquet: row 1: age: expected a number, as in rows or files before, got" in message
    assert "got the text 'old'; correct the log" in message


@pytest.mark.parametrize("column", ["item", "offered"])
@pytest.mark.parametrize("written", ["['a', 'b']", "[1, 2]", "[1 2]", "[7]", "[]"])
def test_a_list_of_csv_in_brackets(tmp_path, column, written):
    row = {"item": "a", "offered": "a|b", "propensity": "0.5", "reward": "0"}
    rows = [row, row, row | {column: f'"{written}"'}]
    log(tmp_path, "a.csv", "\n".join([",".join(row), *(",".join(one.values()) for one in rows)]))
    assert (
        f"a.csv: row 3: {column}: expected an id, or a list written a|b|c, got {written}; correct"
    ) in refusal(tmp_path, '[columns]\ncandidates = "offered"\n')


def test_a_click_beyond_the_first_place_of_a_single_item(tmp_path):
    log(tmp_path, "a.csv", "item,propensity,reward,clicked\na,0.5,0,0\nb,0.5,1,1")
    assert (
        "row 2: clicked: expected 0 or nothing, as a row has one item; slates are lists, in CSV "
        "a|b|c, got 1; correct the log"
    ) in refusal(tmp_path, '[columns]\nclicked = "clicked"\n')


AS_ELSEWHERE = "expected 1, as elsewhere (from pandas by the type Int64), got 1.0; correct"


@pytest.mark.parametrize(
    ("lists", "place"),
    [
        ({"a": ["2,2|1", "1,2|1"], "b": ["2,2|1", "1.0,2|1.0"]}, "b.csv: row 2: item"),
        ({"a": ["2,2|1", "2,2|3", "2,2|3|1.0"], "b": ["2,2"]}, "a.csv: row 3: offered"),
    ],
)
def test_an_id_that_is_written_in_two_ways(tmp_path, lists, place):
    for name, rows in lists.items():
        lines = [f"{row},{1 if row == '2,2' else 0.5},1" for row in rows]
        log(tmp_path, f"{name}.csv", "\n".join(["item,offered,propensity,reward", *lines]))
    message = refusal(tmp_path, '[columns]\ncandidates = "offered"\n')
    assert f"logs/{place}: {AS_ELSEWHERE}" in message


@pytest.mark.parametrize("unknown", ["refuse", "zeros"])
@pytest.mark.parametrize("in_log", [False, True])
def test_an_id_that_the_file_of_the_items_writes_in_another_way(tmp_path, unknown, in_log):
    ids = ["3,1", "2.0,1.0"]
    logged, listed = ids[::-1] if in_log else ids
    rows = "".join(f"{one},0.5,1\n" for one in logged.split(","))
    log(tmp_path, "a.csv", f"item,propensity,reward\n{rows}")
    rows = "".join(f"{one},3\n" for one in listed.split(","))
    (tmp_path / "items.csv").write_text(f"id,price\n{rows}")
    items = '[items]\nfile = "items.csv"\nid = "id"\nfeatures = ["price"]\n'
    place = "logs/a.csv: row 2: item" if in_log else "items.csv: row 2: id"
    message = refusal(tmp_path, f'unknown_items = "{unknown}"\n{items}')
    assert f"{tmp_path}/{place}: {AS_ELSEWHERE}" in message


def test_two_columns_of_one_name(tmp_path):
    log(tmp_path, "a.csv", "item,propensity,reward,reward\na,0.5,1,0\n")
    assert "a.csv: expected one column reward, got 2; rename the others" in refusal(tmp_path, "")


def test_rows_are_counted_without_the_header(tmp_path):
    log(tmp_path, "a.csv", "item,propensity,reward\na,0.5,1\nb,0.5,1,7\n")
    message = refusal(tmp_path, "")
    assert "Expected 3 columns, got 4" in message
    assert "Row #" not in message  # Arrow names the row where it reads with one thread
    assert "row " not in message or "row 2: Expected" in message


def test_a_file_that_was_copied(tmp_path):
    frame = {
        "item": ["a", "b"] * 100,
        "propensity": 0.5,
        "reward": np.random.default_rng(0).integers(0, 2, 200),
    }
    log(tmp_path, "monday.parquet", frame)
    log(tmp_path, "tuesday.parquet", frame)
    message = refusal(tmp_path, "")
    assert "tuesday.parquet: expected each file's logs once, got the bytes of monday.par" in message
    few = {name: values if name == "propensity" else values[:9] for name, values in frame.items()}
    for name in ("monday", "tuesday"):  # nine rows may be equal by chance
        log(tmp_path, f"{name}.parquet", few)
    assert generate(recipe(tmp_path, ""), Folder(str(tmp_path / "data"))).rows == 18


def test_files_that_are_not_there_or_of_another_kind(tmp_path):
    assert "expected files that end with .parquet, .csv, .csv.gz, found none" in refusal(
        tmp_path, ""
    )
    log(tmp_path, "notes.txt", "hello")
    assert "got notes.txt; move it away or name the files by *" in refusal(tmp_path, "")
    with pytest.raises(InputError, match=r"got notes\.txt; write it as one$"):
        find_files(f"{tmp_path}/logs/notes.txt", (".parquet", ".csv"))
    (tmp_path / "logs" / "notes.txt").unlink()
    log(tmp_path, "a.parquet", "hello")
    assert "a.parquet: expected a Parquet file" in refusal(tmp_path, "")
    (tmp_path / "logs" / "a.parquet").unlink()
    log(tmp_path, "a.csv", "item,propensity\na,0.5\n")
    assert "a.csv: expected a column reward, got item, propensity" in refusal(tmp_path, "")
    log(tmp_path, "a.csv", "item ,propensity,reward\n")
    message = refusal(tmp_path, "")
    assert message.endswith(", got 'item ', propensity, reward; name the columns in the recipe")
    (tmp_path / "logs" / "a.csv").write_bytes("item,reward\nä,1\n".encode("latin-1"))
    assert "a.csv: expected a CSV file in UTF-8 with commas, got " in refusal(tmp_path, "")
    log(tmp_path, "a.csv", "item,propensity,reward\na,1,1\n")
    message = refusal(tmp_path, "[items]\nfile = 'none.csv'\n")
    assert message.startswith(f"items.file {tmp_path}/none.csv: expected files that end with ")
    log(tmp_path, "a.csv", "item,propensity,reward\n")
    assert "a.csv: expected rows, got none" in refusal(tmp_path, "")
    log(tmp_path, "a.csv", "item,propensity,reward\na,0.5\n")
    assert "a.csv: expected a CSV file" in refusal(tmp_path, "")


def test_parts_that_were_written_are_taken_back(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "PART_ROWS", 1)
    rows = [f"{n},a,a|b,0.5,1,,s{n},{n}" for n in range(5)]
    log(tmp_path, "a.csv", csv(*rows, "9,a,a|b,2,0,,z,9"))
    assert "row 6: propensity" in refusal(tmp_path, ALL)
