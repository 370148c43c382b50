"""The same flows against real servers: deployed, run by a worker, and from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import BIN, mlflow_server, prefect_server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Variables of a shell in which both servers run."""
    folder = tmp_path_factory.mktemp("servers")
    with prefect_server(folder / "prefect") as prefect, mlflow_server(folder / "mlflow") as mlflow:
        inherited = {key: value for key, value in os.environ.items() if "PREFECT" not in key}
        yield {
            **inherited,
            "HOME": str(folder),
            "PREFECT_HOME": str(folder / "client"),
            "PREFECT_API_URL": prefect,
            "MLFLOW_TRACKING_URI": mlflow,
            "DO_NOT_TRACK": "true",
            "COLUMNS": "200",
        }


def run(command: list[str], environment) -> str:
    """Standard output of a command in the project's folder; it must succeed."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_deployed_pipeline_is_run_by_a_worker(environment, tmp_path):
    prefect = str(BIN / "prefect")
    run([prefect, "work-pool", "create", "slateflow", "--type", "process"], environment)
    run([prefect, "--no-prompt", "deploy", "--all"], environment)
    deployments = run([prefect, "deployment", "ls"], environment)
    assert "pipeline/nightly-modified-lts-20-2" in deployments
    assert "pipeline/nightly-modified-lts-10-1" in deployments
    parameters = {
        "episodes": 60,
        "learners": ["linucb", "fitted-q"],
        "evaluation_episodes": 100,
        "data": str(tmp_path),
    }
    start = [prefect, "deployment", "run", "pipeline/nightly-modified-lts-20-2", "--params"]
    run([*start, json.dumps(parameters)], environment)
    pool = ["--pool", "slateflow", "--type", "process", "--run-once"]
    run([prefect, "worker", "start", *pool], environment)
    finished = run([prefect, "flow-run", "ls", "--state-type", "COMPLETED"], environment)
    assert "pipeline modified-lts-20-2" in " ".join(finished.split())

    question = (
        "import json, mlflow\n"
        "version = mlflow.MlflowClient().get_model_version_by_alias("
        "'slateflow-modified-lts-20-2', 'champion')\n"
        "print(json.dumps(version.tags))"
    )
    tags = json.loads(run([sys.executable, "-c", question], environment))
    assert tags["learner"] == "fitted-q"
    # the seed is the day for which the run was scheduled
    assert f".seed-{tags['seed']}" in next(path.name for path in tmp_path.iterdir())
    assert tags["seed"].startswith("20")
    assert len(tags["seed"]) == 8


def test_the_command_line_uses_the_servers(environment, tmp_path):
    command = [str(BIN / "slateflow"), "run", "modified-lts-10-1", "--episodes", "40", "--json"]
    options = ["--learners", "linucb", "--evaluation-episodes", "100", "--data", str(tmp_path)]
    document = json.loads(run(command + options, environment))
    assert document["registered"]["name"] == "slateflow-modified-lts-10-1"
    wide = {**environment, "COLUMNS": "300"}
    listed = run([str(BIN / "prefect"), "flow-run", "ls", "--limit", "100"], wide)
    assert "pipeline modified-lts-10-1" in listed
