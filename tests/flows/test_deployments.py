"""Pruned deployments and swept runs, on Prefect's test API."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.events import DeploymentEventTrigger

from flows.pipeline import pipeline
from flows.services.up import _sweep
from tasks import processes
from tasks.project import PROJECT
from tasks.server import orphans
from tasks.server.deployments import (
    POOL,
    ensure_pool,
    planned_deployments,
    prune_deployments,
)
from tasks.server.orphans import sweep_orphans


@pytest.fixture(scope="module")
def client(embedded):
    """A client of the test API, with the work pool."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        ensure_pool(client)
        ensure_pool(client)  # it may be there
        yield client


@pytest.fixture(scope="module")
def flow_id(client):
    return client.create_flow(pipeline)


def test_planned_deployments_are_those_of_the_file():
    planned = {one.name: one for one in planned_deployments()}
    nightly = planned["nightly-modified-lts-20-2"]
    assert nightly.flow == "pipeline"
    assert nightly.schedules == ("0 3 * * * UTC",)
    entries = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
    for entry in entries:
        assert entry["description"], entry["name"]
        assert "slateflow" in entry["tags"]
        assert entry["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
        both = entry["name"] == "overview"
        assert (("schedules" in entry) != ("triggers" in entry)) != both, entry["name"]


def test_the_deployment_of_own_logs_is_valid_when_it_is_uncommented(client, flow_id):
    text = (PROJECT / "prefect.yaml").read_text()
    block = text[text.index("  # - name: nightly-shop") :].split("\n\n")[0]
    active = text.replace(block, re.sub("(?m)^  # ", "  ", block))
    former, document = (yaml.safe_load(one)["deployments"] for one in (text, active))
    (entry,) = [one for one in document if one not in former]
    assert len(document) == len(former) + 1
    nightly = next(one for one in former if one["name"] == "nightly-modified-lts-20-2")
    assert set(entry) == set(nightly)
    same = ("entrypoint", "tags", "concurrency_limit", "work_pool")
    assert [entry[key] for key in same] == [nightly[key] for key in same]
    pipeline.validate_parameters(entry["parameters"])
    made = client.create_deployment(
        flow_id,
        entry["name"],
        entrypoint=entry["entrypoint"],
        parameters=entry["parameters"],
        work_pool_name=entry["work_pool"]["name"],
        schedules=[
            DeploymentScheduleCreate(schedule=CronSchedule(**one)) for one in entry["schedules"]
        ],
    )
    assert client.read_deployment(made).parameters == {"recipe": "shop"}


# By the flow that they call, not by their descriptions in prefect.yaml
EMITTED = {
    "generate": {"slateflow.dataset.published"},
    "train": {"slateflow.model.trained", "slateflow.training.finished"},
    "evaluate": {"slateflow.verdict.given"},
    "register": {"slateflow.model.promoted"},
}
EMITTED["pipeline"] = set().union(*EMITTED.values())


def test_no_chain_of_events_comes_back_to_where_it_began():
    """Even if every trigger matched all emitters of its event."""
    # The overview waits for what no step emits, and it emits nothing
    planned = [one for one in planned_deployments() if one.flow != "overview"]
    known = {event for events in EMITTED.values() for event in events}
    assert {event for one in planned for event in one.events} <= known

    def reached(flow: str, seen: tuple[str, ...] = ()) -> None:
        assert flow not in seen, f"{' → '.join(seen)} → {flow}"
        for one in planned:
            if EMITTED[flow] & set(one.events):
                reached(one.flow, (*seen, flow))

    for flow in EMITTED:
        reached(flow)
    assert [one.flow for one in planned if one.events] == ["train", "evaluate", "register"]


def test_the_events_are_those_that_are_emitted():
    source = (PROJECT / "tasks" / "server" / "lineage.py").read_text()
    assert set(re.findall(r'"(slateflow\.\w+\.[a-z]+)"', source)) == EMITTED["pipeline"]


def test_only_ours_that_are_not_planned_any_more_are_pruned(client, flow_id):
    planned = planned_deployments()
    entrypoint = planned[0].entrypoint

    def create(name: str, tags: list[str], pool: str | None = POOL):
        return client.create_deployment(
            flow_id, name, entrypoint=entrypoint, tags=tags, work_pool_name=pool
        )

    def trigger(name: str, deployment) -> None:
        triggered = DeploymentEventTrigger(name=name, expect={"slateflow.dataset.published"})
        triggered.set_deployment_id(deployment)
        client.create_automation(triggered.as_automation())

    trigger("kept", create(planned[0].name, ["slateflow"]))
    trigger("former", create("former", ["slateflow", "nightly"]))
    create("somebody-else", ["other"])
    create("ours-elsewhere", ["slateflow"], pool=None)
    assert prune_deployments(client, planned) == ["former"]
    left = {deployment.name for deployment in client.read_deployments()}
    assert {planned[0].name, "somebody-else", "ours-elsewhere"} <= left
    assert "former" not in left
    assert [automation.name for automation in client.read_automations()] == ["kept"]


def test_runs_of_dead_processes_are_crashed_and_others_are_not(client):
    from prefect import flow, task
    from prefect.states import Running

    @flow(name="waiting")
    def waiting() -> None: ...

    @task
    def step() -> None: ...

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    def run(process: str | None):
        created = client.create_flow_run(waiting, state=Running())
        if process is not None:
            client.update_flow_run(created.id, infrastructure_pid=process)
        return created

    dead, alive = run(f"{ended.pid}"), run(f"{os.getpid()}")
    elsewhere, unknown = run(f"elsewhere:{ended.pid}"), run(None)
    of_dead, of_alive = (
        client.create_task_run(step, one.id, "0", state=Running()).id for one in (dead, alive)
    )
    assert sweep_orphans(client) == [dead.name]
    assert client.read_task_run(of_dead).state.is_crashed()
    assert client.read_task_run(of_alive).state.is_running()
    state = client.read_flow_run(dead.id).state
    assert state.is_crashed()
    assert str(ended.pid) in state.message
    for other in (alive, elsewhere, unknown):
        assert client.read_flow_run(other.id).state.is_running()
    assert sweep_orphans(client) == []


def test_a_run_that_is_deleted_during_the_sweep_does_not_end_up(client, monkeypatch):
    from prefect import flow
    from prefect.states import Running

    @flow(name="waiting")
    def waiting() -> None: ...

    run = client.create_flow_run(waiting, state=Running())
    deleted = []

    def deletes(found) -> bool:
        if found.id == run.id:
            client.delete_flow_run(run.id)
            deleted.append(run.id)
        return found.id == run.id

    monkeypatch.setattr(orphans, "_is_orphan", deletes)
    _sweep(SimpleNamespace(client=lambda: nullcontext(client)))
    assert deleted == [run.id]


def test_a_process_that_has_ended_unseen_by_its_parent_is_gone(client):
    from prefect import flow
    from prefect.states import Running

    @flow(name="waiting")
    def waiting() -> None: ...

    with subprocess.Popen([sys.executable, "-c", ""]) as unseen:
        while Path(f"/proc/{unseen.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.05)
        run = client.create_flow_run(waiting, state=Running())
        client.update_flow_run(run.id, infrastructure_pid=f"{unseen.pid}")
        assert run.name in sweep_orphans(client)


def test_a_process_that_got_the_number_of_a_dead_one_hides_nothing(client, monkeypatch):
    from prefect import flow
    from prefect.states import Running

    @flow(name="waiting")
    def waiting() -> None: ...

    monkeypatch.setattr(processes, "_CLOCK_SECONDS", 1.0)
    older = client.create_flow_run(waiting, state=Running())
    time.sleep(2)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        younger = client.create_flow_run(waiting, state=Running())
        for run in (older, younger):
            client.update_flow_run(run.id, infrastructure_pid=f"{process.pid}")
        assert sweep_orphans(client) == [older.name]
        assert process.stdin is not None
        process.stdin.close()


def test_a_run_from_a_shell_writes_down_its_process(client):
    from flows.generate import generate

    seen = []
    generate.with_options(
        on_running=[*generate.on_running_hooks, lambda flow, run, state: seen.append(run.id)]
    )(episodes=2, data=str(Path(os.environ["MLFLOW_TRACKING_URI"][10:]).parent / "shell"))
    (run_id,) = seen
    process = client.read_flow_run(run_id).infrastructure_pid
    assert process == f"{socket.gethostname()}:{os.getpid()}"


def test_a_run_that_its_worker_took_and_never_began_is_crashed(client, flow_id, monkeypatch):
    from prefect.states import Pending

    deployment = client.create_deployment(flow_id, "waiting", work_pool_name=POOL)

    def taken():
        run = client.create_flow_run_from_deployment(deployment)
        client.set_flow_run_state(run.id, Pending())
        return run

    old = taken()
    # A retried run has the process of its previous attempt until the worker has begun
    client.update_flow_run(old.id, infrastructure_pid=f"{2**22 + 1}")  # no process has it
    assert old.name not in sweep_orphans(client)
    between = time.time()
    young = taken()
    clock = SimpleNamespace(time=lambda: between + 600)
    monkeypatch.setattr(orphans, "time", clock)
    assert sweep_orphans(client) == [old.name]
    assert client.read_flow_run(old.id).state.is_crashed()
    assert client.read_flow_run(young.id).state.is_pending()
