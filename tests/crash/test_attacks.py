"""The servers of `slateflow up` answer only their owner, and the passwords remain secret."""

from __future__ import annotations

import os
import subprocess

import pytest

from flows.services.processes import alive, descendants
from tests.crash.attack_table import LOGIN, PASSWORD, PASSWORDS, USER, answers, table
from tests.servers import BIN
from tests.up import command_line, kill, refused, running_up, wait_until

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(600)]

DEPLOYMENT = "pipeline/nightly-modified-lts-10-1"


@pytest.fixture(scope="module")
def protected(tmp_path_factory):
    """An `up` that requires passwords."""
    with running_up(tmp_path_factory.mktemp("protected"), **PASSWORDS) as up:
        yield up


def test_strangers_are_refused(protected):
    given = answers(protected)
    print(table(given))
    assert [(one.target, one.who, one.text) for one in given if not one.good] == []


def test_a_night_with_passwords_which_are_nowhere_but_in_the_environment(protected):
    """The worker's run, its events and its promotion succeed, and then a shell's rollback."""
    from prefect.client.orchestration import SyncPrefectClient

    up = protected
    with SyncPrefectClient(up.api, auth_string=LOGIN) as client:
        parameters = {"episodes": 60, "learners": ["linucb"], "evaluation_episodes": 100}
        run = client.create_flow_run_from_deployment(
            client.read_deployment_by_name(DEPLOYMENT).id,
            parameters={**parameters, "data": f"{up.folder}/d"},
        )
        seen: set[str] = set()

        def ended() -> bool:
            seen.update(command_line(pid) for pid in descendants(up.process.pid))
            return client.read_flow_run(run.id).state.is_final()

        wait_until(ended, 400, "the run's end")
        state = client.read_flow_run(run.id).state
        assert state.is_completed(), state
        logs = "".join(log.message for log in client.read_logs(limit=200))
        known = [*client.read_flow_runs(), *client.read_deployments(), *client.read_artifacts()]
        said = "".join(one.model_dump_json() for one in known) + logs + "".join(up.lines)
    assert any("prefect.engine" in line or "flow-run" in line for line in seen), seen
    assert PASSWORD not in said + "".join(seen)
    for file in [*up.folder.glob("*.log"), up.folder / "users.ini"]:
        assert PASSWORD not in file.read_text(), file

    def shell(*command: str, **environment: str) -> str:
        known = {"PREFECT_API_URL": up.api, "MLFLOW_TRACKING_URI": up.mlflow, **environment}
        done = subprocess.run(
            [str(BIN / "slateflow"), *command],
            env={**os.environ, "PREFECT_HOME": str(up.folder / "shell"), **known},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        return done.stderr

    back = ("rollback", "modified-lts-10-1")
    assert "before the champion, found none; version 1 reigns" in shell(*back, **PASSWORDS)
    assert "MLFLOW_TRACKING_PASSWORD: expected a user of" in shell(*back)
    assert "PREFECT_API_AUTH_STRING: expected the NAME:PASSWORD of" in shell("deploy")


def test_databases_and_logs_are_their_owners(protected):
    files = {path.name: path for path in protected.folder.iterdir()}
    known = {"mlflow.db", "users.db", "users.ini", "prefect.log", "mlflow.log", "worker.log"}
    assert known | {"prefect", "up.lock"} <= set(files)
    open_to_others = {name for name, path in files.items() if path.stat().st_mode & 0o077}
    assert open_to_others <= {"d", "shell"}  # of the run and the shell in the previous test
    assert not (files["prefect"] / "prefect.db").stat().st_mode & 0o077


def test_the_next_one_ends_what_is_left_and_needs_the_password_of_the_users(tmp_path):
    """Both `up` and its guard were killed; MLflow keeps its users, whatever the variables."""
    with running_up(tmp_path, **PASSWORDS) as up:
        left = descendants(up.process.pid)
        guards = [pid for pid in left if "flows.services.guard" in command_line(pid)]
        assert len(guards) == 1
        kill([up.process.pid, *guards])
        up.process.wait()
    assert [alive(pid) for pid in left].count(True) >= 4
    changed = {**PASSWORDS, "MLFLOW_TRACKING_PASSWORD": "a-new-password"}
    line = refused(up.command(*up.ports), started=True, **changed)
    assert [pid for pid in left if alive(pid)] == []
    assert line.startswith(
        f"MLFLOW_TRACKING_PASSWORD: expected the password that {USER} has in {tmp_path}/users.db, "
    )
