"""Batch scoring of a Parquet file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.cli.main import main
from tasks import recommend as batch
from tests.registry.published import MODEL_URI, publish_champion

ROWS = 57


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    """The scorer of the champion in a separate registry."""
    folder = tmp_path_factory.mktemp("recommend")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield publish_champion(folder)


@pytest.fixture
def requests(tmp_path):
    """57 requests with ids and 5, 6 or 7 candidates, in row groups of 20."""
    rng = np.random.default_rng(4)
    columns = {
        "id": [f"user {row}" for row in range(ROWS)],
        "user": rng.random((ROWS, 1)).tolist(),
        "candidates": [rng.random((5 + row % 3, 1)).tolist() for row in range(ROWS)],
        "step": rng.integers(0, 120, ROWS).tolist(),
    }
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=20)
    return path, columns


def test_every_row_is_answered_in_order_and_keeps_its_id(scorer, requests, capsys, monkeypatch):
    monkeypatch.setattr(batch, "BATCH_ROWS", 8)
    path, columns = requests
    out = path.with_name("out.parquet")
    assert main(["recommend", "--model", MODEL_URI, str(path), str(out)]) == 0
    assert f"{out}: {ROWS} rows in " in capsys.readouterr().out
    answers = pq.read_table(out)
    assert answers.schema.names == ["id", "slate", "scores", "propensity", "outside"]
    assert answers["id"].to_pylist() == columns["id"]
    for row, answer in enumerate(answers.to_pylist()):
        scores = scorer.scores(
            np.array([columns["user"][row]]),
            np.array([columns["step"][row]]),
            np.array([columns["candidates"][row]]),
        )[0]
        np.testing.assert_allclose(answer["scores"], scores, rtol=1e-12)
        best = sorted(range(len(scores)), key=lambda place: -scores[place])
        assert answer["slate"] == best[: scorer.slate_size]
    assert {file.name for file in path.parent.iterdir()} == {"in.parquet", "out.parquet"}


@pytest.mark.parametrize("row_groups", [0, 1])
def test_no_requests_have_no_answers_in_the_columns_of_answers(scorer, requests, row_groups):
    path, _ = requests
    none, *outs = (path.with_name(f"{name}.parquet") for name in ("none", "of-some", "of-none"))
    table = pq.read_table(path)
    with pq.ParquetWriter(none, table.schema) as writer:
        for _ in range(row_groups):
            writer.write_table(table.slice(0, 0))
    for source, out in zip((path, none), outs, strict=True):
        assert main(["recommend", "--model", MODEL_URI, str(source), str(out)]) == 0
    some, answers = (pq.read_table(out) for out in outs)
    assert answers.num_rows == 0
    assert answers.schema == some.schema


def test_random_slates_repeat_with_the_seed_and_differ_between_batches(
    scorer, requests, monkeypatch
):
    monkeypatch.setattr(batch, "BATCH_ROWS", 8)
    path, columns = requests
    first, same, other, plain = (path.with_name(f"{name}.parquet") for name in "abcd")
    asked = ["recommend", "--model", MODEL_URI, str(path)]
    for out, seed in ((first, "7"), (same, "7"), (other, "8")):
        assert main([*asked, str(out), "--epsilon", "1", "--seed", seed]) == 0
    assert main([*asked, str(plain)]) == 0
    assert pq.read_table(first).equals(pq.read_table(same))
    slates = [pq.read_table(out)["slate"].to_pylist() for out in (first, other)]
    assert slates[0] != slates[1]
    assert slates[0][:8] != slates[0][8:16]
    counts = np.array([len(row) for row in columns["candidates"]])
    shown = pq.read_table(first)["propensity"].to_numpy()
    np.testing.assert_allclose(shown, 1 / (counts * (counts - 1)), rtol=1e-12)
    assert (pq.read_table(plain)["propensity"].to_numpy() == 1).all()


@pytest.mark.parametrize(
    ("option", "part"),
    [
        (["--epsilon", "1.5"], "--epsilon: expected at most 1, got 1.5"),
        (["--seed", "-1"], "--seed: expected at least 0, got -1"),
    ],
)
def test_exploration_has_bounds(scorer, requests, capsys, option, part):
    path, _ = requests
    asked = ["recommend", "--model", MODEL_URI, str(path), str(path.with_name("out.parquet"))]
    assert main([*asked, *option]) == 2
    assert part in capsys.readouterr().err


def test_a_wrong_row_leaves_the_old_answers(scorer, requests, capsys, monkeypatch):
    monkeypatch.setattr(batch, "BATCH_ROWS", 25)  # so that its place in the batch is another
    path, columns = requests
    out = path.with_name("out.parquet")
    out.write_bytes(b"old")
    columns["user"][40] = [float("nan")]
    pq.write_table(pa.table(columns), path, row_group_size=20)
    assert main(["recommend", "--model", MODEL_URI, str(path), str(out)]) == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if "slateflow:" in row]
    assert "row 41: expected finite numbers, got NaN or infinity" in line
    assert out.read_bytes() == b"old"
    assert {file.name for file in path.parent.iterdir()} == {"in.parquet", "out.parquet"}


@pytest.mark.parametrize(
    ("model", "source", "out", "part"),
    [
        ("models:/slateflow-mars@champion", "in.parquet", "out.parquet", "slateflow-mars"),
        ("http://127.0.0.1/model", "in.parquet", "out.parquet", "such as models:/NAME@champion"),
        (MODEL_URI, "none.parquet", "out.parquet", "none.parquet, found none"),
        (MODEL_URI, "text.parquet", "out.parquet", "expected a Parquet file"),
        (MODEL_URI, "other.parquet", "out.parquet", "expected a column candidates, got user, id"),
        (MODEL_URI, "other.parquet", "out.parquet", "; requests have the columns user, candidates"),
        (MODEL_URI, "in.parquet", "none/out.parquet", "found none; make it"),
        (MODEL_URI, "empty.parquet", "out.parquet", "expected a Parquet file"),
        (MODEL_URI, "answered.parquet", "out.parquet", "expected no column slate"),
        (
            MODEL_URI,
            "damaged.parquet",
            "out.parquet",
            "damaged.parquet: expected an undamaged file",
        ),
        (MODEL_URI, ".", "out.parquet", "expected a Parquet file"),
        (MODEL_URI, "in.parquet", "in.parquet", "expected a file other than IN"),
        (MODEL_URI, "in.parquet", "folder", "cannot write"),
    ],
)
def test_bad_input_is_one_line(scorer, requests, capsys, model, source, out, part):
    folder = requests[0].parent
    make_wrong_files(requests[0])
    before = {file.name: content(file) for file in folder.iterdir()}
    assert main(["recommend", "--model", model, str(folder / source), str(folder / out)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = [row for row in captured.err.splitlines() if "slateflow:" in row]
    assert part in line
    assert {file.name: content(file) for file in folder.iterdir()} == before


def make_wrong_files(good: Path) -> None:
    """Files that are not requests, and one with requests."""
    folder, whole = good.parent, good.read_bytes()
    (folder / "folder").mkdir()
    (folder / "text.parquet").write_text("no Parquet")
    (folder / "empty.parquet").touch()
    # The footer with the offsets is intact, but the rows are not
    (folder / "damaged.parquet").write_bytes(bytes(len(whole) // 2) + whole[len(whole) // 2 :])
    pq.write_table(pa.table({"user": [[0.5]], "id": [1]}), folder / "other.parquet")
    answered = pq.read_table(good).append_column("slate", pa.array([[0]] * ROWS))
    pq.write_table(answered, folder / "answered.parquet")


def content(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else b""


def maps(*rows: list[tuple[str, float]]) -> pa.Array:
    """Maps, as Spark writes dicts."""
    return pa.array(rows, pa.map_(pa.string(), pa.float64()))


LISTS = "expected one or more lists of 1 number each"


@pytest.mark.parametrize(
    ("column", "values", "part"),
    [
        ("user", [0.5, 0.5], "user, row 1: expected a list of 1 number, got 0.5"),
        ("user", [["half"], ["half"]], "user, row 1: expected a list of 1 number, got ['half']"),
        ("user", [[0.5], None], "user, row 2: expected a list of 1 number, got nothing"),
        (
            "user",
            maps([("a", 0.5)], []),
            "user, row 1: expected a list of 1 number, got {'a': 0.5}",
        ),
        ("candidates", [[0.1], [0.2]], f"candidates, row 1: {LISTS}, got [0.1]"),
        ("candidates", [[[0.1]], []], f"candidates, row 2: {LISTS}, got an empty list"),
        ("candidates", [[[0.1], [0.2, 0.3]], [[0.1]]], f"{LISTS}, got lists of different lengths"),
        ("candidates", [[[0.1]], [[float("nan")]]], "candidates, row 2: expected finite numbers"),
        ("step", [1, -1], "step, row 2: expected a whole number from 0 to 2147483647, got -1"),
        ("step", [1.0, 1.5], "step, row 2: expected a whole number from 0 to 2147483647, got 1.5"),
        (
            "step",
            ["soon", "later"],
            "step, row 1: expected a whole number from 0 to 2147483647, got soon",
        ),
    ],
)
def test_a_wrong_column_is_one_line(scorer, tmp_path, capsys, column, values, part):
    columns = {"user": [[0.5]] * 2, "candidates": [[[0.1], [0.2]]] * 2, column: values}
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    command = ["recommend", "--model", MODEL_URI, str(tmp_path / "in.parquet")]
    assert main([*command, str(tmp_path / "out.parquet")]) == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if "slateflow:" in row]
    assert f"{tmp_path}/in.parquet: " in line
    assert part in line
    assert [file.name for file in tmp_path.iterdir()] == ["in.parquet"]


def test_maps_are_by_name():
    column = maps([("age", 30), ("vip", 1)], [])
    assert batch._values(column) == [{"age": 30, "vip": 1}, {}]
    assert batch._values(pa.array([[[("a", 1.0)]]], pa.list_(column.type))) == [[{"a": 1.0}]]


def test_a_map_has_each_key_once(scorer, tmp_path, capsys):
    columns = {"user": maps([("a", 0.5), ("a", 0.6)]), "candidates": [[[0.1], [0.2]]]}
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    files = [str(tmp_path / f"{one}.parquet") for one in ("in", "out")]
    assert main(["recommend", "--model", MODEL_URI, *files]) == 2
    assert "expected each key of a map once" in capsys.readouterr().err
