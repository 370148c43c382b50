"""Deployments that are pruned, runs that are swept, on Prefect's test API."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tasks.deployments import (
    POOL,
    ensure_pool,
    planned_deployments,
    prune_deployments,
    sweep_orphans,
)


@pytest.fixture(scope="module")
def client(embedded):
    """A client of the test API, with the work pool made."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        ensure_pool(client)
        ensure_pool(client)  # it may be there
        yield client


@pytest.fixture(scope="module")
def flow_id(client):
    from flows.pipeline import pipeline

    return client.create_flow(pipeline)


def test_planned_deployments_are_those_of_the_file():
    planned = {one.name: one for one in planned_deployments()}
    nightly = planned["nightly-modified-lts-20-2"]
    assert nightly.flow == "pipeline"
    assert nightly.schedules == ("0 3 * * * UTC",)


def test_only_ours_that_are_not_planned_any_more_are_pruned(client, flow_id):
    planned = planned_deployments()
    entrypoint = planned[0].entrypoint

    def create(name: str, tags: list[str], pool: str | None = POOL) -> None:
        client.create_deployment(
            flow_id, name, entrypoint=entrypoint, tags=tags, work_pool_name=pool
        )

    create(planned[0].name, ["slateflow"])
    create("former", ["slateflow", "nightly"])
    create("somebody-else", ["other"])
    create("ours-elsewhere", ["slateflow"], pool=None)
    assert prune_deployments(client, planned) == ["former"]
    left = {deployment.name for deployment in client.read_deployments()}
    assert {planned[0].name, "somebody-else", "ours-elsewhere"} <= left
    assert "former" not in left


def test_runs_of_dead_processes_are_crashed_and_others_are_not(client):
    from prefect import flow
    from prefect.states import Running

    @flow(name="waiting")
    def waiting() -> None: ...

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    def run(process: str | None):
        created = client.create_flow_run(waiting, state=Running())
        if process is not None:
            client.update_flow_run(created.id, infrastructure_pid=process)
        return created

    dead, alive = run(f"{ended.pid}"), run(f"{os.getpid()}")
    elsewhere, unknown = run(f"elsewhere:{ended.pid}"), run(None)
    assert sweep_orphans(client) == [dead.name]
    state = client.read_flow_run(dead.id).state
    assert state.is_crashed()
    assert str(ended.pid) in state.message
    for other in (alive, elsewhere, unknown):
        assert client.read_flow_run(other.id).state.is_running()
    assert sweep_orphans(client) == []
