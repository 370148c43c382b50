"""Export, import and describe on the command line, and uses of an import."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from flows.cli.main import main
from slateflow.trajectories import Dataset, Folder, Recipe, generate
from tasks.project import RECIPES

WORLD = "modified-lts-10-1"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    """60 whole episodes under the name `logged`."""
    recipe = Recipe("logged", WORLD, 60, 4, {"random": 0.5, "greedy": 0.5})
    return generate(recipe, Folder(str(tmp_path_factory.mktemp("data"))))


@pytest.fixture
def data(dataset) -> str:
    return str(Path(dataset.path).parent)


@pytest.mark.parametrize("kind", ["rllib", "minari", "d3rlpy"])
def test_export_by_name_and_by_path(dataset, data, kind, tmp_path, capsys):
    by_name = ["export", "--format", kind, "logged", str(tmp_path / "a"), "--data", data]
    assert main([*by_name, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"path": str(tmp_path / "a"), "format": kind, "digest": dataset.digest}
    assert main(["export", "--format", kind, dataset.path, str(tmp_path / "b")]) == 0
    assert "60 episodes, 7,200 steps" in capsys.readouterr().out
    assert main(by_name) == 2
    assert "expected a folder that does not exist yet" in capsys.readouterr().err


def test_bad_input_of_the_commands_is_one_line(dataset, data, tmp_path, capsys):
    source = str(tmp_path / "none.parquet")
    for arguments, message in [
        (["export", "--format", "csv", dataset.path, str(tmp_path / "x")], 'Invalid value "csv"'),
        (["export", "--format", "rllib", "none", "x", "--data", data], "unknown recipe or dataset"),
        (["describe", "none", "--data", data], f"; recipes are in {RECIPES}"),
        (["describe", WORLD, "--data", data], "found none; make it with"),
        (["describe", data], f"{data}: expected the folder of a dataset, found no _manifest.json"),
        (["export", "--format", "rllib", "./none", "x"], "expected the folder of a dataset, found"),
        (["describe", "logs/x.csv"], f'`source = "{Path.cwd()}/logs/x.csv"`, and their [columns]'),
        (["describe", "file:///x.json"], "x.json: expected the name of a recipe or dataset, got"),
        (["run", "x.parquet"], f"or format, as {RECIPES}/NAME.toml, and give NAME"),
        (["import", source, "mine", "--data", data], "expected a file or folder of logs"),
        (["import", source, WORLD, "--data", data], "expected a name without a recipe"),
        (["train", "mine", "--data", data], "unknown recipe 'mine'"),
        (["train", "logged", "--data", data], "unknown recipe 'logged'"),
    ]:
        assert main(arguments) == 2, arguments
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.out == ""
        assert len(captured.err.splitlines()) == 1


def test_an_import_is_trained_on_and_evaluated_by_its_name(dataset, embedded, tmp_path, capsys):
    frame = pd.read_parquet(dataset.path).drop(columns="policy")
    frame.to_parquet(tmp_path / "theirs.parquet")  # the way of pandas: nullable, not fixed

    def run(*arguments: str):
        assert main([*arguments, "--data", str(tmp_path / "data"), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    imported = run("import", str(tmp_path / "theirs.parquet"), "theirs", "--environment", WORLD)
    assert imported["rows"] == dataset.rows
    assert imported["path"] == f"{tmp_path}/data/theirs"
    models = run("train", "theirs", "--learners", "linucb,fitted-q")
    verdict = run("evaluate", "theirs", "--evaluation-episodes", "50")
    assert {c["run_id"] for c in verdict["candidates"]} == {m["run_id"] for m in models}
    scores = {c["learner"]: c["score"] for c in verdict["candidates"]}
    assert scores["fitted-q"] > 0.8 > 0.5 > scores["linucb"]
    assert main(["train", "theirs", "--episodes", "9", "--data", str(tmp_path / "data")]) == 2
    assert "--episodes: expected none for imported theirs, got 9" in capsys.readouterr().err


def test_describe_prints_figures_and_writes_the_page(dataset, data, tmp_path, capsys):
    file = tmp_path / "page.html"
    common = ["describe", "logged", "--data", data]
    assert main([*common, "--page", str(file)]) == 0
    out = capsys.readouterr().out
    assert "60 episodes, 7,200 steps" in out
    assert dataset.digest in out
    assert f"Look at it   {file}" in out
    assert max(len(line) for line in out.splitlines() if "±" in line) <= 80
    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main([*common, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {policy["policy"]: policy["share"] for policy in document["policies"]} == {
        "random": 0.5,
        "greedy": 0.5,
    }
    assert main([*common, "--page", str(tmp_path / "no" / "page.html")]) == 2
    assert "cannot write" in capsys.readouterr().err
    copy = shutil.copytree(dataset.path, tmp_path / "a [z]" / "logged")
    assert main(["describe", str(copy)]) == 0
    assert capsys.readouterr().out.startswith(f"{copy}: ")
