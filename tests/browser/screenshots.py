"""Screenshots of a week of nights under `slateflow up`: those of the docs, and all for the watcher.

    uv run python -m tests.browser.screenshots [FOLDER]

With a folder, it gets every page that is looked at in the morning, in both of Prefect's interfaces;
those of the docs are made anew without one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from PIL import Image
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.states import Scheduled

from tests.browser.pages import Browser, browsing
from tests.servers import BIN
from tests.up import Up, running_up, wait_until

RECIPE = "modified-lts-20-2"
DEPLOYMENT = f"pipeline/nightly-{RECIPE}"
VIEW = "workflowType=machine_learning&viewStateShareKey=slateflow"  # columns that matter
ALERT = "slateflow.alert.no-winner"
Page = tuple[str, str, int]  # address, what is to be read on it, height of its picture
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


def night(client: SyncPrefectClient, day: datetime, parameters: dict[str, Any]) -> FlowRun:
    """Run the nightly deployment to its end, as of that day."""
    deployment = client.read_deployment_by_name(DEPLOYMENT).id
    due = Scheduled(scheduled_time=day)
    run = client.create_flow_run_from_deployment(deployment, parameters=parameters, state=due).id
    wait_until(lambda: client.read_flow_run(run).state.is_final(), 1200, "the run's end")
    return client.read_flow_run(run)


def pages(client: SyncPrefectClient, runs: list[FlowRun]) -> dict[str, Page]:
    """Prefect's pages, by name."""
    deployment = client.read_deployment_by_name(DEPLOYMENT).id
    promoted = next(run for run in reversed(runs) if "promoted" in run.tags)
    (task,) = [
        task
        for task in client.read_task_runs(limit=200)
        if task.flow_run_id == promoted.id and task.name.startswith("report ")
    ]

    def newest(key: str) -> str:
        written = [one for one in client.read_artifacts() if one.key == key]
        return f"artifacts/artifact/{max(written, key=lambda one: one.created).id}"

    return {
        "deployment": (f"deployments/deployment/{deployment}", ": promoted", 1000),
        "run": (f"runs/flow-run/{promoted.id}", "Task Runs", 800),
        "task": (f"runs/task-run/{task.id}", "Run Count", 700),
        "overview": (newest("slateflow"), "champion since", 1250),
        "report": (newest(f"slateflow-{RECIPE}"), "those before", 1900),
        "alert": (f"events?events={ALERT}", RECIPE, 700),
        "artifacts": ("artifacts", f"slateflow-{RECIPE}", 500),
    }


def shoot(browser: Browser, address: str, expected: str, file: Path, size: tuple[int, int]) -> None:
    """A picture of a page, in 256 colours."""
    browser.open(address, expected)
    browser.shoot(file, *size)
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(
            256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        ).save(file, optimize=True)


def week(up: Up, client: SyncPrefectClient) -> list[FlowRun]:
    """The nights, the last of which is today's."""
    today = datetime.now(UTC).replace(hour=3, minute=0)
    days = [today - timedelta(days=len(WEEK) - 1 - number) for number in range(len(WEEK))]
    runs = [night(client, day, given) for day, given in zip(days, WEEK, strict=True)][:-1]
    variables = {"PREFECT_API_URL": up.api, "MLFLOW_TRACKING_URI": up.mlflow}
    subprocess.run(
        [str(BIN / "slateflow"), "rollback", RECIPE], env={**os.environ, **variables}, check=True
    )
    return [*runs, night(client, datetime.now(UTC), WEEK[-1])]


def plan(client: SyncPrefectClient) -> None:
    """Let the schedules, which tests pause, plan their runs, and write the overview anew."""
    for deployment in client.read_deployments():
        client.resume_deployment(deployment.id)
    scheduled = FlowRunFilter.model_validate({"state": {"type": {"any_": ["SCHEDULED"]}}})
    nights = FlowFilter.model_validate({"name": {"any_": ["pipeline"]}})
    wait_until(
        lambda: len(client.read_flow_runs(flow_filter=nights, flow_run_filter=scheduled)) > 6,
        180,
        "planned runs",
    )
    deployment = client.read_deployment_by_name("overview/overview").id
    run = client.create_flow_run_from_deployment(deployment).id
    wait_until(lambda: client.read_flow_run(run).state.is_final(), 300, "the overview")


def main(folder: Path | None) -> None:
    """Run the nights, and open what a person would."""
    with (
        tempfile.TemporaryDirectory() as made,
        running_up(Path(made), SLATEFLOW_ALERT_NIGHTS="1") as up,
        SyncPrefectClient(up.api) as client,
        browsing(Path(made, "browser")) as browser,
    ):
        runs = week(up, client)
        plan(client)
        found = pages(client, runs)
        for name in ("run", "overview", "report"):
            address, expected, height = found[name]
            shoot(browser, f"{up.ui}/{address}", expected, DOCS / f"{name}.png", (1280, height))
        name = f"slateflow-{RECIPE}"
        champion = MlflowClient(up.mlflow).get_model_version_by_alias(name, "champion").version
        version = f"{up.mlflow}/#/models/{name}/versions/{champion}"
        shoot(browser, version, "Description", DOCS / "version.png", (1700, 1250))
        if folder is not None:
            watch(browser, up, found, folder)


def watch(browser: Browser, up: Up, found: dict[str, Page], folder: Path) -> None:
    """Every page, in both interfaces, and MLflow's table."""
    folder.mkdir(parents=True, exist_ok=True)
    for version, ui in (("v1", up.ui), ("v2", f"{up.ui}/v2")):
        for name, (address, expected, height) in found.items():
            if version == "v2":  # its lists in addresses are JSON
                address = address.replace("events=", "events=%5B%22").replace(
                    ALERT, f"{ALERT}%22%5D"
                )
            file = folder / f"{name}-{version}.png"
            shoot(browser, f"{ui}/{address}", expected, file, (1280, height))
    experiment = MlflowClient(up.mlflow).get_experiment_by_name(f"slateflow-{RECIPE}")
    table = f"{up.mlflow}/#/experiments/{experiment.experiment_id}/runs"
    file = folder / "experiment.png"
    shoot(browser, f"{table}?{VIEW}", "report-", file, (1700, 1000))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
