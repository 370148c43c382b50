"""Runs whose process is gone: nobody else would say so, and they would be "Running" for ever."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.server.deployments import POOL

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

_PENDING_SECONDS = 600.0  # our workers start a process within seconds
_CLOCK_SECONDS = 5.0  # the boot time, to which process times are relative, is not exact


def record_process(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Write down the process of a run that no worker started; a hook for flows that begin."""
    if flow_run.deployment_id is not None:  # the worker writes down its own
        return
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        process = f"{socket.gethostname()}:{os.getpid()}"
        client.update_flow_run(flow_run.id, infrastructure_pid=process)


def sweep_orphans(client: SyncPrefectClient) -> list[str]:
    """Mark runs whose process on this machine is gone as crashed; gives their names.

    The worker writes down the process of each run it starts, and runs from a shell their own. When
    a process dies and its worker with it, or it had none, nobody is left to say so. Its tasks
    and subflows end with it. So does a run that a worker took, and died before it started it.
    """
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    started = FlowRunFilterStateType(
        any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    )
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=started))
    )
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
        what = f"Process {process} is gone" if process else "A worker took it and is gone"
        message = f"{what}; found by the sweep"
        client.set_flow_run_state(run.id, Crashed(message=message), force=True)
    return [run.name for run in swept.values()]


def _is_orphan(run: FlowRun) -> bool:
    """Whether nobody works on it any more."""
    state = run.state
    if state is None:
        return False
    entered = state.timestamp.timestamp()
    if not state.is_pending():
        return _process_is_gone(run.infrastructure_pid, entered)
    # Until it begins, a run that is tried again has the process of the try before
    return (
        time.time() - entered > _PENDING_SECONDS
        and run.work_pool_name == POOL
        and (run.infrastructure_pid is None or _process_is_gone(run.infrastructure_pid, entered))
    )


def _process_is_gone(infrastructure: str | None, entered: float) -> bool:
    """Whether it is a process of this machine that does not run any more.

    Args:
        infrastructure: `host:pid`, or `pid`.
        entered: When the run entered its state; a process that began later is another one, which
            got the number.
    """
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
    return _has_ended_or_is_younger(int(pid), entered + _CLOCK_SECONDS)


def _has_ended_or_is_younger(pid: int, moment: float) -> bool:
    """Whether only its parent has not looked yet, or it began after the moment.

    False where there is no /proc.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return False
    state, ticks = stat[0], int(stat[19])
    return state == "Z" or time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK") > moment
