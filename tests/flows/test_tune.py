"""`slateflow tune`: a study in MLflow that can be resumed."""

from __future__ import annotations

import json

import pytest

import tasks.tune
from flows.cli.main import main
from slateflow.learners.rllib.cluster import cluster
from slateflow.learners.rllib.quiet import quiet_rllib

LOGS = ["modified-lts-10-1", "--episodes", "40", "--seed", "14"]

pytestmark = pytest.mark.filterwarnings("ignore")  # sockets and files that Ray leaves open


@pytest.fixture(scope="module")
def ray():
    """One cluster for all studies here."""
    with quiet_rllib(), cluster(1):
        yield


@pytest.fixture(scope="module")
def logs(embedded, tmp_path_factory) -> list[str]:
    """Options with the name of an existing dataset."""
    options = [*LOGS, "--data", str(tmp_path_factory.mktemp("data"))]
    assert main(["generate", *options]) == 0
    return options


def tune(capsys, *arguments: str):
    assert main(["tune", *arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def children(client, study) -> list:
    experiment = client.get_run(study["run_id"]).info.experiment_id
    return client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{study['run_id']}'")


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_a_study_goes_on_where_it_was_interrupted(logs, capsys, monkeypatch):
    from tasks.store.tracking import mlflow_client

    run_trials, wanted = tasks.tune.run_trials, []

    def counted(design, settings, workers, finished):
        wanted.append(sorted(settings))
        run_trials(design, settings, workers, finished)

    def interrupted(design, settings, workers, finished):
        first = min(settings)
        counted(design, {first: settings[first]}, workers, finished)
        raise KeyboardInterrupt

    command = ["fitted-q", *logs, "--trials", "3"]
    with monkeypatch.context() as patch:
        patch.setattr(tasks.tune, "run_trials", interrupted)
        assert main(["tune", *command]) == 130
        assert "continues where it stopped" in capsys.readouterr().err
    monkeypatch.setattr(tasks.tune, "run_trials", counted)
    study = tune(capsys, *command)
    assert wanted == [[0], [1, 2]]
    assert tune(capsys, *command) == study
    assert wanted == [[0], [1, 2]]  # finished: nothing was run
    longer = tune(capsys, "fitted-q", *logs, "--trials", "4")
    assert wanted == [[0], [1, 2], [3]]
    assert longer["trials"][:3] == study["trials"]

    client = mlflow_client()
    runs = {run.info.run_id: run for run in children(client, longer)}
    assert set(runs) == {trial["run_id"] for trial in longer["trials"]}
    for trial in longer["trials"]:
        run = runs[trial["run_id"]]
        assert run.info.status == "FINISHED"
        assert run.data.metrics["held_out_value"] == trial["value"]
        assert {k: float(v) for k, v in run.data.params.items()} == trial["settings"]
    parent = client.get_run(longer["run_id"])
    assert parent.info.status == "FINISHED"
    best = max(longer["trials"], key=lambda trial: trial["value"])
    assert longer["best"] == best["number"]
    assert parent.data.metrics["held_out_value"] == best["value"]

    assert main(["tune", *command]) == 0
    out = capsys.readouterr().out
    typed = out[out.index("slateflow train") :].split()[1:]
    assert main([*typed, "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)
    trained = client.get_run(model["run_id"]).data.params
    chosen = study["trials"][study["best"]]["settings"]
    assert {name: float(trained[name]) for name in chosen} == chosen


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["tune", "magic", *LOGS], ["learner 'magic'"]),
        (["tune", "ppo", *LOGS], ["held-out logs can judge, got ppo", "fitted-q"]),
        (["tune", "bc", *LOGS, "--trials", "0"], ["--trials: expected at least 1, got 0"]),
        (["train", *LOGS, "--set", "degree=2"], ["--set: expected one learner", "--learner"]),
        (
            ["train", *LOGS, "--learner", "fitted-q", "--set", "degree=big"],
            ["fitted-q.degree: expected a whole number, got 'big'"],
        ),
        (
            ["train", *LOGS, "--learner", "fitted-q", "--set", "depth=2"],
            ["setting of fitted-q 'depth'", "degree"],
        ),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, parts):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert all(part in line for part in parts), line
