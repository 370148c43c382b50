"""`slateflow up` with its real servers and worker."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from flows.services import answers, descendants
from tests.browser.pages import open_page, table_rows
from tests.servers import BIN, free_port

pytestmark = [pytest.mark.services, pytest.mark.slow]


class Up:
    """A running `slateflow up` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = free_port(), free_port()
        self.process = subprocess.Popen(
            self.command(*self.ports), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self.read_until("Ctrl-C stops them all")

    def command(self, prefect: int, mlflow: int) -> list[str]:
        """The command line with these ports."""
        ports = ["--prefect-port", str(prefect), "--mlflow-port", str(mlflow)]
        return [str(BIN / "slateflow"), "up", "--folder", str(self.folder), *ports]

    def read_until(self, text: str) -> None:
        """Read what it prints up to a line that has the text."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return
        raise AssertionError("\n".join(self.lines))

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}/api"


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """Everything up, and ended if the tests have not done it."""
    running = Up(tmp_path_factory.mktemp("up"))
    yield running
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGINT)
        running.process.wait(timeout=60)
    running.process.stdout.close()


def refused(command: list[str]) -> str:
    """The one line of a command that is refused."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    return line


def test_both_servers_answer_and_it_says_what_runs_when(up):
    prefect, mlflow = (f"http://127.0.0.1:{port}" for port in up.ports)
    assert answers(f"{prefect}/api/health")
    assert answers(f"{mlflow}/health")
    assert f"Prefect   {prefect}" in up.lines
    assert f"MLflow    {mlflow}" in up.lines
    assert f"{'0 3 * * * UTC':28s} pipeline/nightly-modified-lts-20-2" in up.lines


def test_a_second_one_says_that_it_runs(up):
    line = refused(up.command(free_port(), free_port()))
    assert f"process {up.process.pid} (Prefect on {up.ports[0]}" in line


def test_a_taken_port_is_named(up, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = up.command(free_port(), port)
        command[command.index("--folder") + 1] = str(tmp_path)
        line = refused(command)
    assert line.startswith(f"slateflow: MLflow: expected port {port} of 127.0.0.1 to be free")
    assert "--mlflow-port" in line


def test_a_server_that_does_not_come_up_is_named_and_leaves_nothing(up, tmp_path):
    command = [*up.command(free_port(), free_port()), "--mlflow-database", "nosuch://store"]
    command[command.index("--folder") + 1] = str(tmp_path)
    line = refused(command)
    assert line.startswith("slateflow: mlflow: expected it to come up, it ended; see ")
    assert str(tmp_path / "mlflow.log") in line


def test_a_run_killed_together_with_its_worker_is_crashed_and_the_next_one_finishes(up):
    from prefect.client.orchestration import SyncPrefectClient

    parameters = {"episodes": 60, "learners": ["fitted-q"], "evaluation_episodes": 100}
    with SyncPrefectClient(up.api) as client:
        deployment = client.read_deployment_by_name("pipeline/nightly-modified-lts-10-1").id

        def start(**changed):
            data = {"data": str(up.folder / "data")}
            return client.create_flow_run_from_deployment(
                deployment, parameters={**parameters, **data, **changed}
            )

        def wait(run, reached, seconds=150):
            deadline = time.monotonic() + seconds
            while not reached(client.read_flow_run(run.id)):
                assert time.monotonic() < deadline, client.read_flow_run(run.id)
                time.sleep(0.3)
            return client.read_flow_run(run.id)

        killed = start(episodes=20_000, evaluation_episodes=20_000)
        wait(killed, lambda run: run.state.is_running() and run.infrastructure_pid)
        (worker,) = [pid for pid in descendants(up.process.pid) if "worker" in words(pid)]
        for pid in [worker, *descendants(worker)]:
            os.kill(pid, signal.SIGKILL)
        up.read_until("worker ended; started again")
        state = wait(killed, lambda run: run.state.is_final()).state
        assert state.is_crashed()
        assert "is gone; found by the sweep" in state.message

        finished = wait(start(), lambda run: run.state.is_final())
        assert finished.state.name == "Promoted", finished.state


def test_the_browser_shows_the_run_and_the_figures_of_its_report(up):
    import mlflow
    from prefect.client.orchestration import SyncPrefectClient

    ui = up.api.removesuffix("/api")
    with SyncPrefectClient(up.api) as client:
        run = next(run for run in client.read_flow_runs() if run.state.name == "Promoted")
        report = next(a for a in client.read_artifacts() if a.key == "slateflow-modified-lts-10-1")
    page = open_page(f"{ui}/runs/flow-run/{run.id}", "Promoted", up.folder / "browser")
    assert "pipeline modified-lts-10-1" in page

    store = mlflow.MlflowClient(f"http://127.0.0.1:{up.ports[1]}")
    experiment = store.get_experiment_by_name("slateflow-modified-lts-10-1")
    # A killed run may have left a training, but no evaluation
    (trained,) = [
        run.data.metrics
        for run in store.search_runs([experiment.experiment_id])
        if "evaluation_mean" in run.data.metrics
    ]
    address = f"{ui}/artifacts/artifact/{report.id}"
    page = open_page(address, "registered as version 1", up.folder / "browser")
    (row,) = [row for row in table_rows(page) if row[0] == "fitted-q"]
    assert row[1] == f"{trained['evaluation_mean']:.2f} ± {trained['evaluation_sem']:.2f}"
    assert row[2].startswith(f"{trained['uplift']:+.2f} [{trained['uplift_ci_low']:+.2f}, ")
    assert row[6] == "winner"
    link = f"127.0.0.1:{up.ports[1]}/#/models/slateflow-modified-lts-10-1/versions/1"
    assert link in page


def words(pid: int) -> list[str]:
    """The command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def test_ctrl_c_ends_all_and_leaves_no_process(up):
    family = descendants(up.process.pid)
    assert len(family) >= 3
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(timeout=60) == 0
    assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []
    assert not answers(f"{up.api}/health")
