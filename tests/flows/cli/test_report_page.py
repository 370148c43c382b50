"""The page of a report and its chart of the nights, for artificial reports."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import numpy as np
import pytest

from slateflow.environments import preset
from slateflow.evaluation import Comparison
from slateflow.evaluation.off_policy.contributions import Contributions
from slateflow.evaluation.off_policy.overlap import CheckedWeights, NoVerdict, Overlap
from tasks.experiment import DatasetRef, Experiment
from tasks.reports.page import render_markdown, trend_chart
from tasks.reports.past_runs import Best, PastRun
from tasks.reports.report import CandidateLine, Champion, OverlapFigures, PolicyLine, Report

DATASET = DatasetRef(path="/data/logs", digest="sha256:0", rows=10)
EXPERIMENT = Experiment(recipe="some-recipe", spec=preset("lts-10-1"), dataset=DATASET)
OVER = Comparison(uplift=5.3, ci=(5.1, 5.5), p_value=3e-17)
REFUSAL = NoVerdict("9 sessions as evidence, 100 are needed", "log more")


def page(
    reigned: bool = False,
    scored: bool = False,
    judged: bool = True,
    overlap: OverlapFigures | None = None,
) -> str:
    """The page of a verdict on one candidate, with a night twice; from logs given an overlap."""
    score, over = 0.9 if scored else None, OVER if reigned else None
    one = CandidateLine(
        learner="fitted-q", run_id="run", train_seconds=2.0, mean=1195.8, sem=0.4, uplift=37.65,
        ci=(37.4, 37.9), p_value=0.0, score=score, over_champion=over,
        verdict="better" if judged else "no verdict", no_verdict=None if judged else REFUSAL,
        overlap=overlap,
    )  # fmt: skip
    report = Report(
        experiment=EXPERIMENT.judged_by("logs" if overlap else "played"),
        baseline=PolicyLine(policy="random", mean=1158.11, sem=0.36, episodes=1000),
        optimum=None,
        champion=Champion(version=3, mean=1190.5, sem=0.41) if reigned else None,
        candidates=[one],
        no_verdict=None if judged else REFUSAL,
    )
    night = PastRun(
        datetime(2026, 11, 28, 2, 30, tzinfo=UTC),
        report.outcome,
        best=Best("fitted-q", 1195.8, 0.4, 37.65, score),
        over_champion=over,
    )
    return render_markdown(report, {}, "sqlite:///mlflow.db", None, [night, night])


def tables(markdown: str) -> list[list[list[str]]]:
    """The cells of each table, its heading first."""
    found: list[list[list[str]]] = [[]]
    for line in markdown.splitlines():
        if line.startswith("| "):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


@pytest.mark.parametrize(("reigned", "scored", "judged"), list(product([False, True], repeat=3)))
def test_a_table_has_no_column_without_figures(reigned, scored, judged):
    markdown = page(reigned, scored, judged)
    assert len(tables(markdown)) == 3
    for head, rule, *rows in tables(markdown):
        assert {len(row) for row in (rule, *rows)} == {len(head)}
        for name, *cells in zip(head, *rows, strict=True):
            assert set(cells) != {"–"}, name
    heads = [table[0] for table in tables(markdown)]
    assert ("score" in heads[1]) == (scored and judged)
    assert ("score (95%)" in heads[2]) == scored
    assert ("over champion (95%)" in heads[0]) == (reigned and judged)
    assert ("## Training" in markdown) == (not scored and not (reigned and judged))


@pytest.mark.parametrize("reigned", [False, True])
def test_a_page_without_a_verdict_has_no_figures_of_candidates(reigned):
    markdown = page(reigned, judged=False)
    assert markdown.startswith("# some-recipe: no verdict,")
    assert f"**No verdict**: {REFUSAL}." in markdown
    assert not {figure for figure in ("37.65", "1195.80", "5.30", "5.10") if figure in markdown}
    (night, _) = [row for row in tables(markdown)[1] if row[1] == "no verdict"]
    assert night[2:] == ["fitted-q"]


@pytest.mark.parametrize("checked", [False, True])
def test_a_mean_weight_that_was_not_checked_is_not_there(checked):
    weight = np.array([2.0, 0.0, 1.0, 1.0])
    weights = CheckedWeights(Contributions(weight), 2.0) if checked else None
    figures = OverlapFigures.of(Overlap.of_weights(weight, weight, 0.0, weights))
    assert (figures.model_dump(mode="json")["mean_weight"] is None) == (not checked)
    (head, _, row) = tables(page(overlap=figures))[1]
    cells = dict(zip(head, row, strict=True))
    assert (cells["effective decisions"], cells["largest share"]) == ("3", "50.0%")
    assert cells["mean weight (95%)"] == ("1.000 [0.200, 1.800]" if checked else "–")


def test_a_night_without_a_verdict_is_no_dot_of_the_trend():
    moment, best = datetime(2026, 11, 28, tzinfo=UTC), Best("slateq", -8.9e34, 1e-9, -8.9e34, None)
    reigning = Champion(version=3, mean=-9e30, sem=1.0)
    svg = trend_chart([PastRun(moment, "No verdict", best=best, reigning=reigning)])
    assert "e+3" not in svg
    assert svg.count("<circle") == 4  # those of the legend


@pytest.mark.parametrize(
    ("days", "labels"),
    [((26, 27, 28), ["11-26", "11-27", "11-28"]), ((27, 28, 28), ["11-27", "02:30", "11-28"])],
)
def test_nights_of_one_day_are_told_apart_by_their_time(days, labels):
    moments = [datetime(2026, 11, day, 2 + place, 30, tzinfo=UTC) for place, day in enumerate(days)]
    svg = trend_chart([PastRun(moment, "Failed") for moment in reversed(moments)])
    assert all(f">{label}<" in svg for label in labels)
    assert (">04:30<" in svg) == (len(set(days)) < len(days))
