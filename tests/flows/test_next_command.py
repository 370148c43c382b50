"""Commands to type next: a shell reads them as the words that they were made of."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from flows.cli.main import main
from slateflow.errors import InputError
from slateflow.trajectories import Folder, generate, read_recipe
from tasks.experiment import DatasetRef, find_experiment
from tasks.next_command import typed
from tasks.project import PROJECT, RECIPES
from tasks.reports.study import StudyReport, TrialSummary
from tasks.train import newest_models

WORDS = ["train", "a b", "--set", "hidden=[64, 64]", "--data", "it's $HOME"]
UNDER_UV = ["uv", "run", "--project", str(PROJECT)]


@pytest.fixture(autouse=True)
def _not_under_uv(monkeypatch):
    monkeypatch.delenv("UV", raising=False)


@pytest.fixture
def on_the_path(monkeypatch):
    """The programs are found as in an activated environment."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")


def read_by_a_shell(command: str) -> list[str]:
    """The words of a command, as `sh` hands them to a program."""
    script = f"set -- {command}\n" + r"""printf '%s\0' "$@" """
    printed = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    return printed.stdout.split("\0")[:-1]


def test_a_shell_reads_the_words(on_the_path):
    assert read_by_a_shell(typed("slateflow", *WORDS)) == ["slateflow", *WORDS]


def test_uv_runs_programs_if_it_ran_this_one(monkeypatch, tmp_path):
    monkeypatch.setenv("UV", "/bin/uv")
    monkeypatch.chdir(PROJECT / "docs")  # uv looks for the project above, too
    assert read_by_a_shell(typed("mlflow", "ui")) == ["uv", "run", "mlflow", "ui"]
    monkeypatch.chdir(tmp_path)
    assert read_by_a_shell(typed("mlflow", "ui")) == [*UNDER_UV, "mlflow", "ui"]


def test_a_program_that_no_path_leads_to_is_named_whole(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert typed("mlflow") == str(Path(sys.executable).with_name("mlflow"))
    assert typed("no-such-program") == "no-such-program"


@pytest.fixture
def made(tmp_path, monkeypatch) -> Path:
    """The working directory of a shell, with a dataset below `my data`."""
    recipe = read_recipe(RECIPES, "lts-10-1").varied(episodes=4, seed=3)
    generate(recipe, Folder(str(tmp_path / "my data")))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_words_that_name_an_experiment_find_it_from_anywhere(made, monkeypatch):
    experiment = find_experiment("lts-10-1", 4, 3, "my data")
    data = f"{made}/my data"
    monkeypatch.chdir("/")
    assert experiment.named == ["lts-10-1", "--episodes", "4", "--seed", "3", "--data", data]
    assert find_experiment("lts-10-1", 4, 3, data) == experiment


def hint_of(message: str) -> list[str]:
    """The words of the command between backticks."""
    return read_by_a_shell(message.split("`")[1])


def test_a_missing_dataset_is_made_by_the_command_that_the_error_names(capsys, on_the_path):
    data = ["--data", "of  two blanks"]
    assert main(["describe", "lts-10-1", *data]) == 2
    wanted = ["slateflow", "generate", "lts-10-1"]
    assert hint_of(capsys.readouterr().err) == [*wanted, *data]
    with pytest.raises(InputError) as caught:
        find_experiment("lts-10-1", 4, 3, "of  two blanks")
    assert hint_of(str(caught.value)) == [*wanted, "--episodes", "4", "--seed", "3", *data]


@pytest.mark.parametrize("evidence", ["played", "logs"])
def test_a_missing_training_is_made_by_the_command_that_the_error_names(
    made, monkeypatch, on_the_path, evidence
):
    nothing = Mock(**{"get_experiment_by_name.return_value": None})
    monkeypatch.setattr("tasks.train.mlflow_client", lambda: nothing)
    experiment = find_experiment("lts-10-1", 4, 3, "my data").judged_by(evidence)
    command = ["slateflow", "train", *experiment.named]
    command += ["--evidence", "logs"] if evidence == "logs" else []
    for required, words in ((True, [*command, "--learner", "bc"]), (False, command)):
        with pytest.raises(InputError) as caught:
            newest_models(experiment, ["bc"], required=required)
        assert hint_of(str(caught.value)) == words


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("sqlite:////tmp/my store.db", "sqlite:////tmp/my store.db"),
        ("postgresql://me:secret@host/store", "postgresql://me:secret@host/store"),
        ("", f"sqlite:///{PROJECT}/mlflow/mlflow.db"),
    ],
)
def test_mlflow_is_opened_on_the_store_of_the_runs(
    monkeypatch, on_the_path, tmp_path, uri, address
):
    from flows.cli.console import open_hint

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    command = ["mlflow", "ui", "--backend-store-uri"]
    assert read_by_a_shell(open_hint()) == [*command, address]
    assert "secret" not in open_hint()  # the shell has put it there
    if not uri:
        monkeypatch.chdir(PROJECT)
        assert read_by_a_shell(open_hint()) == [*command, "sqlite:///mlflow/mlflow.db"]


def test_the_address_of_a_server_is_shown_without_its_user(monkeypatch):
    from flows.cli.console import open_hint

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.shop:5000")
    assert open_hint() == "https://mlflow.shop:5000"
    assert os.environ["MLFLOW_TRACKING_URI"].endswith("@mlflow.shop:5000")


def test_a_study_ends_with_a_command_that_a_shell_reads(capsys, on_the_path):
    from flows.cli.console import show_study

    settings = {"window": 2, "form": "a b"}
    trial = TrialSummary(number=0, settings=settings, value=1.0, train_seconds=1.0, run_id="a")
    reference = DatasetRef(path="/data/shop", digest="sha256:0", rows=1)
    study = StudyReport(
        learner="iql", dataset=reference, seed=0, trials=[trial], best=0, run_id="parent"
    )
    show_study(study, ["shop", "--data", "my data"])
    command = capsys.readouterr().out.splitlines()[-1].removeprefix("Train with it   ")
    assert read_by_a_shell(command) == [
        *("slateflow", "train", "shop", "--data", "my data", "--learner", "iql"),
        *("--set", "window=2", "--set", "form=a b"),
    ]
