"""A recipe's nights: verdicts and rollbacks, which are runs in MLflow, and runs that failed.

A verdict is logged by every path that may move the champion: a pipeline, a registration by an event
or from a shell. A failed run leaves nothing in MLflow, so it comes from Prefect, which knows it
even after `kill -9`.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prefect.runtime import flow_run

from slateflow.evaluation import Comparison
from tasks.reports.report import NO_VERDICT, Champion, Report
from tasks.server.failures import failed_runs, recipe_of
from tasks.store.tracking import experiment_id

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient
    from prefect.client.schemas.objects import FlowRun

ROLLED_BACK = "Rolled back"
_FLOW_RUN = "slateflow.flow_run"
_OUTCOME = "slateflow.state"
_LEARNER = "slateflow.best_learner"
_REIGNING = "slateflow.reigning_champion"
_CHAMPION = "slateflow.new_champion"
_EVIDENCE = "slateflow.evidence"
_MOST = 200
_MOST_CHARACTERS = 160  # of a message, in a table


@dataclass(frozen=True)
class Best:
    """The best candidate of a night, or its winner."""

    learner: str
    mean: float
    sem: float
    uplift: float
    score: float | None


@dataclass(frozen=True)
class PastRun:
    """A night.

    Attributes:
        moment: When it was scheduled, or began.
        outcome: `Promoted`, `Kept champion`, `No winner`, `No verdict`, `Rolled back`, or the state
            of a run that failed.
        flow_run: The run in Prefect; None where there was none.
        evidence: Kind of evidence of its verdict.
        best: The best candidate; None where there is no verdict to show.
        reigning: The champion before it, on the same users.
        over_champion: The best candidate's uplift over the reigning champion.
        champion: The version that became champion.
        message: Why it failed.
    """

    moment: datetime
    outcome: str
    flow_run: str | None = None
    evidence: str = "played"
    best: Best | None = None
    reigning: Champion | None = None
    over_champion: Comparison | None = None
    champion: int | None = None
    message: str = ""

    @property
    def judged(self) -> bool:
        """Whether pages and charts can show its figures."""
        return self.best is not None and self.outcome != NO_VERDICT

    @property
    def failed(self) -> bool:
        """Whether it ended without a verdict or a rollback."""
        return self.best is None and self.champion is None


def log_report(client: MlflowClient, report: Report) -> None:
    """Log a report's best candidate and champion as a run of the recipe's experiment.

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
    best = report.winner or report.candidates[0]
    figures = {
        "best_mean": best.mean,
        "best_sem": best.sem,
        "best_uplift": best.uplift,
        "best_score": best.score,
        "random_mean": report.baseline.mean,
    }
    tags = {_LEARNER: best.learner, _OUTCOME: report.outcome, _EVIDENCE: report.experiment.evidence}
    if (reigning := report.champion) is not None:
        tags[_REIGNING] = str(reigning.version)
        figures |= {"champion_mean": reigning.mean, "champion_sem": reigning.sem}
    if (over := best.over_champion) is not None:
        low, high = over.ci
        figures |= {
            "over_champion": over.uplift,
            "over_champion_low": low,
            "over_champion_high": high,
            "over_champion_p": over.p_value,
        }
    if report.registered is not None:
        tags[_CHAMPION] = str(report.registered.version)
    now = int(time.time() * 1000)
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, v, now, 0) for name, v in figures.items() if v is not None],
        tags=[RunTag(key, value) for key, value in tags.items()],
    )
    client.set_terminated(run.info.run_id, "FINISHED")


def log_rollback(client: MlflowClient, recipe: str, champion: int) -> None:
    """Log that a version is the champion again."""
    run = client.create_run(
        experiment_id(client, recipe),
        run_name=f"rollback-{recipe}",
        tags={_OUTCOME: ROLLED_BACK, _CHAMPION: str(champion)},
    )
    client.set_terminated(run.info.run_id, "FINISHED")


def past_runs(
    client: MlflowClient, recipe: str, failed: Sequence[FlowRun] | None = None
) -> list[PastRun]:
    """A recipe's nights, the newest first.

    Args:
        client: Of MLflow.
        recipe: Its name.
        failed: Runs that failed, of any recipe; default those that Prefect knows.
    """
    logged = client.search_runs(
        [experiment_id(client, recipe)],
        f"tags.`{_OUTCOME}` != '' and attributes.status = 'FINISHED'",
        max_results=_MOST,
        order_by=["start_time DESC"],
    )
    failed = failed_runs() if failed is None else failed
    nights = [_logged(run) for run in logged]
    nights += [failed_night(run) for run in failed if recipe_of(run) == recipe]
    return sorted(nights, key=lambda night: night.moment, reverse=True)


def failed_night(run: FlowRun) -> PastRun:
    """A flow run that failed or crashed."""
    state, moment = run.state, run.expected_start_time or run.start_time
    assert state is not None
    assert moment is not None
    message = (state.message or "").strip().partition("\n")[0].replace("|", "/")
    message = textwrap.shorten(message, _MOST_CHARACTERS, placeholder=" …")
    return PastRun(moment, str(state.name), str(run.id), message=message)


def _logged(run: Run) -> PastRun:
    tags, figures = run.data.tags, run.data.metrics
    champion = tags.get(_CHAMPION)
    return PastRun(
        moment=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        outcome=tags[_OUTCOME],
        flow_run=tags.get(_FLOW_RUN),
        evidence=tags.get(_EVIDENCE, "played"),
        best=_best(tags, figures),
        reigning=_reigning(tags, figures),
        over_champion=_over_champion(figures),
        champion=None if champion is None else int(champion),
    )


def _best(tags: Mapping[str, str], figures: Mapping[str, float]) -> Best | None:
    if "best_mean" not in figures:
        return None
    mean, sem, uplift = (figures[f"best_{name}"] for name in ("mean", "sem", "uplift"))
    return Best(tags[_LEARNER], mean, sem, uplift, figures.get("best_score"))


def _reigning(tags: Mapping[str, str], figures: Mapping[str, float]) -> Champion | None:
    if _REIGNING not in tags:
        return None
    mean, sem = figures["champion_mean"], figures["champion_sem"]
    return Champion(version=int(tags[_REIGNING]), mean=mean, sem=sem)


def _over_champion(figures: Mapping[str, float]) -> Comparison | None:
    if "over_champion" not in figures:
        return None
    ci = figures["over_champion_low"], figures["over_champion_high"]
    return Comparison(uplift=figures["over_champion"], ci=ci, p_value=figures["over_champion_p"])
