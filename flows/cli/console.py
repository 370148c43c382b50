"""Output of the command line: progress on standard error, tables on standard output."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from flows.cli.options import new_table, print_json
from slateflow.evaluation import PolicyBaseline
from tasks.experiment import DatasetRef, ModelRef
from tasks.reports.page import p_value
from tasks.reports.report import Report
from tasks.reports.study import StudyReport
from tasks.server.progress import listening
from tasks.store.tracking import PROJECT, redact_passwords, tracking_uri

output = Console()
errors = Console(stderr=True)


@contextmanager
def progress(first: str) -> Iterator[None]:
    """Show stages of tasks as bars; `first` is shown until a stage begins."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as bars:
        stages: dict[str, TaskID] = {first: bars.add_task(first, total=None)}

        def show(name: str, done: int, total: int) -> None:
            bars.update(stages[first], total=1, completed=1)
            if name not in stages:
                stages[name] = bars.add_task(name, total=total)
            bars.update(stages[name], completed=done, total=total)

        with listening(show):
            yield


def show_report(report: Report, as_json: bool = False) -> None:
    """The verdict's table, what was registered, and what to open next."""
    if as_json:
        return print_json(report.document())
    dataset = report.experiment.dataset
    path = short_path(dataset.path)
    output.print(f"{path}: {dataset.rows:,} rows, {dataset.digest[:19]}…", soft_wrap=True)
    show_verdict(report)
    output.print(f"\n[bold]{report.summary}[/bold]")
    if (registered := report.registered) is not None:
        uri = f"models:/{registered.name}@{registered.alias}"
        output.print(f"Load it   mlflow.pyfunc.load_model({uri!r})", soft_wrap=True)
    output.print(f"Open it   {open_hint()}", soft_wrap=True)


def short_path(path: str) -> str:
    """A path relative to the working directory, where it lies below it."""
    return path.removeprefix(f"{os.getcwd()}/")


def open_hint() -> str:
    """How to look at the runs and the registry."""
    uri = tracking_uri()
    if uri.startswith("http"):
        return uri
    if uri == f"sqlite:///{PROJECT}/mlflow/mlflow.db":
        uri = "sqlite:///mlflow/mlflow.db"
    return f"uv run mlflow ui --backend-store-uri {redact_passwords(uri)}"


def show_verdict(verdict: Report, as_json: bool = False) -> None:
    """Candidates, baseline and optimum as a table."""
    if as_json:
        return print_json(verdict.document())
    baseline, champion, check = verdict.baseline, verdict.champion, verdict.recsim_check
    title = f"{verdict.experiment.recipe}, {baseline.episodes:,} episodes each"
    columns = ("policy", ">return", ">uplift, 95%", ">p", ">score", ">sec", "verdict")
    table = new_table(*columns, title=title)
    if verdict.optimum is not None:
        table.add_row("optimum", f"{verdict.optimum.mean:.2f}", "", "", "1.000", style="dim")
    widest = max((abs(bound) for one in verdict.candidates for bound in one.ci), default=0.0)
    digits = 1 if widest < 100 else 0  # the table fits 80 columns
    for candidate in verdict.candidates:
        low, high = candidate.ci
        table.add_row(
            candidate.learner,
            f"{candidate.mean:.2f} ± {candidate.sem:.2f}",
            f"{candidate.uplift:+.{digits}f} \\[{low:+.{digits}f}, {high:+.{digits}f}]",
            p_value(candidate.p_value),
            "" if candidate.score is None else f"{candidate.score:.3f}",
            f"{candidate.train_seconds:.1f}",
            candidate.verdict,
            style="bold green" if candidate.verdict == "winner" else "",
        )
    if champion is not None:
        reached = f"{champion.mean:.2f} ± {champion.sem:.2f}"
        table.add_row("champion", reached, *[""] * 4, f"v{champion.version}")
    for one in verdict.logging_policies:
        if one.policy != baseline.policy:
            found = verdict.score(one)
            of_logs = "" if found is None else f"{found:.3f}"
            reached = f"{one.mean:.2f} ± {one.sem:.2f}"
            table.add_row(one.policy, reached, "", "", of_logs, "", "logged", style="dim")
    zero = "" if verdict.optimum is None else "0.000"
    reached = f"{baseline.mean:.2f} ± {baseline.sem:.2f}"
    table.add_row(baseline.policy, reached, "", "", zero, style="dim")
    output.print(table)
    for candidate in verdict.candidates:
        if candidate.overlap is not None and candidate.overlap.unsupported >= 0.005:
            share = f"{candidate.overlap.unsupported:.0%}"
            output.print(f"{candidate.learner}: the logs have hardly seen {share} of what it shows")
    best = verdict.candidates[0]
    if (gain := best.over_champion) is not None:
        low, high = gain.ci
        over = f"{gain.uplift:+.2f} \\[{low:+.2f}, {high:+.2f}]"
        output.print(f"{best.learner} over the champion: {over}")
    if check is not None:
        output.print(
            f"{check.learner} in RecSim's own code {check.recsim:.2f} ± {check.recsim_sem:.2f} "
            f"({check.episodes:,} episodes),\nbatched {check.batched:.2f} ± "
            f"{check.batched_sem:.2f} ({baseline.episodes:,} episodes): {check.deviation:+.1f} "
            "s.e.m. apart"
        )
    score = "score: random 0, optimum 1" if zero else "no score: optimum unknown"
    output.print(f"uplift over random on the same users; p after Holm; {score}", style="dim")


def show_dataset(dataset: DatasetRef, as_json: bool = False) -> None:
    """Path, rows and digest of a dataset."""
    if as_json:
        return print_json(dataset.model_dump(mode="json"))
    path = short_path(dataset.path)
    output.print(f"{path}: {dataset.rows:,} rows\n{dataset.digest}", soft_wrap=True)


def show_models(models: list[ModelRef], as_json: bool = False) -> None:
    """Trained models and the runs that hold them."""
    if as_json:
        return print_json([model.model_dump(mode="json") for model in models])
    table = new_table("learner", ">train s", "MLflow run")
    for model in models:
        table.add_row(model.learner, f"{model.train_seconds:.1f}", model.run_id)
    output.print(table)


def show_study(study: StudyReport, logs: str, as_json: bool = False) -> None:
    """The trials, the best of them, and the command that trains with its settings."""
    if as_json:
        return print_json(study.model_dump(mode="json"))
    title = f"{study.learner}, {len(study.trials)} trials"
    table = new_table(">trial", ">value", ">sec", "settings", title=title)
    for trial in sorted(study.trials, key=lambda one: -(one.value or float("-inf"))):
        table.add_row(
            str(trial.number),
            "none" if trial.value is None else f"{trial.value:.2f}",
            f"{trial.train_seconds:.1f}",
            ", ".join(f"{k} {v}" for k, v in trial.settings.items()) or "the defaults",
            style="bold green" if trial.number == study.best else "",
        )
    output.print(table)
    output.print("value: return expected on held-out logs, by off-policy evaluation", style="dim")
    chosen = "".join(f" --set {name}={v}" for name, v in study.best_trial.settings.items())
    output.print(f"\n[bold]trial {study.best} is best[/bold]")
    output.print(
        f"Train with it   slateflow train {logs} --learner {study.learner}{chosen}",
        soft_wrap=True,
    )


def show_baselines(name: str, baselines: list[PolicyBaseline], as_json: bool = False) -> None:
    """Returns and slopes of the behaviour policies."""
    if as_json:
        return print_json([asdict(baseline) for baseline in baselines])
    title = f"{name}, {baselines[0].episodes:,} episodes each"
    table = new_table("policy", ">return", ">slope of the reward a step", title=title)
    for baseline in baselines:
        label = f" ({baseline.label})" if baseline.label != baseline.policy else ""
        table.add_row(
            baseline.policy + label,
            f"{baseline.mean:.2f} ± {baseline.sem:.2f}",
            f"{baseline.slope:+.5f} ± {baseline.slope_sem:.5f}",
        )
    output.print(table)
