"""The runs before this one, as the table below a report: it shows the trend over the nights.

Prefect keeps every report under its key and lists their dates alone. So each report has the rows
of the one before, and its own on top of them.
"""

from __future__ import annotations

from prefect.artifacts import Artifact
from prefect.runtime import flow_run

from tasks.reports.documents import PipelineReport

_HEADING = "## This run and those before"
_COLUMNS = "| run | best | return | uplift | normalised | verdict |"  # more are cut off by the UI
_KEPT = 30


def with_past_runs(markdown: str, key: str, report: PipelineReport, verdict: str) -> str:
    """The report with the table below it.

    Args:
        markdown: This run's report.
        key: Key of the artifact, under which the report before is found.
        report: What the run found.
        verdict: Name of the run's final state.
    """
    before = Artifact.get(key)
    rows = past_rows(str(getattr(before, "data", "")))  # None at the first run
    # The report of a run that is retried takes the place of its first
    past = [row for row in rows if f"({_address()})" not in row]
    rows = [_row(report, verdict), *past][:_KEPT]
    return "\n".join([markdown, _HEADING, "", _COLUMNS, "|---|---|---|---|---|---|", *rows, ""])


def past_rows(markdown: str) -> list[str]:
    """The rows of a report's table of runs, the newest first; none where it has no such table."""
    _, _, table = markdown.partition(_HEADING)
    return [line for line in table.splitlines() if line.startswith("| [")]


def _row(report: PipelineReport, verdict: str) -> str:
    best = report.candidates[0]
    score = "" if best.normalised is None else f"{best.normalised:.3f}"
    return (
        f"| [{flow_run.scheduled_start_time:%Y-%m-%d %H:%M}]({_address()}) | {best.learner} "
        f"| {best.mean:.2f} ± {best.sem:.2f} | {best.uplift:+.2f} | {score} | {verdict} |"
    )


def _address() -> str:
    """The run's page, from any other page of the same UI."""
    return f"/runs/flow-run/{flow_run.id}"
