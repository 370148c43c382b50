"""Runs that did not succeed: failed, crashed, or not finished by their hour."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from slateflow.errors import InputError

FLOWS = ("pipeline", "generate", "train", "evaluate", "register", "prune")
"""Flows whose failures somebody has to know of; all but the last have a recipe."""
_MOST = 200
_UNFINISHED = ["SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING"]


def failed_runs() -> list[FlowRun]:
    """The newest runs that failed or crashed, without those that another run started."""
    return _read({"type": {"any_": ["FAILED", "CRASHED"]}})


def overdue_runs() -> list[FlowRun]:
    """Runs that should have finished by now, see `finishing_hours`."""
    due = datetime.now(UTC) - timedelta(hours=finishing_hours())
    return _read({"type": {"any_": _UNFINISHED}}, expected_start_time={"before_": due})


def finishing_hours() -> float:
    """Hours after its scheduled start by which a run has to be finished: `SLATEFLOW_ALERT_HOURS`.

    Raises:
        InputError: It is not a number above 0.
    """
    given = os.environ.get("SLATEFLOW_ALERT_HOURS", "3")
    try:
        hours = float(given)
    except ValueError:
        hours = 0.0
    if not 0 < hours < 10_000:
        raise InputError(
            f"SLATEFLOW_ALERT_HOURS: expected a number of hours, such as 3, got {given!r}"
        )
    return hours


def recipe_of(run: FlowRun) -> str | None:
    """Name of the run's recipe, from its parameters; None where they do not have it."""
    found: Any = run.parameters.get("verdict", run.parameters)
    if isinstance(found, dict):
        found = found.get("experiment", found)
    if isinstance(found, dict):
        found = found.get("recipe")
    if isinstance(found, dict):
        found = found.get("name")
    return found if isinstance(found, str) else None


def _read(state: dict[str, Any], **criteria: Any) -> list[FlowRun]:
    chosen = {"state": state, "parent_task_run_id": {"is_null_": True}, **criteria}
    with get_client(sync_client=True) as client:
        return list(
            client.read_flow_runs(
                flow_filter=FlowFilter.model_validate({"name": {"any_": list(FLOWS)}}),
                flow_run_filter=FlowRunFilter.model_validate(chosen),
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
                limit=_MOST,
            )
        )
