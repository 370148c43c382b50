"""Flow runs within flow runs."""

from __future__ import annotations

from typing import TypeVar

from prefect.client.schemas.objects import RunType
from prefect.context import FlowRunContext

T = TypeVar("T")


def within_pipeline() -> bool:
    """Whether another flow run started this one, and publishes the report.

    `prefect.runtime` would ask the server, which may have just died.
    """
    context = FlowRunContext.get()
    run = None if context is None else context.flow_run
    return run is not None and run.parent_task_run_id is not None


def plain(result: T) -> T:
    """The result of a subflow, without the marks by which Prefect links it to that flow run.

    Otherwise the runs that take it, or any part of it, have an input of the kind `flow_run`, which
    Prefect's default pages cannot read: a run's list of tasks and the tasks' pages stay blank. A
    copy is not enough, for strings are known by their identity and copied by reference.
    """
    context = FlowRunContext.get()
    if context is not None:
        found = context.run_results
        for key in [key for key, (_, kind, _) in found.items() if kind == RunType.FLOW_RUN]:
            del found[key]
    return result
