"""The report page: a table, a small chart, and links, as a Prefect artifact."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from slateflow.charts import Histogram, Night, ValueInterval, data_uri, histograms, intervals, trend
from slateflow.digits import decimals, fixed
from slateflow.evaluation import Comparison
from slateflow.evaluation.off_policy.overlap import WEIGHT_EDGES
from tasks.experiment import ModelRef
from tasks.reports.alerts import Alert, alerts
from tasks.reports.past_runs import PastRun, log_report, past_runs
from tasks.reports.report import (
    CandidateLine,
    Champion,
    Optimum,
    OverlapFigures,
    PolicyLine,
    Report,
    ScoredPolicy,
)
from tasks.server.automations import raise_alert
from tasks.server.progress import artifact_key
from tasks.server.retries import RETRIES
from tasks.store.tracking import (
    experiment_page,
    mlflow_client,
    model_name,
    page_url,
    redact_passwords,
    run_page,
    tracking_uri,
)

SHOWN_NIGHTS = 30


@task(task_run_name="report {report.experiment.recipe}", **RETRIES)
def publish_report(report: Report) -> str:
    """Store the report, as Markdown, under a key that stays, and emit the alerts."""
    client, recipe = mlflow_client(), report.experiment.recipe
    log_report(client, report)
    nights = past_runs(client, recipe)
    written = [] if report.experiment.spec.simulated else report.experiment.open_dataset().written
    found = alerts(recipe, nights, written)
    for alert in found:
        raise_alert(recipe, alert, str(flow_run.id))
    markdown = render_markdown(
        report,
        run_links(report.candidates),
        redact_passwords(tracking_uri()),
        experiment_page(client, recipe),
        nights[:SHOWN_NIGHTS],
        found,
    )
    create_markdown_artifact(
        markdown, key=artifact_key("slateflow", recipe), description=report.summary
    )
    return markdown


@task(task_run_name="verdict on {report.experiment.recipe}", **RETRIES)
def publish_verdict(report: Report) -> str:
    """Store the verdict's table, as Markdown, for an evaluation that nothing follows."""
    recipe = report.experiment.recipe
    title = f"{recipe}: {report.headline}"
    links, weights = run_links(report.candidates), weights_picture(report)
    tables = [
        fill_in(name, report=report, links=links, weights=weights)
        for name in ("verdict.md", "figures.md")
    ]
    markdown = "\n\n".join([f"# {title}", *tables])
    create_markdown_artifact(markdown, key=artifact_key("verdict", recipe), description=title)
    return markdown


def run_links(models: Sequence[ModelRef]) -> dict[str, str | None]:
    """Address of each model's page in MLflow, by run id; None where MLflow is not a server."""
    client = mlflow_client()
    return {one.run_id: run_page(client, one.run_id) for one in models}


def render_markdown(
    report: Report,
    links: dict[str, str | None],
    store: str,
    experiment: str | None,
    past: Sequence[PastRun] = (),
    found: Sequence[Alert] = (),
) -> str:
    """The report as markdown.

    Args:
        report: The report.
        links: Address of each run's page, by run id; None where MLflow is not a server.
        store: MLflow's tracking URI.
        experiment: Address of the page with all trainings; None where MLflow is not a server.
        past: The recipe's nights, the newest first.
        found: The alerts.
    """
    registered = report.registered
    return fill_in(
        "report.md",
        report=report,
        recipe=report.experiment.recipe,
        dataset=report.experiment.dataset,
        chart=data_uri(return_chart(report)),
        weights=weights_picture(report),
        links=links,
        store=store,
        experiment=experiment,
        model=model_name(report.experiment.recipe),
        version_page=registered
        and page_url(store, f"models/{registered.name}/versions/{registered.version}"),
        past=past,
        trend=data_uri(trend_chart(past)) if past else None,
        alerts=found,
    )


def fill_in(template: str, **values: Any) -> str:
    """A page of the folder `templates`, with these values."""
    return _TEMPLATES.get_template(template).render(values)


def p_value_text(value: float) -> str:
    """A p-value as text, to the least that intervals from logs can tell."""
    return "<1e-12" if value < 1e-12 else f"{value:.1g}"


def mean_text(played: CandidateLine | PolicyLine | Champion | Optimum, decimals: int = 2) -> str:
    """A return and its standard error as text."""
    return f"{fixed(played.mean, decimals)} ± {fixed(played.sem, decimals)}"


def uplift_text(compared: CandidateLine | Comparison, digits: int = 2) -> str:
    """An uplift and its interval as text."""
    low, high = compared.ci
    uplift = fixed(compared.uplift, digits, "+")
    return f"{uplift} [{fixed(low, digits)}, {fixed(high, digits)}]"


def score_text(played: CandidateLine | ScoredPolicy, with_interval: bool = False) -> str:
    """A score as text, empty where it is not known."""
    if played.score is None:
        return ""
    if not with_interval or played.score_ci is None:
        return f"{played.score:.3f}"
    low, high = played.score_ci
    return f"{played.score:.3f} [{low:.3f}, {high:.3f}]"


def mean_weight_text(overlap: OverlapFigures) -> str:
    """The mean weight and its interval as text, empty where it was not checked."""
    if overlap.mean_weight is None or overlap.mean_weight_ci is None:
        return ""
    low, high = overlap.mean_weight_ci
    return f"{overlap.mean_weight:.3f} [{low:.3f}, {high:.3f}]"


def _link(text: str, address: str | None) -> str:
    return f"[{text}]({address})" if address else text


def run_link(text: str, run: str | None) -> str:
    """A link to a flow run's page; the text alone where there is no run."""
    return _link(text, run and f"/runs/flow-run/{run}")


def _night(night: PastRun) -> str:
    return run_link(moment_text(night.moment), night.flow_run)


def moment_text(moment: datetime) -> str:
    """A moment, in UTC, to the minute."""
    return f"{moment:%Y-%m-%d %H:%M}"


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    trim_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.globals.update(
    decimals=decimals,
    interval=uplift_text,
    link=_link,
    mean=mean_text,
    mean_weight=mean_weight_text,
    moment=moment_text,
    p_value=p_value_text,
    run=_night,
    score=score_text,
)


def return_chart(report: Report) -> str:
    """Mean returns as dots with 95% intervals, random and the optimum as lines (SVG).

    Behind them is the number that decides: uplift over the champion, or over random where there is
    none.
    """
    reigning, baseline, digits = report.champion, report.baseline, report.decimals
    rows = [
        _row(
            one.learner,
            one,
            highlighted=one.verdict == "winner",
            note=uplift_text(one if reigning is None else one.over_champion or one, digits),
        )
        for one in report.candidates
        if one.judged
    ]
    if reigning is not None:
        rows.append(_row(f"champion v{reigning.version}", reigning))
    rows.append(_row(baseline.policy, baseline))
    marks = {baseline.policy: baseline.mean}
    if report.optimum is not None:
        marks["optimum"] = report.optimum.mean
    rival = baseline.policy if reigning is None else f"champion v{reigning.version}"
    return intervals(rows, marks, "Mean return by policy", f"over {rival} (95%)", digits)


def _row(
    name: str,
    played: CandidateLine | PolicyLine | Champion,
    *,
    highlighted: bool = False,
    note: str = "",
) -> ValueInterval:
    """A policy in the chart."""
    return ValueInterval(name, *_with_bounds(played.mean, played.sem), highlighted, note)


def _with_bounds(mean: float, sem: float) -> tuple[float, float, float]:
    return mean, mean - 1.96 * sem, mean + 1.96 * sem


def _move(night: PastRun) -> str:
    """The champion's move on that night; empty without one."""
    if night.champion is None:
        return ""
    return f"back to v{night.champion}" if night.best is None else f"v{night.champion}"


def weights_picture(report: Report) -> str | None:
    """The weights of each candidate's estimate as histograms, in a link; None without weights."""
    rows = [
        Histogram(
            one.learner,
            np.array(WEIGHT_EDGES),
            np.array(one.overlap.weight_counts[1:]),
            mark=0.0,  # a weight of 1
            note=f"{one.overlap.weight_counts[0] / sum(one.overlap.weight_counts):.0%} are 0",
        )
        for one in report.candidates
        if one.overlap is not None and one.overlap.weight_counts
    ]
    if not rows:
        return None
    title = "Weights of logged decisions by candidate"
    return data_uri(histograms(rows, title, "weight", powers=True, alone=True))


def trend_chart(past: Sequence[PastRun]) -> str:
    """The nights, given the newest first, as a chart (SVG)."""
    days = [one.moment.date() for one in past]
    form = "%m-%d" if len(set(days)) == len(days) else "%m-%d %H:%M"
    nights = [
        Night(
            label=one.moment.strftime(form),
            value=_with_bounds(one.best.mean, one.best.sem) if one.best and one.judged else None,
            reigning=one.reigning.mean if one.reigning and one.judged else None,
            highlighted=one.champion is not None,
            note=_move(one),
            failed=one.failed,
        )
        for one in reversed(past)
    ]
    return trend(nights, "Best candidate and champion by night")
