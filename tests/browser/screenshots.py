"""Screenshots of a week of nights under `slateflow up`: for the docs, or of all watched pages.

    uv run python -m tests.browser.screenshots [FOLDER [--before CHECKOUT]]

With a folder, every page that operators open in the morning is saved there, in both of Prefect's
interfaces; without one, the docs' screenshots are replaced. `--before` adds the pages of an earlier
commit, from a checkout with its packages synced.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from PIL import Image
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.states import Scheduled

from tests.browser.pages import Browser, browsing
from tests.servers import BIN
from tests.up import Up, running_up, wait_until

RECIPE = "modified-lts-20-2"
DEPLOYMENT = f"pipeline/nightly-{RECIPE}"
VIEW = "workflowType=machine_learning&viewStateShareKey=slateflow"  # columns that matter
ALERT = "slateflow.alert.no-winner"
Page = tuple[str, str, int]  # address, words that it has to show, height of its picture
DOCS = Path(__file__).parents[2] / "docs"
QUICK = {"episodes": 200, "learners": ["linucb", "lints"], "evaluation_episodes": 300}
BETTER = {**QUICK, "learners": ["linucb", "fitted-q"]}
WEEK: list[dict[str, Any]] = [
    QUICK,
    {**QUICK, "data": "/proc/nowhere"},  # cannot be written
    BETTER,
    BETTER,
    BETTER,
    {},  # as every night, after a rollback
]
"""Parameters of the nights."""


def ended(client: SyncPrefectClient, deployment: str, **order: Any) -> FlowRun:
    """Run a deployment to its end."""
    found = client.read_deployment_by_name(deployment).id
    run = client.create_flow_run_from_deployment(found, **order).id
    wait_until(lambda: client.read_flow_run(run).state.is_final(), 1200, "the run's end")
    return client.read_flow_run(run)


def night(client: SyncPrefectClient, day: datetime, parameters: dict[str, Any]) -> FlowRun:
    """Run the nightly deployment to its end, as if on a given day."""
    due = Scheduled(scheduled_time=day)
    return ended(client, DEPLOYMENT, parameters=parameters, state=due)


def is_promoted(run: FlowRun) -> bool:
    """True if a run registered a winner, by its tags, or by its state as in earlier commits."""
    return "promoted" in run.tags or run.state_name == "Promoted"


def pages(client: SyncPrefectClient, runs: list[FlowRun]) -> dict[str, Page]:
    """Prefect's pages by name."""
    deployment = client.read_deployment_by_name(DEPLOYMENT).id
    promoted = next(run for run in reversed(runs) if is_promoted(run))
    (task,) = [
        task
        for task in client.read_task_runs(limit=200)
        if task.flow_run_id == promoted.id and task.name.startswith("report ")
    ]
    artifacts = sorted(client.read_artifacts(), key=lambda one: str(one.created))
    newest = {one.key: f"artifacts/artifact/{one.id}" for one in artifacts}
    found: dict[str, Page] = {
        "deployment": (f"deployments/deployment/{deployment}", promoted.name, 720),
        "run": (f"runs/flow-run/{promoted.id}", "Task Runs", 800),
        "task": (f"runs/task-run/{task.id}", "Run Count", 700),
        "report": (newest[f"slateflow-{RECIPE}"], "earlier ones", 1900),
        "artifacts": ("artifacts", f"slateflow-{RECIPE}", 500),
        "feed": ("events", "pipeline", 700),
    }
    if "slateflow" in newest:
        found["overview"] = (newest["slateflow"], "champion since", 1250)
    alerts = EventFilter(event=EventNameFilter(name=[ALERT]))
    if client.read_events(alerts, limit=1).events:
        found["alert"] = (f"events?events={ALERT}", RECIPE, 700)
    return found


def shoot(
    browser: Browser,
    address: str,
    expected: str,
    file: Path,
    size: tuple[int, int],
    needed: bool = True,
) -> None:
    """A picture of a page in 256 colours, even if it stays blank, unless `needed`."""
    try:
        browser.open(address, expected)
    except AssertionError:
        if needed:
            raise
        print(f"{file.name}: {expected!r} is not on the page")
    browser.shoot(file, *size)
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(
            256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        ).save(file, optimize=True)


def week(up: Up, client: SyncPrefectClient, given: dict[str, str]) -> list[FlowRun]:
    """The nights, the last of which is today's; `given` are parameters of all."""
    today = datetime.now(UTC).replace(hour=3, minute=0)
    days = [today - timedelta(days=len(WEEK) - 1 - number) for number in range(len(WEEK))]
    runs = [night(client, day, given | of) for day, of in zip(days, WEEK, strict=True)]
    variables = {"PREFECT_API_URL": up.api, "MLFLOW_TRACKING_URI": up.mlflow}
    subprocess.run(
        [str(up.programs / "slateflow"), "rollback", RECIPE],
        env={**os.environ, **variables},
        check=True,
    )
    return [*runs, night(client, datetime.now(UTC), given | WEEK[-1])]


def plan(client: SyncPrefectClient) -> None:
    """Let the schedules, which tests pause, plan their runs, and rewrite the overview."""
    deployments = client.read_deployments()
    for deployment in deployments:
        client.resume_deployment(deployment.id)
    scheduled = FlowRunFilter.model_validate({"state": {"type": {"any_": ["SCHEDULED"]}}})
    nights = FlowFilter.model_validate({"name": {"any_": ["pipeline"]}})
    wait_until(
        lambda: len(client.read_flow_runs(flow_filter=nights, flow_run_filter=scheduled)) > 6,
        180,
        "planned runs",
    )
    if any(one.name == "overview" for one in deployments):
        ended(client, "overview/overview")


@contextmanager
def watched(programs: Path, **given: str) -> Iterator[tuple[Browser, Up, dict[str, Page]]]:
    """A browser, an `up` after a week, and its pages; `given` are parameters of the nights."""
    with (
        tempfile.TemporaryDirectory() as made,
        running_up(Path(made), programs, SLATEFLOW_ALERT_NIGHTS="1", HOME=made) as up,
        SyncPrefectClient(up.api) as client,
        browsing(Path(made, "browser")) as browser,
    ):
        runs = week(up, client, given)
        plan(client)
        yield browser, up, pages(client, runs)


def main(folder: Path | None, before: Path | None) -> None:
    """Run the nights, and open the pages that a person would."""
    with watched(BIN) as (browser, up, found):
        for name in ("deployment", "run", "overview", "report"):
            address, expected, height = found[name]
            shoot(browser, f"{up.ui}/{address}", expected, DOCS / f"{name}.png", (1280, height))
        name = f"slateflow-{RECIPE}"
        champion = MlflowClient(up.mlflow).get_model_version_by_alias(name, "champion").version
        version = f"{up.mlflow}/#/models/{name}/versions/{champion}"
        shoot(browser, version, "Description", DOCS / "version.png", (1700, 1250))
        if folder is not None:
            watch(browser, up, found, folder)
    if folder is not None and before is not None:
        with (
            tempfile.TemporaryDirectory() as data,
            watched(before.resolve() / ".venv/bin", data=data) as (browser, up, old),
        ):
            watch(browser, up, old, folder, before=True)
        shutil.copy(folder / "deployment-v1-before.png", DOCS / "deployment-before.png")
        print("not there before:", *(name for name in found if name not in old))


def watch(
    browser: Browser, up: Up, found: dict[str, Page], folder: Path, before: bool = False
) -> None:
    """Every page, in both interfaces, and MLflow's table."""
    folder.mkdir(parents=True, exist_ok=True)
    when = "-before" if before else ""
    for version, ui in (("v1", up.ui), ("v2", f"{up.ui}/v2")):
        for name, (address, expected, height) in found.items():
            if version == "v2":  # its lists in addresses are JSON
                address = address.replace("events=", "events=%5B%22").replace(
                    ALERT, f"{ALERT}%22%5D"
                )
            file = folder / f"{name}-{version}{when}.png"
            shoot(browser, f"{ui}/{address}", expected, file, (1280, height), not before)
    experiment = MlflowClient(up.mlflow).get_experiment_by_name(f"slateflow-{RECIPE}")
    table = f"{up.mlflow}/#/experiments/{experiment.experiment_id}/runs"
    if "mlflow.sharedViewState.slateflow" in experiment.tags:
        table += f"?{VIEW}"
    file = folder / f"experiment{when}.png"
    shoot(browser, table, "fitted-q-", file, (1700, 1000), not before)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Screenshots of a week of nights.")
    parser.add_argument("folder", metavar="FOLDER", type=Path, nargs="?")
    parser.add_argument("--before", metavar="CHECKOUT", type=Path)
    options = parser.parse_args()
    if options.before and not options.folder:
        parser.error("--before: expected a FOLDER, too, got none")
    main(options.folder, options.before)
