"""The page of a version in MLflow's registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tasks.reports.page import fill_in
from tasks.reports.report import CandidateLine, Report

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

_SHOWN_CANDIDATES = 3  # of the example


def version_description(
    winner: CandidateLine,  # the candidate that became this version
    report: Report,  # all candidates, on the same users
    links: dict[str, str | None],  # addresses of the candidates' runs
    run: Run,  # the winner's training, which has the dataset as its input
    example: pd.DataFrame,  # requests, of which the first is shown
    *,
    remembers: bool,  # whether the model asks for the session's earlier steps
) -> str:
    """A version's page: the verdict as a table, the dataset, a request."""
    first = json.loads(example.iloc[:1].to_json(orient="records", double_precision=2))[0]
    for offered in ("candidates", "items"):
        if offered in first:
            first[offered] = first[offered][:_SHOWN_CANDIDATES]
    (logged,) = [entry.dataset for entry in run.inputs.dataset_inputs]
    return fill_in(
        "version.md",
        winner=winner,
        report=report,
        links=links,
        logged=logged,
        profile=json.loads(logged.profile),
        shown=_SHOWN_CANDIDATES,
        remembers=remembers,
        request=json.dumps({"dataframe_records": [first]}, ensure_ascii=False),
    )


def verdict_tag(winner: CandidateLine, report: Report) -> dict[str, Any]:
    """The verdict for programs."""
    of_winner = {"mean", "sem", "uplift", "ci", "p_value", "over_champion", "score", "score_ci"}
    played = report.model_dump(include={"baseline", "optimum"})
    return {**played, **winner.model_dump(include=of_winner)}
