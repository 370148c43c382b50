"""Retries of tasks: only where the MLflow server was away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.store.tracking import UnreachableError

if TYPE_CHECKING:
    from prefect import Task
    from prefect.client.schemas.objects import State, TaskRun


def server_was_away(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether a task failed because a server did not answer."""
    from requests import exceptions  # MLflow's client speaks with it

    away = (
        *(UnreachableError, exceptions.ConnectionError, exceptions.Timeout),
        exceptions.ChunkedEncodingError,  # it died in the middle of an answer
    )
    error = state.data
    while isinstance(error, BaseException):
        if isinstance(error, away):
            return True
        error = error.__cause__ or error.__context__
    return False


_DELAYS = [2.0, 4.0, 8.0, *[16.0] * 6]  # nearly two minutes in all

RETRIES: Any = {
    "retries": len(_DELAYS),
    "retry_delay_seconds": _DELAYS,
    "retry_jitter_factor": 0.3,
    "retry_condition_fn": server_was_away,
}
"""Options of tasks that call MLflow, which can all be repeated."""
