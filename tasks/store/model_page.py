"""The pages of a model and of its versions in MLflow's registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tasks.experiment import Experiment
from tasks.reports.page import verdict_table
from tasks.reports.report import Candidate, Report

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

_SHOWN_CANDIDATES = 3  # of the example


def model_description(name: str, experiment: Experiment) -> str:
    """The model's page: the meaning of its versions, and how to load the champion."""
    return (
        f"Recommends slates for the recipe `{experiment.recipe}`, in the environment "
        f"`{experiment.spec.name}`. Every version is better than random on the same users, with "
        "its whole 95% interval.\n\n"
        "- `champion`: the version to use.\n"
        "- `previous`: the version before it; `slateflow rollback` exchanges the two.\n\n"
        "```python\n"
        f'model = mlflow.pyfunc.load_model("models:/{name}@champion")\n'
        "answers = model.predict(requests)  # a pandas frame; each version shows a request\n"
        "```\n"
        "It needs mlflow-skinny, numpy and pandas."
    )


def version_description(
    winner: Candidate,
    report: Report,
    links: dict[str, str | None],
    run: Run,
    example: pd.DataFrame,
) -> str:
    """A version's page: the verdict as a table, the dataset, a request.

    Args:
        winner: The candidate that became this version.
        report: All candidates, on the same users.
        links: Addresses of the candidates' runs.
        run: The winner's training, which has the dataset as its input.
        example: Requests, of which the first is shown.
    """
    baseline = report.baseline
    low, high = winner.ci
    score = "" if winner.score is None else f", score {winner.score:.3f}"
    how = f"with {winner.live_steps:,} live steps" if winner.live_steps else "from the logs alone"
    champion = report.champion
    (logged,) = [entry.dataset for entry in run.inputs.dataset_inputs]
    profile = json.loads(logged.profile)
    before = (
        []
        if champion is None
        else [
            f"The champion before it, version {champion.version}: "
            f"{champion.mean:.2f} ± {champion.sem:.2f} on the same users.\n"
        ]
    )
    return "\n".join(
        [
            f"`{winner.learner}` {how}: {winner.uplift:+.2f} "
            f"[{low:+.2f}, {high:+.2f}] over {baseline.policy}{score}, "
            f"on {baseline.episodes:,} episodes with the same users.\n",
            *verdict_table(report, links),
            "",
            *before,
            f"Dataset `{logged.name}`: {profile['rows']:,} rows, "
            f"{profile['episodes']:,} episodes, `{profile['digest']}`.\n",
            f"A request, with {_SHOWN_CANDIDATES} candidates; there may be any number:\n",
            "```json",
            json.dumps({"dataframe_records": [_short(example.iloc[0])]}),
            "```",
            "",
        ]
    )


def verdict_tag(winner: Candidate, report: Report) -> dict[str, Any]:
    """The verdict for programs."""
    return {
        "baseline": report.baseline.model_dump(),
        "optimum": None if report.optimum is None else report.optimum.model_dump(),
        **winner.model_dump(
            include={"mean", "sem", "uplift", "ci", "p_value", "over_champion", "score"}
        ),
    }


def _short(request: pd.Series[Any]) -> dict[str, Any]:
    """The request with few candidates and digits."""
    return {
        "user": [round(number, 2) for number in request["user"]],
        "candidates": [
            [round(number, 2) for number in candidate]
            for candidate in request["candidates"][:_SHOWN_CANDIDATES]
        ],
        "step": int(request["step"]),
    }
