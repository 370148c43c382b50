"""The trend over a recipe's reports: each is a run in MLflow, and a row of the next page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prefect.runtime import flow_run

from tasks.reports.report import Report
from tasks.store.tracking import experiment_id

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

_FLOW_RUN = "slateflow.flow_run"
_SHOWN = 30


def log_report(client: MlflowClient, report: Report) -> None:
    """Log a report's best candidate as a run of the recipe's experiment.

    The report of a flow run that is retried takes the place of its first.
    """
    from mlflow.entities import Metric, RunTag

    experiment = experiment_id(client, report.experiment.recipe)
    logged = client.search_runs([experiment], f"tags.`{_FLOW_RUN}` = '{flow_run.id}'")
    run = next(iter(logged), None) or client.create_run(
        experiment,
        start_time=int(flow_run.scheduled_start_time.timestamp() * 1000),
        run_name=f"report-{report.experiment.recipe}",
        tags={_FLOW_RUN: str(flow_run.id)},
    )
    best = report.candidates[0]
    figures = {"mean": best.mean, "sem": best.sem, "uplift": best.uplift, "score": best.score}
    tags = {"slateflow.best_learner": best.learner, "slateflow.state": report.state_name}
    now = int(time.time() * 1000)
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(f"best_{k}", v, now, 0) for k, v in figures.items() if v is not None],
        tags=[RunTag(key, value) for key, value in tags.items()],
    )
    client.set_terminated(run.info.run_id, "FINISHED")


def past_runs(client: MlflowClient, recipe: str) -> list[Run]:
    """The runs of the recipe's reports, the newest first."""
    reports = client.search_runs(
        [experiment_id(client, recipe)],
        f"tags.`{_FLOW_RUN}` != '' and attributes.status = 'FINISHED'",
        max_results=_SHOWN,
        order_by=["start_time DESC"],
    )
    return list(reports)
