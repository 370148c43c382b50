"""Register: the winner becomes the champion in MLflow; without a winner nothing happens."""

from __future__ import annotations

from typing import cast

from prefect import flow
from prefect.states import Completed

from tasks.register import register_winner
from tasks.reports.overview import publish_overview
from tasks.reports.page import publish_report
from tasks.reports.report import Report
from tasks.server.orphans import record_process
from tasks.server.run_labels import label_run
from tasks.server.subflows import within_pipeline


@flow(
    name="register",
    flow_run_name="register {verdict.experiment.recipe}",
    on_running=[record_process],
)
def register(verdict: Report) -> Report:
    """Register the verdict's winner if it also wins against the champion of this moment.

    Args:
        verdict: The report of `evaluate`.
    """
    report = register_winner(verdict)
    if not within_pipeline():
        publish_report(report)
        publish_overview(return_state=True)
    label_run(report.outcome)
    return cast(Report, Completed(message=report.summary, data=report))
