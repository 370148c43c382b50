"""Batch scoring of a Parquet file."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.cli import main
from tasks import recommend as batch
from tests.registry.published import MODEL_URI, publish_champion

ROWS = 57


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    """The scorer behind the champion of a registry of its own."""
    folder = tmp_path_factory.mktemp("recommend")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield publish_champion(folder)


@pytest.fixture
def requests(tmp_path):
    """57 requests in row groups of 20, with an id, and with 5, 6 or 7 candidates."""
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
    assert answers.schema.names == ["id", "slate", "scores"]
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


def test_a_wrong_row_leaves_the_old_answers(scorer, requests, capsys):
    path, columns = requests
    out = path.with_name("out.parquet")
    out.write_bytes(b"old")
    columns["user"][40] = [float("nan")]
    pq.write_table(pa.table(columns), path, row_group_size=20)
    assert main(["recommend", "--model", MODEL_URI, str(path), str(out)]) == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if "slateflow:" in row]
    assert "row 40: expected finite numbers, got NaN or infinity" in line
    assert out.read_bytes() == b"old"
    assert {file.name for file in path.parent.iterdir()} == {"in.parquet", "out.parquet"}


@pytest.mark.parametrize(
    ("model", "source", "out", "part"),
    [
        ("models:/slateflow-mars@champion", "in.parquet", "out.parquet", "slateflow-mars"),
        (MODEL_URI, "none.parquet", "out.parquet", "none.parquet, found none"),
        (MODEL_URI, "text.parquet", "out.parquet", "expected a Parquet file"),
        (MODEL_URI, "other.parquet", "out.parquet", "expected a column candidates, got user, id"),
        (MODEL_URI, "in.parquet", "none/out.parquet", "found none; make it"),
    ],
)
def test_bad_input_is_one_line(scorer, requests, capsys, model, source, out, part):
    folder = requests[0].parent
    (folder / "text.parquet").write_text("no Parquet")
    pq.write_table(pa.table({"user": [[0.5]], "id": [1]}), folder / "other.parquet")
    assert main(["recommend", "--model", model, str(folder / source), str(folder / out)]) == 2
    lines = [row for row in capsys.readouterr().err.splitlines() if "slateflow:" in row]
    assert len(lines) == 1
    assert part in lines[0]
