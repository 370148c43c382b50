"""The report page: a table, a small chart, and links, as a Prefect artifact."""

from __future__ import annotations

import base64
from html import escape

from prefect import task
from prefect.artifacts import create_markdown_artifact

from tasks.reports.documents import CandidateReport, PipelineReport, Registration, VerdictReport
from tasks.reports.past_runs import with_past_runs
from tasks.server.retries import RETRIES
from tasks.store.tracking import (
    experiment_url,
    mlflow_client,
    public,
    run_url,
    tracking_uri,
    version_url,
)


@task(task_run_name="report {report.environment}", **RETRIES)
def publish_report(report: PipelineReport) -> str:
    """Store the report under a key that stays, so that its history shows the nights.

    Returns:
        The markdown.
    """
    key = f"slateflow-{report.environment}"
    links, store = run_links(report.candidates), public(tracking_uri())
    experiment = experiment_url(mlflow_client(), report.environment)
    page = render_markdown(report, links, store, experiment)
    markdown = with_past_runs(page, key, report, final_state(report))
    description = f"{report.environment}: {verdict_line(report)}"
    create_markdown_artifact(markdown, key=key, description=description)
    return markdown


@task(task_run_name="verdict on {environment}", **RETRIES)
def publish_verdict(environment: str, verdict: VerdictReport) -> str:
    """The verdict's table as an artifact, for an evaluation that nothing follows.

    Returns:
        The markdown.
    """
    winner = verdict.winner
    title = f"{environment}: {'no winner' if winner is None else f'{winner.learner} wins'}"
    table = verdict_table(verdict, run_links(verdict.candidates))
    markdown = "\n".join([f"# {title}", "", *table, ""])
    create_markdown_artifact(markdown, key=f"verdict-{environment}", description=title)
    return markdown


def run_links(candidates: list[CandidateReport]) -> dict[str, str | None]:
    """Address of each candidate's page in MLflow, by run id; None where MLflow is no server."""
    client = mlflow_client()
    return {one.run_id: run_url(client, one.run_id) for one in candidates}


def render_markdown(
    report: PipelineReport,
    links: dict[str, str | None],
    store: str,
    experiment: str | None,
) -> str:
    """The report as markdown.

    Args:
        report: What to show.
        links: Address of each run's page, by run id; None where MLflow is no server.
        store: MLflow's tracking URI.
        experiment: Address of the page with all trainings; None where MLflow is no server.
    """
    baseline = report.baseline
    optimum = "not known" if report.optimum is None else f"{report.optimum:.2f}"
    champion = report.champion
    trainings = f"experiment slateflow-{report.environment}"
    lines = [
        f"# {report.environment}: {verdict_line(report)}",
        "",
        f"![Mean return by policy]({svg_data_uri(return_chart(report))})",
        "",
        *verdict_table(report, links),
        "",
        f"- Optimum: {optimum}. {baseline.episodes:,} episodes each, on the same users.",
        f"- Dataset: `{report.dataset.path}`, {report.dataset.rows:,} rows, "
        f"`{report.dataset.digest}`.",
        *(
            [
                f"- Champion so far: version {champion.version}, "
                f"{champion.mean:.2f} ± {champion.sem:.2f} on the same users."
            ]
            if champion
            else []
        ),
        *_registered_line(report, store),
        f"- MLflow: {f'[{trainings}]({experiment})' if experiment else f'{store}, {trainings}'}.",
    ]
    return "\n".join(lines) + "\n"


def verdict_table(
    report: PipelineReport | VerdictReport, links: dict[str, str | None]
) -> list[str]:
    """Lines of markdown: one row a candidate, and the baseline."""
    rows = [
        "| learner | return | uplift over random (95%) | p (Holm) | normalised | train s | |",
        "|---|---|---|---|---|---|---|",
    ]
    for candidate in report.candidates:
        link = links.get(candidate.run_id)
        name = f"[{candidate.learner}]({link})" if link else candidate.learner
        score = "" if candidate.normalised is None else f"{candidate.normalised:.3f}"
        rows.append(
            f"| {name} | {candidate.mean:.2f} ± {candidate.sem:.2f} "
            f"| {candidate.uplift:+.2f} [{candidate.ci[0]:+.2f}, {candidate.ci[1]:+.2f}] "
            f"| {p_value(candidate.p_value)} | {score} | {candidate.train_seconds:.1f} "
            f"| {judged(candidate)} |"
        )
    baseline = report.baseline
    zero = "" if report.optimum is None else "0.000"
    rows.append(
        f"| {baseline.policy} | {baseline.mean:.2f} ± {baseline.sem:.2f} "
        f"| | | {zero} | | baseline |"
    )
    return rows


def p_value(value: float) -> str:
    """A p-value as text; below 1e-99 it is no number any more."""
    return "<1e-99" if value < 1e-99 else f"{value:.1g}"


def _registered_line(report: PipelineReport, store: str) -> list[str]:
    if report.registered is None:
        return []
    name, version = report.registered.name, report.registered.version
    text = f"{name} version {version}"
    url = version_url(store, name, version)
    return [f"- Registered: {f'[{text}]({url})' if url else text}, alias `champion`."]


def judged(candidate: CandidateReport) -> str:
    """What the interval of the uplift says, in a word."""
    if candidate.winner:
        return "winner"
    low, high = candidate.ci
    if low > 0:
        return "better"
    return "worse" if high < 0 else "undecided"


def verdict_line(report: PipelineReport | Registration) -> str:
    """The verdict in one line."""
    winner = next((c for c in report.candidates if c.winner), None)
    if winner is None:
        if report.champion is not None:
            return f"no winner, version {report.champion.version} stays champion"
        return "no winner, nothing registered"
    if report.registered is None:
        return f"{winner.learner} wins, not registered"
    return f"{winner.learner} wins, registered as version {report.registered.version}"


def final_state(report: PipelineReport | Registration) -> str:
    """The verdict as the name of the run's final state."""
    if report.registered is not None:
        return "Promoted"
    return "No winner" if report.champion is None else "Kept champion"


def return_chart(report: PipelineReport) -> str:
    """Mean returns as dots with 95% intervals, random and the optimum as lines (SVG)."""
    width, left, row_height = 640, 110, 26
    entries = [(c.learner, c.mean, c.sem, c.winner) for c in report.candidates]
    entries.append((report.baseline.policy, report.baseline.mean, report.baseline.sem, False))
    values = [mean for _, mean, _, _ in entries] + ([report.optimum] if report.optimum else [])
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 1.0
    low, high = low - margin, high + margin

    def x(value: float) -> float:
        return left + (width - left - 20) * (value - low) / (high - low)

    height = row_height * len(entries) + 34
    marks = []
    for label, value, colour in (
        ("random", report.baseline.mean, "#8a8f98"),
        ("optimum", report.optimum, "#2e9e5b"),
    ):
        if value is not None:
            marks.append(
                f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="4" y2="{height - 26}" '
                f'stroke="{colour}" stroke-dasharray="4 3"/>'
                f'<text x="{x(value):.1f}" y="{height - 8}" text-anchor="middle" '
                f'fill="{colour}">{label} {value:.1f}</text>'
            )
    for index, (name, mean, sem, winner) in enumerate(entries):
        y = 16 + row_height * index
        colour = "#3b82f6" if winner else "#8a94a3"
        marks.append(
            f'<text x="{left - 10}" y="{y + 4}" text-anchor="end" fill="{colour}">'
            f"{escape(name)}</text>"
            f'<line x1="{x(mean - 1.96 * sem):.1f}" x2="{x(mean + 1.96 * sem):.1f}" y1="{y}" '
            f'y2="{y}" stroke="{colour}" stroke-width="2"/>'
            f'<circle cx="{x(mean):.1f}" cy="{y}" r="4" fill="{colour}"/>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">'
        f"{''.join(marks)}</svg>"
    )


def svg_data_uri(svg: str) -> str:
    """The picture as a link that carries it."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
