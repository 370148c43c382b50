"""`slateflow up` with its real servers and worker, for operators and their users."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from flows.services.processes import alive, descendants, responds
from tests.browser.pages import open_page, table_rows
from tests.postgres import postgres
from tests.servers import BIN, free_port
from tests.up import Up, command_line, kill, refused, running_up, wait_until

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[3]
SMALL = {"episodes": 60, "learners": ["linucb", "fitted-q"], "evaluation_episodes": 100}


@pytest.fixture(scope="module")
def promoted(up, up_client):
    """A run of the pipeline by the worker, smaller than every night's."""
    run = start(
        up_client, "pipeline/nightly-modified-lts-10-1", {**SMALL, "data": f"{up.folder}/d"}
    )
    return ended(up_client, run.id)


def start(client, deployment: str, parameters):
    """A run of a deployment."""
    found = client.read_deployment_by_name(deployment)
    return client.create_flow_run_from_deployment(found.id, parameters=parameters)


def ended(client, run_id):
    """The run after its end."""
    wait_until(lambda: client.read_flow_run(run_id).state.is_final(), 400, "the run's end")
    return client.read_flow_run(run_id)


def test_both_servers_answer_and_it_says_what_runs_when(up):
    assert responds(f"{up.api}/health")
    assert responds(f"{up.mlflow}/health")
    assert f"Prefect   {up.ui}" in up.lines
    assert f"MLflow    {up.mlflow}" in up.lines
    assert f"{'0 3 * * * UTC':28s} pipeline/nightly-modified-lts-20-2" in up.lines
    assert f"{'slateflow.dataset.published':28s} train/train-fresh" in up.lines


def test_a_second_one_says_that_it_runs(up):
    line = refused(up.command(free_port(), free_port()))
    assert f"process {up.process.pid} (Prefect on {up.ports[0]}" in line


def test_a_server_that_does_not_come_up_is_named_and_leaves_nothing(up, tmp_path):
    command = [*up.command(free_port(), free_port()), "--mlflow-database", "nosuch://store"]
    command[command.index("--folder") + 1] = str(tmp_path)
    line = refused(command, started=True)
    assert line.startswith("mlflow: expected it to come up, it ended; see ")
    assert str(tmp_path / "mlflow.log") in line


def test_the_log_says_why_a_server_did_not_come_up(tmp_path):
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "prefect.db").write_bytes(b"no database " * 1000)
    ports = ["--prefect-port", str(free_port()), "--mlflow-port", str(free_port())]
    command = [str(BIN / "slateflow"), "up", "--folder", str(tmp_path), *ports]
    assert f"see {tmp_path}/prefect.log" in refused(command, started=True)
    assert "file is not a database" in (tmp_path / "prefect.log").read_text()


def test_every_deployment_runs_once_at_a_time_and_the_second_waits(up, up_client):
    deployed = up_client.read_deployments()
    assert len(deployed) >= 11
    for deployment in deployed:
        assert deployment.global_concurrency_limit.limit == 1, deployment.name
        assert deployment.concurrency_options.collision_strategy == "ENQUEUE"
        assert deployment.description


def test_a_night_of_a_worker_ends_in_the_registry(up, promoted):
    import mlflow

    assert (promoted.state.name, "promoted" in promoted.tags) == ("Completed", True), promoted.state
    store = mlflow.MlflowClient(up.mlflow)
    version = store.get_model_version_by_alias("slateflow-modified-lts-10-1", "champion")
    assert version.tags["learner"] == "fitted-q"
    # The seed is the day for which the run was scheduled
    day = f"{promoted.expected_start_time:%Y%m%d}"
    assert version.tags["seed"] == day
    assert (up.folder / "prefect" / "concurrency_leases").is_dir()
    assert (up.folder / "d" / f"modified-lts-10-1.episodes-60.seed-{day}").is_dir()


def test_fresh_logs_are_trained_on_judged_and_the_winner_registered_by_events(up, up_client):
    """The last three start by themselves: each follows the event of the one before."""
    began = start(
        up_client,
        "generate/fresh-modified-lts-20-2",
        {"episodes": 60, "data": str(up.folder / "fresh")},
    )
    names = {one.id: one.name for one in up_client.read_deployments()}

    def chain():
        chained = {"train-fresh", "evaluate-fresh", "register-fresh"}
        runs = [
            run for run in up_client.read_flow_runs() if names.get(run.deployment_id) in chained
        ]
        # Another test has started a registration by hand
        later = [run for run in runs if run.created > began.created]
        return {up_client.read_flow(run.flow_id).name: run for run in later}

    wait_until(lambda: "register" in chain(), 400, "the run of register-fresh")
    last = ended(up_client, chain()["register"].id)
    assert last.name == "register modified-lts-20-2: promoted", last.state
    generated, runs = up_client.read_flow_run(began.id), chain()
    assert set(runs) == {"train", "evaluate", "register"}  # once each
    starts = [generated.start_time, *(runs[name].start_time for name in ("train", "evaluate"))]
    assert starts == sorted(starts)
    # From the hour for which it was scheduled; the others have the events' parameters
    hour = int(f"{generated.expected_start_time:%Y%m%d%H}")
    (folder,) = (up.folder / "fresh").iterdir()
    assert folder.name.endswith(f".seed-{hour}")
    manifest = json.loads((folder / "_manifest.json").read_text())
    verdict = runs["register"].parameters["verdict"]
    experiment = runs["train"].parameters["experiment"]
    assert experiment == runs["evaluate"].parameters["experiment"] == verdict["experiment"]
    assert experiment["recipe"] == "modified-lts-20-2"
    assert experiment["seed"] == hour
    dataset = {"path": str(folder), "digest": manifest["digest"], "rows": manifest["rows"]}
    assert experiment["dataset"] == dataset
    models = [
        (model["learner"], model["run_id"]) for model in runs["evaluate"].parameters["models"]
    ]
    assert sorted(models) == sorted((c["learner"], c["run_id"]) for c in verdict["candidates"])
    assert [learner for learner, _ in models] == ["linucb", "lints", "fitted-q"]


def test_what_a_pipeline_publishes_starts_nothing(up, up_client, promoted):
    """The pipeline trains by itself; a train-fresh would repeat all of it."""
    names = {one.id: one.name for one in up_client.read_deployments()}
    for run in up_client.read_flow_runs():
        if str(names.get(run.deployment_id)).endswith("-fresh"):
            assert "modified-lts-10-1" not in json.dumps(run.parameters)


def environment(up: Up) -> dict[str, str]:
    """Environment of a shell that uses its servers."""
    inherited = {key: value for key, value in os.environ.items() if "PREFECT" not in key}
    return {
        **inherited,
        "PREFECT_HOME": str(up.folder / "shell"),
        "PREFECT_API_URL": up.api,
        "MLFLOW_TRACKING_URI": up.mlflow,
    }


def test_a_shell_uses_its_servers(up, up_client):
    world = "modified-lts-20-2-hidden"  # where no other test has a champion
    command = [str(BIN / "slateflow"), "run", world, "--episodes", "40", "--json"]
    options = ["--learners", "linucb", "--evaluation-episodes", "100"]
    done = subprocess.run(
        [*command, *options, "--data", str(up.folder / "shell-data")],
        env=environment(up),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["registered"]["name"] == f"slateflow-{world}"
    assert f"pipeline {world}: promoted" in {run.name for run in up_client.read_flow_runs()}


def test_a_run_of_a_shell_that_is_killed_is_crashed_by_the_sweep(up, up_client):
    command = [str(BIN / "slateflow"), "generate", "lts-20-2", "--episodes", "200000"]
    shell = subprocess.Popen([*command, "--data", str(up.folder / "killed")], env=environment(up))

    def of_shell():
        runs = [run for run in up_client.read_flow_runs() if run.name == "generate lts-20-2"]
        return next((run for run in runs if run.infrastructure_pid), None)

    wait_until(of_shell, 120, "a run that has written down its process")
    kill([shell.pid])
    shell.wait()
    run = ended(up_client, of_shell().id)
    assert run.state.is_crashed()
    assert (
        run.state.message
        == f"Process {socket.gethostname()}:{shell.pid} is gone; found by the sweep"
    )


def test_the_browser_shows_the_run_and_the_figures_of_its_report(up, up_client, promoted):
    import mlflow

    (report,) = [  # other tests' runs report under the same key
        artifact
        for artifact in up_client.read_artifacts()
        if artifact.key == "slateflow-modified-lts-10-1" and artifact.flow_run_id == promoted.id
    ]
    page = open_page(f"{up.ui}/runs/flow-run/{promoted.id}", ": promoted", up.folder / "browser")
    assert "pipeline modified-lts-10-1" in page

    store = mlflow.MlflowClient(up.mlflow)
    experiment = store.get_experiment_by_name("slateflow-modified-lts-10-1")
    (trained,) = [
        run.data.metrics
        for run in store.search_runs([experiment.experiment_id])
        if run.data.tags.get("slateflow.learner") == "fitted-q"
    ]
    address = f"{up.ui}/artifacts/artifact/{report.id}"
    # Behind the table, which is drawn after the description with the same words as its title
    page = open_page(address, "Intervals are pointwise", up.folder / "browser")
    assert "registered as version" in page
    rows = table_rows(page)
    # With a champion, perhaps of another test, random is in the second table
    tables = [row for row in rows if row[0] == "learner"]
    figures = {}
    for names, row in zip(tables, [row for row in rows if row[0] == "fitted-q"], strict=True):
        figures |= dict(zip(names, row, strict=True))
    assert figures["verdict"] == "winner"
    mean, sem = trained["evaluation_mean"], trained["evaluation_sem"]
    assert figures["return"] == f"{mean:.2f} ± {sem:.2f}"
    uplift = f"{trained['uplift']:+.2f} [{trained['uplift_ci_low']:.2f}, "
    assert figures["over random (95%)"].startswith(uplift)
    link = f"127.0.0.1:{up.ports[1]}/#/models/slateflow-modified-lts-10-1/versions/"
    assert link in page


def test_the_browser_shows_a_form_that_explains_itself(up, up_client):
    deployment = up_client.read_deployment_by_name("pipeline/nightly-modified-lts-10-1")
    page = open_page(
        f"{up.ui}/deployments/deployment/{deployment.id}/run",
        "Episodes that each policy plays in the evaluation, 2 or more.",
        up.folder / "browser",
    )
    assert "Learners to train; default those that are made for the world." in page


def test_killed_it_leaves_no_process_and_the_next_one_takes_its_place(tmp_path):
    """The next one has its stores in PostgreSQL, and its passwords remain secret."""
    with running_up(tmp_path) as up, postgres() as cluster:
        family = descendants(up.process.pid)
        assert len(family) >= 4
        kill([up.process.pid])
        up.process.wait()
        # It may be started at once: it waits for the guard, which has the lock
        databases = {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": cluster.url("postgresql+asyncpg", "prefect"),
            "MLFLOW_BACKEND_STORE_URI": cluster.url("postgresql+psycopg", "mlflow"),
        }
        with running_up(up.folder, **databases) as second:
            assert [pid for pid in family if alive(pid)] == []
            assert not responds(f"{up.api}/health")
            check_postgres(second, cluster)
            family = descendants(second.process.pid)
            second.process.send_signal(signal.SIGINT)
            assert second.process.wait(timeout=120) == 0
            assert [pid for pid in family if alive(pid)] == []
            assert not responds(f"{second.api}/health")


def check_postgres(up: Up, cluster) -> None:
    """A run of the pipeline is in both databases, and the password nowhere else."""
    from prefect.client.orchestration import SyncPrefectClient

    with SyncPrefectClient(up.api) as client:
        parameters = {**SMALL, "learners": ["linucb"], "data": str(up.folder / "d")}
        run = start(client, "pipeline/nightly-modified-lts-20-2", parameters)
        wait_until(lambda: client.read_flow_run(run.id).infrastructure_pid, 120, "the process")
        for pid in descendants(up.process.pid):
            assert cluster.password not in command_line(pid)
        for pid in up.family("worker"):
            assert cluster.password not in Path(f"/proc/{pid}/environ").read_text()
        assert "promoted" in ended(client, run.id).tags
        logs = "".join(log.message for log in client.read_logs(limit=200))
        known = [*client.read_flow_runs(), *client.read_deployments(), *client.read_artifacts()]
        said = "".join(one.model_dump_json() for one in known) + logs + "".join(up.lines)
    assert "linucb" in said
    assert cluster.password not in said
    for log in up.folder.glob("*.log"):
        assert cluster.password not in log.read_text(), log
    name = "slateflow-modified-lts-20-2"
    assert (name, 1) in cluster.ask("SELECT name, version FROM model_versions", "mlflow")
    states = cluster.ask(f"SELECT state_name FROM flow_run WHERE id = '{run.id}'", "prefect")
    assert states == [("Completed",)]
