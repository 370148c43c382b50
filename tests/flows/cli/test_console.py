"""The tables on standard output, for artificial reports."""

from __future__ import annotations

import pytest

from slateflow.environments import preset
from slateflow.evaluation import Comparison
from slateflow.evaluation.off_policy.overlap import NoVerdict
from tasks.experiment import DatasetRef, Experiment
from tasks.reports.report import (
    CandidateLine,
    Champion,
    Optimum,
    PolicyLine,
    RecSimCheck,
    RegisteredVersion,
    Report,
)
from tasks.reports.study import StudyReport, TrialSummary


@pytest.fixture
def lines(capsys, monkeypatch):
    """The lines that a function of the console prints on a terminal, by default of 80 columns."""
    from flows.cli import console
    from flows.cli.options import plain_console

    def lines_of(show, *arguments, width: int = 80) -> list[str]:
        monkeypatch.setattr(console, "output", plain_console(width))
        show(*arguments)
        printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        return [line for line in printed if line]

    return lines_of


def candidate(learner: str, **values) -> CandidateLine:
    made_up = {
        "mean": 1195.804,
        "sem": 0.366,
        "uplift": 37.65,
        "ci": (37.42, 37.88),
        "p_value": 0.0,
        "score": 0.9996,
        "score_ci": (0.9941, 1.0062),
        "train_seconds": 2.04,
        "verdict": "undecided",
        "run_id": "run",
    }
    return CandidateLine(learner=learner, **{**made_up, **values})


DATASET = DatasetRef(path="/data/logs", digest="sha256:0", rows=10)
EXPERIMENT = Experiment(recipe="some-recipe", spec=preset("lts-10-1"), dataset=DATASET)
BASELINE = PolicyLine(
    policy="random", mean=1158.11, sem=0.357, episodes=1000, score=0.0, score_ci=(0, 0)
)


@pytest.fixture
def against_a_champion() -> Report:
    over = {"uplift": 5.304, "ci": (5.1, 5.5), "p_value": 3e-7}
    return Report(
        experiment=EXPERIMENT,
        baseline=BASELINE,
        optimum=Optimum(mean=1195.8, sem=0.4),
        champion=Champion(version=3, mean=1190.5, sem=0.41),
        candidates=[
            candidate("fitted-q", verdict="winner", over_champion=Comparison(**over)),
            candidate(
                "bc",
                uplift=-0.3,
                ci=(-0.9, 0.3),
                p_value=0.34,
                score=-0.008,
                over_champion=Comparison(uplift=-9, ci=(-9.5, -8.5), p_value=1e-120),
            ),
        ],
        recsim_check=RecSimCheck(
            learner="fitted-q", batched=1195.8, batched_sem=0.37, recsim=1195.21,
            recsim_sem=0.5, episodes=500, deviation=-0.9,
        ),
    )  # fmt: skip


def test_texts_of_others_are_printed_as_they_are(capsys):
    from flows.cli import console
    from flows.cli.options import new_table

    path = "/data/a [z]/[/b]/:car:"
    console.show_dataset(DatasetRef(path=path, digest="sha256:0", rows=10))
    assert capsys.readouterr().out.startswith(f"{path}: 10 rows\n")
    table = new_table("[what]", title="[title]")
    table.add_row(path)
    console.show_table(console.output, table)
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("[what]", "[title]", path))


def test_a_verdict_is_a_row_a_policy(lines, against_a_champion):
    from flows.cli.console import show_verdict

    printed = lines(show_verdict, against_a_champion)
    title, head, _, *rows, over, reference, compared, _, note = printed
    assert title.strip() == "some-recipe, 1,000 episodes each"
    assert head.split() == [
        "policy", "return", "±", "s.e.", "uplift,", "95%", "p", "score", "sec", "verdict",
    ]  # fmt: skip
    assert [row.split() for row in rows] == [
        ["optimum", "1195.80", "±", "0.40", "1.000"],
        ["fitted-q", "1195.80", "±", "0.37", "+37.6", "[37.4,", "37.9]", "<1e-12", "1.000", "2.0",
         "winner"],
        ["bc", "1195.80", "±", "0.37", "-0.3", "[-0.9,", "0.3]", "0.3", "-0.008", "2.0",
         "undecided"],
        ["champion", "1190.50", "±", "0.41", "v3"],
        ["random", "1158.11", "±", "0.36", "0.000"],
    ]  # fmt: skip
    assert over == "fitted-q over the champion: +5.30 [5.10, 5.50], p 3e-07"
    assert reference == "fitted-q in RecSim's own code 1195.21 ± 0.50 (500 episodes),"
    assert compared == "batched 1195.80 ± 0.37 (1,000 episodes): -0.9 s.e. apart"
    assert note.endswith("score: random 0, optimum 1")


def test_a_wide_terminal_shows_the_uplift_over_the_champion(lines, against_a_champion):
    from flows.cli.console import show_verdict

    _, head, _, _, fitted_q, bc, *_ = lines(show_verdict, against_a_champion, width=100)
    assert "over champion, 95%" in head
    assert fitted_q.split()[8:] == ["+5.30", "[5.10,", "5.50]", "1.000", "winner"]
    assert bc.split()[8:11] == ["-9.00", "[-9.50,", "-8.50]"]
    _, _, _, _, fitted_q, bc, *_ = lines(show_verdict, against_a_champion, width=120)
    assert fitted_q.split()[11:] == ["3e-07", "1.000", "2.0", "winner"]
    assert bc.split()[11] == "<1e-12"


def test_a_wide_terminal_shows_the_interval_of_the_score(lines, against_a_champion):
    from flows.cli.console import show_verdict

    alone = against_a_champion.model_copy(update={"champion": None})
    _, head, _, _, fitted_q, _, random, *_ = lines(show_verdict, alone, width=100)
    assert "score, 95%" in head
    assert fitted_q.split()[8:] == ["1.000", "[0.994,", "1.006]", "2.0", "winner"]
    assert random.split()[-1] == "0.000"


@pytest.mark.parametrize("width", [60, 50])
def test_a_narrow_terminal_cuts_no_figure_and_no_verdict(lines, against_a_champion, width):
    from flows.cli.console import show_verdict

    _, head, _, _, fitted_q, bc, *_ = lines(show_verdict, against_a_champion, width=width)
    assert head.split() == ["policy", "return", "±", "s.e.", "uplift,", "95%", "verdict"]
    assert fitted_q.split()[4:] == ["+37.6", "[37.4,", "37.9]", "winner"]
    assert bc.split()[-1] == "undecided"


def test_where_nobody_knows_the_optimum_there_is_no_score(lines):
    from flows.cli.console import show_verdict

    verdict = Report(
        experiment=EXPERIMENT,
        baseline=BASELINE,
        optimum=None,
        champion=None,
        candidates=[candidate("slateq", score=None, score_ci=None, verdict="winner")],
    )
    _, head, _, slateq, random, *note = lines(show_verdict, verdict)
    assert "score" not in head
    assert slateq.split()[-3:] == ["<1e-12", "2.0", "winner"]
    assert random.split() == ["random", "1158.11", "±", "0.36"]
    assert " ".join(note).endswith("no score: optimum unknown")


@pytest.mark.parametrize("store", ["", "sqlite:////elsewhere/mlflow.db"])
def test_the_champion_is_loaded_by_the_lines_that_are_shown(
    lines, against_a_champion, monkeypatch, tmp_path, store
):
    """MLflow finds its store by itself only where the shell's variable names it."""
    from flows.cli.console import show_report
    from tasks.project import PROJECT

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.chdir(tmp_path)
    registered = RegisteredVersion(name="slateflow-x", version=2, alias="champion")
    report = against_a_champion.model_copy(update={"registered": registered})
    printed = lines(show_report, report)
    place = next(n for n, line in enumerate(printed) if line.startswith("Load it"))
    code = [line[10:] for line in printed[place:-1]]
    load = "mlflow.pyfunc.load_model('models:/slateflow-x@champion')"
    known = f"mlflow.set_tracking_uri('sqlite:///{PROJECT}/mlflow/mlflow.db')"
    assert code == ([load] if store else [known, load])


def test_a_study_ends_with_the_command_to_type(lines):
    from flows.cli.console import show_study

    study = StudyReport(
        learner="iql",
        dataset=DATASET,
        seed=0,
        trials=[
            TrialSummary(number=0, settings={}, value=1190.123, train_seconds=4.0, run_id="a"),
            TrialSummary(number=1, settings={"window": 3}, value=None, train_seconds=1, run_id="b",
                        error="cannot be estimated from these logs"),
            TrialSummary(number=2, settings={"expectile": 0.8, "window": 2}, value=1194.5,
                        train_seconds=5.25, run_id="c"),
        ],
        best=2,
        run_id="parent",
    )  # fmt: skip
    _, _, _, *rows, _, failed, best, command = lines(show_study, study, ["logs"])
    assert [row.split(maxsplit=3) for row in rows] == [
        ["2", "1194.50", "5.2", "expectile 0.8, window 2"],
        ["0", "1190.12", "4.0", "the defaults"],
        ["1", "none", "1.0", "window 3"],
    ]
    assert failed == "trial 1: cannot be estimated from these logs"
    assert best == "trial 2 is best"
    assert command.startswith("Train with it ")
    assert command.endswith("slateflow train logs --learner iql --set expectile=0.8 --set window=2")


@pytest.mark.parametrize("chosen", [False, True])
def test_learners_that_are_left_out_are_named_unless_others_were_chosen(lines, chosen):
    from flows.cli.console import show_verdict
    from tasks.reports.page import fill_in

    spec = preset("modified-lts-20-2", num_candidates=201)  # too many for networks
    report = Report(
        experiment=EXPERIMENT.model_copy(update={"spec": spec}),
        baseline=PolicyLine(policy="random", mean=1.0, sem=0.1, episodes=10),
        optimum=None,
        champion=None,
        candidates=[candidate(name) for name in ["linucb", "lints", "fitted-q"][chosen:]],
    )
    printed = " ".join(lines(show_verdict, report))
    page = fill_in("verdict.md", report=report, links={}, weights=None)
    left_out = "bc, marwil, cql, iql: left out, because users and items have too many features"
    assert (left_out in printed) == (f"Advice on {left_out}" in page) == (not chosen)


def test_what_logs_cannot_judge_has_no_figures(lines, against_a_champion):
    """An estimate beside its refusal would be believed, even if absurd."""
    from flows.cli.console import show_verdict
    from tasks.reports.page import fill_in, return_chart

    refused = candidate(
        "slateq",
        mean=-8.9e34,
        sem=1e-9,
        uplift=-8.9e34,
        ci=(-9e34, -8e34),
        verdict="no verdict",
        no_verdict=NoVerdict("the estimate is −8.9e+34", "log more of what this policy shows"),
    )
    judged = [*against_a_champion.candidates, refused]
    report = against_a_champion.model_copy(update={"candidates": judged})
    _, _, _, _, fitted_q, _, row, *rest = lines(show_verdict, report)
    assert "+37.6" in fitted_q  # with as many digits as without the other
    assert row.split() == ["slateq", "–", "2.0", "no", "verdict"]
    assert "slateq: the estimate is −8.9e+34; log more of what this policy shows" in rest
    twin = refused.model_copy(update={"learner": "linucb"})
    both = report.model_copy(update={"candidates": [*judged, twin]})
    sentence = "the estimate is −8.9e+34; log more of what this policy shows"
    assert f"slateq, linucb: {sentence}" in lines(show_verdict, both)
    missing = NoVerdict(f"random: {refused.no_verdict.reason}", refused.no_verdict.advice)
    nobody = both.model_copy(update={"candidates": [refused, twin], "no_verdict": missing})
    printed = lines(show_verdict, nobody)
    assert [row for row in printed if sentence in row] == [f"no verdict: random: {sentence}"]
    assert not [row for row in printed if "uplift" in row or "intervals" in row]
    over = Comparison(uplift=-9e34, ci=(-9e34, -8e34), p_value=1.0)
    alone = refused.model_copy(update={"over_champion": over})
    printed = lines(show_verdict, report.model_copy(update={"candidates": [alone]}))
    assert not [row for row in printed if "over the champion:" in row]
    page = fill_in("verdict.md", report=report, links={}, weights=None)
    assert "| slateq | no verdict | – | – | – |" in page
    assert "slateq" not in return_chart(report)
