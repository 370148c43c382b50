"""Runs whose process is gone, and which would otherwise be "Running" for ever.

Prefect can find such runs by their heartbeats, and an automation can then mark them as crashed.
The sweep stays because that needs an automation on every server, and a heartbeat thread, for which
every flow run waits a second at its end; it finds a run minutes after its death, not seconds, and
never one that was taken and not begun, nor one from a shell, which sends no heartbeats here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tasks.processes import process_is_gone, this_process
from tasks.server.deployments import POOL, request_overview

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

_PENDING_SECONDS = 600.0  # our workers start a process within seconds


def record_process(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Record the process of a run that no worker started; a hook for flows that begin."""
    if flow_run.deployment_id is not None:  # the worker records its own
        return
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, infrastructure_pid=this_process())


def sweep_orphans(client: SyncPrefectClient) -> list[str]:
    """Mark runs whose process on this machine is gone as crashed; returns their names.

    The worker records the process of each run that it starts, and runs from a shell record their
    own. Where the process died with its worker, or had none, nobody reports its end. Subflows
    crash with their parent; so does a run that a worker took and died before it started it.
    """
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.states import Crashed

    started = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
    runs = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(started))
    children: dict[Any, list[FlowRun]] = {}
    for run in runs:
        if run.parent_task_run_id is not None:
            parent = client.read_task_run(run.parent_task_run_id).flow_run_id
            children.setdefault(parent, []).append(run)
    swept = {run.id: run for run in runs if _is_orphan(run)}
    for parent in list(swept):
        swept |= {child.id: child for child in children.get(parent, [])}
    for run in swept.values():
        process = run.infrastructure_pid
        cause = f"Process {process} is gone" if process else "The worker that took it is gone"
        message = f"{cause}; found by the sweep"
        client.set_flow_run_state(run.id, Crashed(message=message), force=True)
    _end_tasks(client)
    if swept:
        request_overview(client)
    return [run.name for run in swept.values()]


def _end_tasks(client: SyncPrefectClient) -> None:
    """Mark the tasks of flow runs that have ended as crashed, where they would run for ever."""
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
    from prefect.states import Crashed

    ended = {"state": {"type": {"any_": ["CRASHED", "FAILED", "CANCELLED"]}}}
    begun = {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}
    left = client.read_task_runs(
        flow_run_filter=FlowRunFilter.model_validate(ended),
        task_run_filter=TaskRunFilter.model_validate(begun),
    )
    for task_run in left:
        message = "Its flow run has ended; found by the sweep"
        client.set_task_run_state(task_run.id, Crashed(message=message), force=True)


def _is_orphan(run: FlowRun) -> bool:
    """Whether nobody works on the run."""
    state = run.state
    if state is None:
        return False
    entered = state.timestamp.timestamp()
    if not state.is_pending():
        return process_is_gone(run.infrastructure_pid, entered)
    # Until it begins, a run that is tried again has the process of the try before
    return (
        time.time() - entered > _PENDING_SECONDS
        and run.work_pool_name == POOL
        and (run.infrastructure_pid is None or process_is_gone(run.infrastructure_pid, entered))
    )
