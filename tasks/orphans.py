"""Runs whose process is gone: nobody else would say so, and they would stay "Running"."""

from __future__ import annotations

import os
import socket
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

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
    and subflows end with it.
    """
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
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
    swept = {
        run.id: run for run in runs if _process_is_gone(run.infrastructure_pid, run.start_time)
    }
    for parent in list(swept):
        swept |= {child.id: child for child in children.get(parent, [])}
    for run in swept.values():
        message = f"Process {run.infrastructure_pid or 'of the parent'} is gone; found by the sweep"
        client.set_flow_run_state(run.id, Crashed(message=message), force=True)
    return [run.name for run in swept.values()]


def _process_is_gone(infrastructure: str | None, run_started: datetime | None) -> bool:
    """Whether it is a process of this machine that does not run any more; `host:pid` or `pid`."""
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
    began = _process_start(int(pid))
    # A process that is younger than the run has only got its number
    return (
        began is not None
        and run_started is not None
        and began > run_started.timestamp() + _CLOCK_SECONDS
    )


def _process_start(pid: int) -> float | None:
    """When a process began, in seconds since the epoch; None where there is no /proc."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return None
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")
