"""The report page: a table, a small chart, and links, as a Prefect artifact."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.artifacts import create_markdown_artifact

from slateflow.charts import Interval, data_uri, intervals
from tasks.experiment import ModelRef
from tasks.reports.past_runs import log_report, past_runs_table
from tasks.reports.report import Report
from tasks.server.progress import artifact_key
from tasks.server.retries import RETRIES
from tasks.store.tracking import (
    experiment_url,
    mlflow_client,
    model_name,
    redact_passwords,
    run_url,
    tracking_uri,
    version_url,
)


@task(task_run_name="report {report.experiment.recipe}", **RETRIES)
def publish_report(report: Report) -> str:
    """Store the report under a key that stays, so that its history shows the nights.

    Returns:
        The markdown.
    """
    client, recipe = mlflow_client(), report.experiment.recipe
    log_report(client, report)
    page = render_markdown(
        report,
        run_links(report.candidates),
        redact_passwords(tracking_uri()),
        experiment_url(client, recipe),
    )
    markdown = "\n".join([page, *past_runs_table(client, recipe), ""])
    create_markdown_artifact(
        markdown, key=artifact_key("slateflow", recipe), description=f"{recipe}: {report.summary}"
    )
    return markdown


@task(task_run_name="verdict on {report.experiment.recipe}", **RETRIES)
def publish_verdict(report: Report) -> str:
    """Store the verdict's table as an artifact, for an evaluation that nothing follows.

    Returns:
        The markdown.
    """
    winner, recipe = report.winner, report.experiment.recipe
    title = f"{recipe}: {'no winner' if winner is None else f'{winner.learner} wins'}"
    table = verdict_table(report, run_links(report.candidates))
    markdown = "\n".join([f"# {title}", "", *table, ""])
    create_markdown_artifact(markdown, key=artifact_key("verdict", recipe), description=title)
    return markdown


def run_links(models: Sequence[ModelRef]) -> dict[str, str | None]:
    """Address of each model's page in MLflow, by run id; None where MLflow is not a server."""
    client = mlflow_client()
    return {model.run_id: run_url(client, model.run_id) for model in models}


def render_markdown(
    report: Report,
    links: dict[str, str | None],
    store: str,
    experiment: str | None,
) -> str:
    """The report as markdown.

    Args:
        report: The report.
        links: Address of each run's page, by run id; None where MLflow is not a server.
        store: MLflow's tracking URI.
        experiment: Address of the page with all trainings; None where MLflow is not a server.
    """
    baseline, champion, dataset = report.baseline, report.champion, report.experiment.dataset
    optimum = "not known" if report.optimum is None else f"{report.optimum.mean:.2f}"
    trainings = f"experiment {model_name(report.experiment.recipe)}"
    reigning = []
    if champion is not None:
        reigning = [
            f"- Champion so far: version {champion.version}, "
            f"{champion.mean:.2f} ± {champion.sem:.2f} on the same users."
        ]
    lines = [
        f"# {report.experiment.recipe}: {report.summary}",
        "",
        f"![Mean return by policy]({data_uri(return_chart(report))})",
        "",
        *verdict_table(report, links),
        "",
        f"- World: {report.experiment.spec.name}. Optimum: {optimum}. "
        f"{baseline.episodes:,} episodes each, on the same users.",
        f"- Dataset: `{dataset.path}`, {dataset.rows:,} rows, `{dataset.digest}`.",
        *reigning,
        *_registered_line(report, store),
        f"- MLflow: {f'[{trainings}]({experiment})' if experiment else f'{store}, {trainings}'}.",
    ]
    return "\n".join(lines) + "\n"


def verdict_table(report: Report, links: dict[str, str | None]) -> list[str]:
    """Lines of markdown: a row for each candidate, and the baseline."""
    over_champion = report.champion is not None
    columns = ["learner", "return", "uplift over random (95%)", "p (Holm)"]
    columns += ["over champion (95%)"] * over_champion + ["score", "train s", ""]
    rows = [_markdown_row(columns), _markdown_row(["---"] * len(columns))]
    for candidate in report.candidates:
        link = links.get(candidate.run_id)
        cells = [
            f"[{candidate.learner}]({link})" if link else candidate.learner,
            f"{candidate.mean:.2f} ± {candidate.sem:.2f}",
            _interval(candidate.uplift, candidate.ci),
            p_value(candidate.p_value),
        ]
        if over_champion:
            found = candidate.over_champion
            cells.append("" if found is None else _interval(found.uplift, found.ci))
        score = "" if candidate.score is None else f"{candidate.score:.3f}"
        cells += [score, f"{candidate.train_seconds:.1f}", candidate.verdict]
        rows.append(_markdown_row(cells))
    baseline = report.baseline
    zero = "" if report.optimum is None else "0.000"
    cells = [baseline.policy, f"{baseline.mean:.2f} ± {baseline.sem:.2f}", "", ""]
    cells += [""] * over_champion + [zero, "", "baseline"]
    return [*rows, _markdown_row(cells)]


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _interval(uplift: float, ci: tuple[float, float]) -> str:
    return f"{uplift:+.2f} [{ci[0]:+.2f}, {ci[1]:+.2f}]"


def p_value(value: float) -> str:
    """A p-value as text."""
    return "<1e-99" if value < 1e-99 else f"{value:.1g}"


def _registered_line(report: Report, store: str) -> list[str]:
    if report.registered is None:
        return []
    name, version = report.registered.name, report.registered.version
    text = f"{name} version {version}"
    url = version_url(store, name, version)
    return [f"- Registered: {f'[{text}]({url})' if url else text}, alias `champion`."]


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
