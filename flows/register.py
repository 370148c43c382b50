"""Register: the winner becomes the champion in MLflow; without a winner nothing happens."""

from __future__ import annotations

from typing import cast

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Completed

from tasks.register import register_winner
from tasks.reports.report import Report
from tasks.server.orphans import record_process


def _run_name() -> str:
    return f"register {flow_run.parameters['verdict'].experiment.recipe}"


@flow(name="register", flow_run_name=_run_name, on_running=[record_process])
def register(verdict: Report) -> Report:
    """Register the verdict's winner if it also wins against the champion of this moment.

    Args:
        verdict: The report of `evaluate`.
    """
    report = register_winner(verdict)
    return cast(Report, Completed(name=report.state_name, message=report.summary, data=report))
