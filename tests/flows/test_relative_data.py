"""A relative `--data`: what is kept of it is read from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli.main import main
from flows.cli.options import Logs
from slateflow.trajectories import Folder, generate, read_recipe
from tasks.experiment import absolute, data_folder, find_experiment
from tasks.project import RECIPES


@pytest.fixture
def shell(tmp_path, monkeypatch) -> Path:
    """The working directory, beside the folder `my data` with the dataset of a recipe."""
    recipe = read_recipe(RECIPES, "lts-10-1").varied(episodes=4)
    generate(recipe, Folder(str(tmp_path / "my data")))
    (tmp_path / "shell").mkdir()
    monkeypatch.chdir(tmp_path / "shell")
    return tmp_path / "shell"


@pytest.mark.parametrize("relative", [True, False])
def test_an_experiment_is_opened_from_another_folder(shell, monkeypatch, relative):
    data = "../my data" if relative else str(shell.parent / "my data")
    experiment = find_experiment("lts-10-1", episodes=4, data=data)
    monkeypatch.chdir("/")
    assert experiment.open_dataset().episodes == 4
    assert experiment.dataset.path == f"{shell.parent}/my data/lts-10-1.episodes-4"


def test_a_run_keeps_where_the_dataset_is(shell, monkeypatch):
    from tasks.store.tracking import dataset_input

    found = find_experiment("lts-10-1", episodes=4, data="../my data").open_dataset()
    monkeypatch.chdir("/")
    source = json.loads(dataset_input(found).dataset.source)
    assert (Path(source["uri"]) / "_manifest.json").is_file()


def test_links_stay_and_urls_too(shell):
    (shell / "link").symlink_to(shell.parent / "my data")
    assert data_folder("link").url == f"{shell}/link"
    assert data_folder("link/..").url == str(shell.parent)  # as the filesystem has it
    assert absolute("s3://logs/../x").url == "s3://logs/../x"


def test_prefect_keeps_a_parameter_for_any_working_directory(shell):
    assert Logs(data="../my data").kept_data == f"{shell.parent}/my data"
    assert Logs(data="s3://logs/x").kept_data == "s3://logs/x"
    assert Logs().kept_data is None


def test_json_names_files_for_programs_elsewhere(shell, capsys):
    assert main(["describe", "../my data/lts-10-1.episodes-4", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)["path"]
    assert described == f"{shell.parent}/my data/lts-10-1.episodes-4"
    assert main(["export", described, "out", "--format", "minari", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == f"{shell}/out"
    assert main(["describe", described]) == 0
    assert capsys.readouterr().out.startswith(f"{described}: lts-10-1\n")
