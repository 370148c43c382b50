"""The command line: output, exit status and one-line errors."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest

from flows.cli.main import main
from slateflow.errors import InputError
from slateflow.trajectories import Folder, generate, read_recipe
from tests.servers import BIN

RECIPES = Path(__file__).parents[3] / "datasets"
REFERENCE = {"random": 1157.81, "greedy": 1163.66, "opposite": 1084.12}  # exact dynamics


def complain(capsys, *arguments: str) -> str:
    """The one line on standard error of a refused command."""
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("slateflow: ")
    return line


def test_help_answers_without_the_heavy_imports():
    code = (
        "import sys\nfrom flows.cli.main import main\n"
        "assert main(['--help']) == 0\n"
        "heavy = {'ray', 'torch', 'mlflow', 'prefect', 'pandas', 'pyarrow', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "baseline" in done.stdout


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (
            "run",
            ["RECIPE", "modified-lts-20-2-mixed", "At least 2, at most 1000000. [default: 1000]"],
        ),
        ("train", ["--set", "imported dataset"]),
        ("export", ["[choices: rllib, minari, d3rlpy]"]),
        ("import", ["propensity: probability of exactly this slate", "watch_time"]),
        ("estimate", ["of simulated recipes also greedy and opposite."]),
        ("up", ["At least 1, at most 65535. [default: 4200]"]),
        ("learners", []),
        ("recommend", ["user and items", "history", "propensity, outside"]),
    ],
)
def test_the_help_of_a_command_has_bounds_choices_and_an_example(capsys, command, parts):
    assert main([command, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"Example: slateflow {command}" in text
    assert all(part in text for part in parts), text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_a_terminal_cannot_show_is_a_question_mark(encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    asked = [sys.executable, "-m", "flows.cli.main", "--help"]
    done = subprocess.run(asked, env=environment, capture_output=True, check=True)
    assert b"Logged trajectories ? offline RL" in done.stdout
    assert done.stderr == b""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_the_caller_has_closed_is_no_error(closed):
    code = (
        "import socket, sys\nfrom flows.cli.main import main\n"
        "assert main(['learners']) == 0\n"
        "sys.exit(socket.socket().fileno() <= 2)"
    )
    command = f'exec "{sys.executable}" -c "$0" {closed}'
    done = subprocess.run(["sh", "-c", command, code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("linucb") == (">&-" not in closed.replace("2>&-", ""))


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == version("slateflow")


def test_blanks_after_the_commas_of_a_list_do_not_count():
    from flows.cli.options import split_learners, split_names

    assert split_learners("linucb, lints ,bc") == ["linucb", "lints", "bc"]
    assert split_names(None, "--estimator") is None
    with pytest.raises(InputError, match=r"--estimator: .* each once, got 'dr, dr'"):
        split_names("dr, dr", "--estimator")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["fit"], ["unknown command 'fit': expected one of run, generate, train,", "deploy"]),
        (["run", "mars"], ["recipe 'mars'", "modified-lts-20-2", "lts-10-1"]),
        (["run", "--learners", "magic"], ["learner 'magic'", "fitted-q", "linucb"]),
        (["run", "--learners", "bc,bc"], ["--learners: ", "each once, got 'bc,bc'"]),
        (["run", "--learners", ","], ["--learners: expected names separated by commas", "got ','"]),
        (["run", "--episodes", "0"], ["--episodes: expected at least 1, got 0"]),
        (
            ["run", "--evaluation-episodes", "1"],
            ["--evaluation-episodes: expected at least 2, got 1"],
        ),
        (["run", "--episodes", "2.7"], ["--episodes: expected a whole number, got '2.7'; see"]),
        (["run", "--seed", "abc"], ["--seed: expected a whole number, got 'abc'; see"]),
        (["run", "--workers", "0"], ["--workers: expected at least 1, got 0"]),
        (["run", "--seed", "-1"], ["--seed: expected at least 0, got -1"]),
        (["run", "--seed", str(2**64)], [f"--seed: expected at most {2**63 - 1}, got {2**64}"]),
        (
            ["evaluate", "lts-10-1", "--reference", "--reference-episodes", "1"],
            ["--reference-episodes: expected at least 2, got 1"],
        ),
        (
            ["train", "lts-10-1", "--learners", "cql", "--set", "learner=3"],
            ["unknown setting of cql 'learner': expected one of "],
        ),
        (
            ["train", "lts-10-1", "--learner", "cql", "--set", "width"],
            ["--set: expected NAME=VALUE"],
        ),
        (
            ["train", "lts-10-1", "--learner", "cql", "--set", "=3"],
            ["--set: expected NAME=VALUE, got =3"],
        ),
        (
            ["train", "lts-10-1", "--learner", "cql", "--set", "width=64", "--set", "width=32"],
            ["--set: expected each setting once, got width twice; leave one out"],
        ),
        (
            ["describe", "lts-10-1", "--data", ""],
            ["--data: expected a folder or a URL, got an empty text; leave the option out"],
        ),
        (["prune", "--data", " "], ["--data: expected a folder or a URL, got an empty text"]),
        (["generate", "../secret"], ["recipe '../secret'", "modified-lts-20-2"]),
        (["baseline", "mars"], ["recipe 'mars'", "modified-lts-20-2-mixed"]),
        (["baseline", "--episodes", "1"], ["--episodes: expected at least 2, got 1"]),
        (["baseline", "--episodes", "1000001"], ["--episodes: expected at most 1000000, got"]),
        (["run", "--episodes", "100000001"], ["--episodes: expected at most 100000000, got"]),
        (["tune", "cql", "lts-10-1", "--trials", "10001"], ["--trials: expected at most 10000"]),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, parts):
    line = complain(capsys, *arguments)
    assert all(part in line for part in parts), line


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run", "--episodes", "many"], ["generate"]])
def test_a_wrong_call_is_one_line_and_status_2(capsys, arguments):
    assert "--help`" in complain(capsys, *arguments)


@pytest.mark.parametrize("buffered", [True, False])  # short output breaks at its end only
def test_a_reader_that_leaves_is_no_error_to_speak_of(buffered):
    nobody, pipe = os.pipe()
    os.close(nobody)
    environment = os.environ | ({} if buffered else {"PYTHONUNBUFFERED": "1"})
    command = [str(BIN / "slateflow"), "environments"]
    with os.fdopen(pipe, "wb") as writing:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment)
    assert (done.returncode, done.stderr) == (1, b"")


def test_another_broken_pipe_is_said(capsys, monkeypatch):
    def breaks():
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("slateflow.environments.presets", breaks)
    assert main(["environments"]) == 1
    assert "slateflow: BrokenPipeError: [Errno 32] Broken pipe" in capsys.readouterr().err


def test_a_database_that_fails_is_quoted(tmp_path, capsys, monkeypatch):
    from tasks.store.tracking import experiment_id, mlflow_client

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    client = mlflow_client()
    experiment = experiment_id(client, "shop")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("ALTER TABLE runs RENAME TO gone")
    monkeypatch.setattr("slateflow.environments.presets", lambda: client.create_run(experiment))
    capsys.readouterr()
    assert main(["environments"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("slateflow: MlflowException: no such table: runs (")


def test_baseline_agrees_with_the_reference(capsys):
    assert main(["baseline", "modified-lts-20-2", "--episodes", "1000", "--json"]) == 0
    measured = {entry["policy"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(measured) == set(REFERENCE)
    for policy, mean in REFERENCE.items():
        assert measured[policy]["mean"] == pytest.approx(mean, abs=4 * measured[policy]["sem"])
    assert measured["opposite"]["slope"] > 0 > measured["greedy"]["slope"]


def test_baseline_prints_a_table(capsys):
    assert main(["baseline", "modified-lts-10-1", "--episodes", "20"]) == 0
    out = capsys.readouterr().out
    assert "greedy (most clickbait)" in out
    assert "opposite (least clickbait)" in out


def test_baseline_of_a_recipe_plays_its_policies_in_its_world(capsys):
    assert main(["baseline", "modified-lts-20-2-mixed", "--episodes", "20", "--json"]) == 0
    played = {entry["policy"]: entry["label"] for entry in json.loads(capsys.readouterr().out)}
    assert played == {
        "random": "random",
        "greedy": "most clickbait",
        "opposite": "least clickbait",
        "epsilon-greedy": "most clickbait, ε 0.1",
        "softmax": "softmax of most clickbait, T 0.5",
    }


@pytest.fixture
def recipe_with(monkeypatch, tmp_path):
    """Save the only recipe, by name and parameter."""
    for module in ("tasks.project", "tasks.experiment"):
        monkeypatch.setattr(f"{module}.RECIPES", tmp_path)

    def save(name: str, parameter: str) -> None:
        head = 'environment = "lts-10-1"\nepisodes = 9\nseed = 0\n[policies]\nrandom = 1.0\n'
        (tmp_path / f"{name}.toml").write_text(f"{head}[parameters]\n{parameter}\n")

    return save


def test_baseline_of_a_preset_is_that_of_the_recipe_of_its_name(capsys, recipe_with):
    recipe_with("lts-10-1", "time_budget = 3")
    assert main(["baseline", "lts-10-1", "--episodes", "20", "--json"]) == 0
    first, *_ = json.loads(capsys.readouterr().out)
    assert first["mean"] < 3 * 20  # of 60 steps it is more than a thousand


def test_baseline_of_rewards_without_bounds_is_one_line(capsys, recipe_with):
    recipe_with("wild", "choc_mean = 900")
    assert main(["baseline", "wild", "--episodes", "20", "--json"]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    (line,) = found.err.splitlines()
    assert "lts-10-1: expected parameters that keep returns finite" in line


def test_environments_lists_presets_and_parameters(capsys):
    assert main(["environments", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["modified-lts-20-2"]["sensitivity"] == 0.058
    assert main(["environments"]) == 0
    assert "memory_discount = 0.7" in capsys.readouterr().out


def test_learners_lists_settings_with_defaults_and_bounds(capsys):
    from slateflow.learners import LEARNERS

    assert main(["learners", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert list(listed) == list(LEARNERS)
    assert listed["lints"] == {"ridge": 0.0, "exploration": 1.0}
    assert main(["learners"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (lints,) = [number for number, line in enumerate(lines) if line.startswith("lints: ")]
    assert lines[lints + 1].startswith("  ridge = 0.0 (at least 0): Precision")
    assert lines[lints + 2].startswith("  exploration = 1.0 (at least 0): ")


def test_stages_one_by_one(embedded, tmp_path, capsys):
    common = ["modified-lts-10-1", "--episodes", "40", "--seed", "11", "--data", str(tmp_path)]

    def run(*arguments: str):
        assert main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    dataset = run("generate", *common)
    assert dataset["rows"] == 40 * 120
    assert run("generate", *common) == dataset
    models = run("train", *common, "--learners", "linucb,lints")
    assert [model["learner"] for model in models] == ["linucb", "lints"]
    short = ["--evaluation-episodes", "50"]
    reference = ["--reference", "--reference-episodes", "12"]
    verdict = run("evaluate", *common, *short)  # those that were trained on this dataset
    assert {c["run_id"] for c in verdict["candidates"]} == {m["run_id"] for m in models}
    checked = run("evaluate", *common, *short, *reference)["recsim_check"]
    assert checked["learner"] == verdict["candidates"][0]["learner"]
    assert checked["episodes"] == 12
    assert abs(checked["deviation"]) < 4
    assert main(["evaluate", *common, *short, *reference]) == 0
    captured = capsys.readouterr()
    assert "score: 0" not in captured.err
    assert "in RecSim's own code" in captured.out
    assert main(["register", *common, *short, "--learners", "bc"]) == 2
    assert "bc: expected a trained model of" in capsys.readouterr().err


def test_run_prints_one_json_document(embedded, tmp_path, capsys):
    arguments = ["run", "lts-10-1", "--episodes", "20", "--learners", "linucb"]
    options = ["--evaluation-episodes", "30", "--data", str(tmp_path), "--json"]
    assert main(arguments + options) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["recipe"] == "lts-10-1"
    assert captured.err == ""
    assert main(arguments + options[:-1]) == 0
    table = capsys.readouterr().out
    assert "linucb" in table
    assert "Open it" in table
    assert max(len(line) for line in table.splitlines() if "±" in line) <= 100


def test_an_unwritable_folder(embedded, tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    line = complain(
        capsys, "run", "--episodes", "2", "--learners", "linucb",
        "--data", str(tmp_path / "file" / "data"),
    )  # fmt: skip
    assert "cannot write" in line
    assert "--data" in line


def test_an_unreachable_tracking_server(embedded, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    line = complain(capsys, "run", "--episodes", "2", "--data", str(tmp_path))
    assert "MLFLOW_TRACKING_URI" in line
    assert "http://127.0.0.1:9" in line
    assert not list(tmp_path.iterdir())  # found before any work


def test_an_unreachable_prefect_server(tmp_path, monkeypatch, capsys):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    arguments = ["run", "lts-10-1", "--episodes", "2", "--data", str(tmp_path / "data")]
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        line = complain(capsys, *arguments)
    assert "PREFECT_API_URL: expected a Prefect server at http://127.0.0.1:9/api, got" in line
    assert not (tmp_path / "data").exists()


def test_datasets_that_cannot_be_trusted(embedded, tmp_path, capsys):
    recipe = read_recipe(RECIPES, "modified-lts-10-1").varied(4, 0)
    train = ["train", "modified-lts-10-1", "--episodes", "4", "--seed", "0", "--data"]
    train += [str(tmp_path), "--learners", "linucb"]
    assert "_manifest.json, found none" in complain(capsys, *train)
    dataset = generate(recipe, Folder(str(tmp_path)))
    manifest = Path(dataset.path) / "_manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace(dataset.parts[0].sha256, "0" * 64))
    assert "expected digest" in complain(capsys, *train)
    manifest.write_text(text)
    part = Path(dataset.path) / dataset.parts[1].path
    whole = part.read_bytes()
    part.write_bytes(whole[:200])
    assert dataset.parts[1].path in complain(capsys, *train)
    assert part.read_bytes() == whole[:200]  # nothing is deleted or repaired behind one's back
