"""Tables that commands print at their end, on standard output."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from flows.cli.options import (
    new_table,
    plain_console,
    print_json,
    short_path,
    show_table,
    table_width,
)
from slateflow.evaluation import PolicyBaseline
from tasks.estimate import EstimateReport
from tasks.experiment import DatasetRef, ModelRef
from tasks.next_command import typed
from tasks.reports.page import mean_text, p_value_text, score_text, uplift_text
from tasks.reports.report import CandidateLine, Champion, Optimum, PolicyLine, Report
from tasks.reports.study import StudyReport
from tasks.store.tracking import (
    embedded_store,
    redact_passwords,
    store_to_type,
    tracking_uri,
    without_user,
)

LAYOUTS = (
    ("played", "p", "score", "over", "score_ci", "sec", "p_over"),
    ("played", "p", "score", "over", "score_ci"),
    ("played", "p", "score", "sec"),
    ("played", "score"),
    ("played",),
    (),
)
"""Columns that the verdict's table has where it is wide enough, widest first."""

FILE_COLUMNS = 100
"""Width of output to a file or a pipe; a terminal has its own."""

output = plain_console(None if sys.stdout.isatty() or "COLUMNS" in os.environ else FILE_COLUMNS)


def show_report(report: Report, as_json: bool = False) -> None:
    """The verdict's table, the version that was registered, and pages to open next."""
    if as_json:
        return print_json(report.document())
    dataset = report.experiment.dataset
    path = short_path(dataset.path)
    output.print(f"{path}: {dataset.rows:,} rows, {dataset.digest[:19]}…", soft_wrap=True)
    show_verdict(report)
    output.print(f"\n{report.summary}", style="bold")
    if (registered := report.registered) is not None:
        uri = f"models:/{registered.name}@{registered.alias}"
        lines = [f"mlflow.pyfunc.load_model({uri!r})"]
        if tracking_uri() == embedded_store():  # another is in the shell's variable
            lines.insert(0, f"mlflow.set_tracking_uri({store_to_type()!r})")
        for label, line in zip(("Load it", ""), lines, strict=False):
            output.print(f"{label:10}{line}", soft_wrap=True)
    output.print(f"Open it   {open_hint()}", soft_wrap=True)


def open_hint() -> str:
    """How to look at the runs and the registry."""
    uri = tracking_uri()
    if uri.startswith("http"):
        return without_user(uri)
    address = shlex.quote(store_to_type())
    if redact_passwords(uri) != uri:  # the shell knows the password
        address = '"$MLFLOW_TRACKING_URI"'
    return f"{typed('mlflow', 'ui', '--backend-store-uri')} {address}"


def show_verdict(report: Report, as_json: bool = False) -> None:
    """Candidates, baseline and optimum as a table, as wide as the terminal, and remarks below."""
    if as_json:
        return print_json(report.document())
    for shown in LAYOUTS:
        table = _verdict_table(report, shown)
        if table_width(output, table) <= output.width:
            break
    show_table(output, table)
    for remark in _remarks(report, shown):
        output.print(remark)
    if any(one.judged for one in report.candidates):
        output.print(_legend(report), style="dim")


def _remarks(report: Report, shown: Collection[str]) -> Iterator[str]:
    """Remarks on what the table with these columns leaves out."""
    for refusal, learners in report.refusals.items():
        yield f"{', '.join(learners)}: {refusal}"
    for one in report.candidates:
        if one.judged and one.overlap is not None and one.overlap.unsupported >= 0.005:
            share = f"{one.overlap.unsupported:.0%}"
            yield f"{one.learner}: the logs have hardly seen {share} of what it shows"
    if report.no_verdict is not None:
        yield f"no verdict: {report.no_verdict}"
    yield from report.advice
    best = report.candidates[0]
    over = best.over_champion if best.judged else None
    if over is not None and "p_over" not in shown:
        uplift = uplift_text(over, report.decimals)
        yield f"{best.learner} over the champion: {uplift}, p {p_value_text(over.p_value)}"
    if (check := report.recsim_check) is not None:
        yield (
            f"{check.learner} in RecSim's own code {check.recsim:.2f} ± {check.recsim_sem:.2f} "
            f"({check.episodes:,} episodes),\nbatched {check.batched:.2f} ± "
            f"{check.batched_sem:.2f} ({report.baseline.episodes:,} episodes): "
            f"{check.deviation:+.1f} s.e. apart"
        )


def _legend(report: Report) -> str:
    """The meaning of intervals, p-values and scores."""
    score = "score: random 0, optimum 1"
    if not report.scored:
        unsure = "unknown" if report.optimum is None else "not above random for certain"
        score = f"no score: optimum {unsure}"
    if report.played:
        score = "no score from logs"
    rivals = "random and the champion" if report.champion else "random"
    legend = f"intervals: pointwise 95%; p over {rivals}, after Holm, decides; {score}"
    if report.played:
        legend += f"; by play: {report.played[0].episodes:,} episodes, which decide nothing"
    return legend


def _verdict_table(report: Report, shown: Collection[str]) -> Table:
    """The table with the columns of a layout."""
    baseline, champion, optimum = report.baseline, report.champion, report.optimum
    columns, with_interval = _columns(report, shown), _score_has_interval(report, shown)
    by_play = {one.policy: mean_text(one, report.decimals) for one in report.played or ()}
    title = f"{report.experiment.recipe}, {report.sessions} each"
    table = new_table(*columns.values(), title=title)

    def add(style: str, policy: str,
            found: CandidateLine | PolicyLine | Champion | Optimum | None,
            **cells: str) -> None:  # fmt: skip
        mean = "" if found is None else mean_text(found, report.decimals)
        cells = {"policy": policy, "mean": mean, "played": by_play.get(policy, ""), **cells}
        table.add_row(*(cells.get(name, "") for name in columns), style=style)

    if optimum is not None or "optimum" in by_play:
        add("dim", "optimum", optimum, score="" if optimum is None else "1.000")
    for one in report.candidates:
        style = "bold green" if one.verdict == "winner" else ""
        add(style, one.learner, one, **_candidate_cells(one, report, with_interval))
    if champion is not None:
        add("", "champion", champion, verdict=f"v{champion.version}")
    for logged in report.logging_policies:
        if logged.policy != baseline.policy:
            score = score_text(logged, with_interval)
            add("dim", logged.policy, logged, score=score, verdict="logged")
    add("dim", baseline.policy, baseline, score="0.000")
    return table


def _columns(report: Report, shown: Collection[str]) -> dict[str, str]:
    """The headings of the table's columns, by the names of their cells."""
    judged, reigned = any(one.judged for one in report.candidates), _reigned(report)
    scored = report.scored and "score" in shown
    score = ">score, 95%" if _score_has_interval(report, shown) else ">score"
    return {
        "policy": "policy",
        "mean": ">return ± s.e.",
        **({"played": ">by play ± s.e."} if report.played and "played" in shown else {}),
        **({"uplift": ">uplift, 95%"} if judged else {}),
        **({"p": ">p"} if judged and "p" in shown else {}),
        **({"over": ">over champion, 95%"} if reigned and "over" in shown else {}),
        **({"p_over": ">p"} if reigned and "p_over" in shown else {}),
        **({"score": score} if scored else {}),
        **({"sec": ">sec"} if "sec" in shown else {}),
        "verdict": "verdict",
    }


def _reigned(report: Report) -> bool:
    """Whether candidates are compared with a champion."""
    return report.champion is not None and any(one.judged for one in report.candidates)


def _score_has_interval(report: Report, shown: Collection[str]) -> bool:
    return "score_ci" in shown and not _reigned(report)


def _candidate_cells(one: CandidateLine, report: Report, with_interval: bool) -> dict[str, str]:
    """A candidate's cells beside its name; its figures where the logs can judge it."""
    cells = {"sec": f"{one.train_seconds:.1f}", "verdict": one.verdict}
    if not one.judged:
        return {"mean": "–", **cells}
    over = one.over_champion
    return {
        "uplift": uplift_text(one, _uplift_digits(report)),
        "p": p_value_text(one.p_value),
        "over": "" if over is None else uplift_text(over, report.decimals),
        "p_over": "" if over is None else p_value_text(over.p_value),
        "score": score_text(one, with_interval),
        **cells,
    }


def _uplift_digits(report: Report) -> int:
    """Decimals of the uplifts, fewer where intervals are wide: the table fits 80 columns."""
    if report.decimals != 2:
        return report.decimals
    judged = [one for one in report.candidates if one.judged]
    return 1 if max((abs(bound) for one in judged for bound in one.ci), default=0.0) < 100 else 0


def about(count: float | None) -> str:
    """An effective number, with a decimal where it is small; empty where it is unknown.

    Example:
        >>> about(9.26), about(12_345.6)
        ('9.3', '12,346')
    """
    return "" if count is None else f"{count:,.1f}" if count < 100 else f"{count:,.0f}"


def show_dataset(dataset: DatasetRef, as_json: bool = False, remarks: Sequence[str] = ()) -> None:
    """Path, rows and digest of a dataset, and remarks on its source."""
    if as_json:
        return print_json(dataset.model_dump(mode="json"))
    path = short_path(dataset.path)
    output.print(f"{path}: {dataset.rows:,} rows\n{dataset.digest}", soft_wrap=True)
    for remark in remarks:
        output.print(remark, soft_wrap=True)


def show_models(models: list[ModelRef], as_json: bool = False) -> None:
    """Trained models and the runs that hold them."""
    if as_json:
        return print_json([model.model_dump(mode="json") for model in models])
    table = new_table("learner", ">train s", "MLflow run")
    for model in models:
        table.add_row(model.learner, f"{model.train_seconds:.1f}", model.run_id)
    show_table(output, table)


def show_estimate(report: EstimateReport, as_json: bool = False) -> None:
    """The estimators' table, the overlap, and which estimate to trust."""
    if as_json:
        return print_json(report.model_dump(mode="json"))
    title = f"{report.policy} by the logs of {report.recipe}, {report.sessions:,} sessions"
    if report.visitors is not None:
        title += f" of {report.visitors:,} visitors"
    output.print(title, style="italic", soft_wrap=True)  # a table would break it inside a URI
    table = new_table("estimator", ">return", ">95%", "")
    for one in report.estimates:
        trusted = one.estimator == report.trusted
        low, high = one.ci
        table.add_row(
            one.estimator,
            f"{one.value:.6g}",
            f"[{low:.6g}, {high:.6g}]",
            "trusted" if trusted else "",
            style="bold green" if trusted else "",
        )
    show_table(output, table)
    output.print(f"logged {report.logged.mean:.6g} ± {report.logged.sem:.2g}")
    if (overlap := report.overlap) is not None:
        figures = {
            "effective decisions": about(overlap.ess),
            "effective rewards": about(overlap.effective_rewards),
            "mean weight": "" if overlap.mean_weight is None else f"{overlap.mean_weight:.3f}",
            "largest weight": f"{overlap.largest_weight:.3g}",
            "largest share": f"{overlap.largest_share:.1%}",
            "hardly seen": f"{overlap.unsupported:.1%}",
        }
        known = (f"{name} {value}" for name, value in figures.items() if value)
        output.print(", ".join(known), style="dim")
    if report.no_verdict is not None:
        output.print(Text.assemble(("\nno verdict", "bold"), f": {report.no_verdict}"))


def show_study(study: StudyReport, logs: Sequence[str], as_json: bool = False) -> None:
    """The trials, the best of them, and the command that trains with its settings."""
    if as_json:
        return print_json(study.model_dump(mode="json"))
    title = f"{study.learner}, {len(study.trials)} trials"
    table = new_table(">trial", ">value", ">sec", "settings", title=title, wraps="settings")
    for trial in sorted(study.trials, key=lambda one: -(one.value or float("-inf"))):
        table.add_row(
            str(trial.number),
            "none" if trial.value is None else f"{trial.value:#.6g}",
            f"{trial.train_seconds:.1f}",
            ", ".join(f"{k} {v}" for k, v in trial.settings.items()) or "the defaults",
            style="bold green" if trial.number == study.best else "",
        )
    show_table(output, table)
    output.print("value: return expected on held-out logs, by off-policy evaluation", style="dim")
    for trial in study.trials:
        if trial.error:
            output.print(f"trial {trial.number}: {trial.error}", style="dim")
    settings = study.best_trial.settings.items()
    chosen = [word for name, value in settings for word in ("--set", f"{name}={value}")]
    train = typed("slateflow", "train", *logs, "--learner", study.learner, *chosen)
    output.print(f"\ntrial {study.best} is best", style="bold")
    output.print(f"Train with it   {train}", soft_wrap=True)


def show_baselines(name: str, baselines: list[PolicyBaseline], as_json: bool = False) -> None:
    """Returns and slopes of the behaviour policies."""
    if as_json:
        return print_json([asdict(baseline) for baseline in baselines])
    title = f"{name}, {baselines[0].episodes:,} episodes each"
    table = new_table("policy", ">return ± s.e.", ">slope ± s.e. of the reward a step", title=title)
    for baseline in baselines:
        label = f" ({baseline.label})" if baseline.label != baseline.policy else ""
        table.add_row(
            baseline.policy + label,
            f"{baseline.mean:.2f} ± {baseline.sem:.2f}",
            f"{baseline.slope:+.5f} ± {baseline.slope_sem:.5f}",
        )
    show_table(output, table)
