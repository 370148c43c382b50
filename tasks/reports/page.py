"""The report page: a table, a small chart, and links, as a Prefect artifact."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader
from prefect import task
from prefect.artifacts import create_markdown_artifact

from slateflow.charts import Interval, data_uri, intervals
from tasks.experiment import ModelRef
from tasks.reports.past_runs import log_report, past_runs
from tasks.reports.report import (
    Candidate,
    Champion,
    Comparison,
    LoggingPolicy,
    Optimum,
    PlayedPolicy,
    Report,
)
from tasks.server.progress import artifact_key
from tasks.server.retries import RETRIES
from tasks.store.tracking import (
    experiment_id,
    mlflow_client,
    model_name,
    page_url,
    redact_passwords,
    run_page,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow.entities import Run


@task(task_run_name="report {report.experiment.recipe}", **RETRIES)
def publish_report(report: Report) -> str:
    """Store the report, as Markdown, under a key that stays: its history shows the nights."""
    client, recipe = mlflow_client(), report.experiment.recipe
    log_report(client, report)
    markdown = render_markdown(
        report,
        run_links(report.candidates),
        redact_passwords(tracking_uri()),
        page_url(tracking_uri(), f"experiments/{experiment_id(client, recipe)}/runs"),
        past_runs(client, recipe),
    )
    create_markdown_artifact(
        markdown, key=artifact_key("slateflow", recipe), description=f"{recipe}: {report.summary}"
    )
    return markdown


@task(task_run_name="verdict on {report.experiment.recipe}", **RETRIES)
def publish_verdict(report: Report) -> str:
    """Store the verdict's table, as Markdown, for an evaluation that nothing follows."""
    recipe = report.experiment.recipe
    title = f"{recipe}: {report.found}"
    table = fill_in("verdict.md", report=report, links=run_links(report.candidates))
    markdown = f"# {title}\n\n{table}"
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
    past: Sequence[Run] = (),
) -> str:
    """The report as markdown.

    Args:
        report: The report.
        links: Address of each run's page, by run id; None where MLflow is not a server.
        store: MLflow's tracking URI.
        experiment: Address of the page with all trainings; None where MLflow is not a server.
        past: Runs of the recipe's reports, see `past_runs`.
    """
    registered = report.registered
    return fill_in(
        "report.md",
        report=report,
        recipe=report.experiment.recipe,
        dataset=report.experiment.dataset,
        chart=data_uri(return_chart(report)),
        links=links,
        store=store,
        experiment=experiment,
        model=model_name(report.experiment.recipe),
        version_page=registered
        and page_url(store, f"models/{registered.name}/versions/{registered.version}"),
        past=past,
    )


def fill_in(template: str, **values: Any) -> str:
    """A page of the folder `templates`, with these values."""
    return _TEMPLATES.get_template(template).render(values)


def p_value(value: float) -> str:
    """A p-value as text."""
    return "<1e-99" if value < 1e-99 else f"{value:.1g}"


def mean_text(played: Candidate | PlayedPolicy | Champion | Optimum, decimals: int = 2) -> str:
    """A return and its standard error as text."""
    return f"{played.mean:.{decimals}f} ± {played.sem:.{decimals}f}"


def interval(compared: Candidate | Comparison, digits: int = 2) -> str:
    """An uplift and its interval as text."""
    low, high = compared.ci
    return f"{compared.uplift:+.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def score_text(played: Candidate | LoggingPolicy, with_interval: bool = False) -> str:
    """A score as text, empty where it is not known."""
    if played.score is None:
        return ""
    if not with_interval or played.score_ci is None:
        return f"{played.score:.3f}"
    low, high = played.score_ci
    return f"{played.score:.3f} [{low:.3f}, {high:.3f}]"


def _link(text: str, address: str | None) -> str:
    return f"[{text}]({address})" if address else text


def _moment(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(milliseconds / 1000))


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    trim_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.globals.update(
    interval=interval,
    link=_link,
    mean=mean_text,
    moment=_moment,
    p_value=p_value,
    score=score_text,
)


def return_chart(report: Report) -> str:
    """Mean returns as dots with 95% intervals, random and the optimum as lines (SVG)."""
    played = [(c.learner, c.mean, c.sem, c.verdict == "winner") for c in report.candidates]
    if (champion := report.champion) is not None:
        played.append((f"champion v{champion.version}", champion.mean, champion.sem, False))
    played.append((report.baseline.policy, report.baseline.mean, report.baseline.sem, False))
    rows = [
        Interval(name, mean, mean - 1.96 * sem, mean + 1.96 * sem, highlighted)
        for name, mean, sem, highlighted in played
    ]
    marks = {report.baseline.policy: report.baseline.mean}
    if report.optimum is not None:
        marks["optimum"] = report.optimum.mean
    return intervals(rows, marks, "Mean return by policy")
