"""What a Prefect server is told: the pool, prefect.yaml's deployments, which runs have died."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from tasks.tracking import PROJECT

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POOL, TAG = "slateflow", "slateflow"


@dataclass(frozen=True)
class Planned:
    """A deployment of prefect.yaml."""

    name: str
    entrypoint: str
    description: str
    schedules: tuple[str, ...]  # cron, and the time zone

    @property
    def flow(self) -> str:
        """Name of its flow, which is that of the function."""
        return self.entrypoint.rpartition(":")[2]


def planned_deployments() -> list[Planned]:
    """The deployments of prefect.yaml."""
    document: dict[str, Any] = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
    return [
        Planned(
            name=entry["name"],
            entrypoint=entry["entrypoint"],
            description=" ".join(entry["description"].split()),
            schedules=tuple(
                f"{schedule['cron']} {schedule.get('timezone', 'UTC')}"
                for schedule in entry.get("schedules", [])
            ),
        )
        for entry in document["deployments"]
    ]


def ensure_pool(client: SyncPrefectClient) -> None:
    """Make the work pool where it is missing."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    except ObjectAlreadyExists:
        return


def prune_deployments(client: SyncPrefectClient, planned: list[Planned]) -> list[str]:
    """Delete those of ours, by tag and pool, that are not planned any more; gives their names."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    wanted = {(one.entrypoint, one.name) for one in planned}
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    pruned = []
    for deployment in client.read_deployments(deployment_filter=ours):
        known = (deployment.entrypoint, deployment.name) in wanted
        if not known and deployment.work_pool_name == POOL:
            client.delete_deployment(deployment.id)
            pruned.append(deployment.name)
    return pruned


def sweep_orphans(client: SyncPrefectClient) -> list[str]:
    """Mark runs whose process on this machine is gone as crashed; gives their names.

    The worker writes down the process of each run it starts. When that dies together with the
    worker, nobody is left to say so, and the run would stay "Running". Its tasks and subflows
    end with it. A process id that the system has given to another process hides an orphan until
    that one ends, too.
    """
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import FlowRun, StateType
    from prefect.states import Crashed

    started = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING])
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=started))
    )
    children: dict[Any, list[FlowRun]] = {}
    for run in runs:
        if run.parent_task_run_id is not None:
            parent = client.read_task_run(run.parent_task_run_id).flow_run_id
            children.setdefault(parent, []).append(run)
    swept = [run for run in runs if _process_is_gone(run.infrastructure_pid)]
    for run in swept:
        swept += children.get(run.id, [])
        message = f"Process {run.infrastructure_pid or 'of the parent'} is gone; found by the sweep"
        client.set_flow_run_state(run.id, Crashed(message=message), force=True)
    return [run.name for run in swept]


def _process_is_gone(infrastructure: str | None) -> bool:
    """Whether it is a process of this machine that does not run; `host:pid` or `pid`."""
    if infrastructure is None:
        return False
    host, _, pid = infrastructure.rpartition(":")
    if host not in ("", socket.gethostname()) or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
