"""The page of every morning: each recipe's champion, verdict, failure and next run.

One artifact, under the key `slateflow`; its history has a page for each change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.filters import EventFilter
from prefect.runtime import flow_run

from tasks.reports.page import fill_in, moment_text, run_link
from tasks.reports.past_runs import PastRun, failed_night, past_runs
from tasks.server.deployments import TAG
from tasks.server.failures import failed_runs, overdue_runs, recipe_of
from tasks.server.progress import artifact_key
from tasks.server.retries import RETRIES
from tasks.store.champion import CHAMPION, aliased
from tasks.store.tracking import mlflow_client, model_name, page_url, redact_passwords, tracking_uri

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
    from prefect.client.schemas.objects import FlowRun

KEY = "slateflow"
_DAYS = 7
"""Number of days whose alerts and failures are on the page."""
_PREFIX = model_name("")


@dataclass(frozen=True)
class RecipeLine:
    """A recipe on the page."""

    name: str
    report: str | None  # address of its report
    champion: str
    champion_page: str | None
    since: str
    verdict: PastRun | None
    failure: PastRun | None
    next_run: str


@task(task_run_name="overview", **RETRIES)
def publish_overview() -> str:
    """Write the page anew."""
    client, now = mlflow_client(), datetime.now(UTC)
    failed, planned = failed_runs(), _next_runs()
    recipes = [
        _line(client, recipe, failed, planned)
        for recipe in sorted({*_recipes_in_mlflow(client), *planned})
    ]
    store = tracking_uri()
    markdown = fill_in(
        "overview.md",
        now=now,
        notices=[*_overdue(), *_unresolved(recipes, now), *_others(failed, now), *_told(now)],
        recipes=recipes,
        store=redact_passwords(store),
        home=page_url(store, "experiments"),
    )
    create_markdown_artifact(markdown, key=KEY, description="Slateflow: every recipe at a glance")
    return markdown


def _recipes_in_mlflow(client: MlflowClient) -> list[str]:
    """Recipes that have an experiment."""
    found = client.search_experiments(filter_string=f"name LIKE '{_PREFIX}%'")
    return [experiment.name.removeprefix(_PREFIX) for experiment in found]


def _next_runs() -> dict[str, str]:
    """When the deployments of each recipe run next, by recipe."""
    ours = DeploymentFilter.model_validate({"tags": {"all_": [TAG]}})
    scheduled = FlowRunFilter.model_validate({"state": {"type": {"any_": ["SCHEDULED"]}}})
    moments: dict[str, list[datetime]] = {}
    with get_client(sync_client=True) as client:
        for deployment in client.read_deployments(deployment_filter=ours):
            if "recipe" not in deployment.parameters:
                continue
            runs = client.read_flow_runs(
                deployment_filter=DeploymentFilter.model_validate(
                    {"id": {"any_": [deployment.id]}}
                ),
                flow_run_filter=scheduled,
                sort=FlowRunSort.EXPECTED_START_TIME_ASC,
                limit=1,
            )
            planned = [run.expected_start_time for run in runs if run.expected_start_time]
            moments.setdefault(str(deployment.parameters["recipe"]), []).extend(planned)
    return {
        recipe: moment_text(min(planned)) if planned else "none planned"
        for recipe, planned in moments.items()
    }


def _line(
    client: MlflowClient, recipe: str, failed: list[FlowRun], planned: dict[str, str]
) -> RecipeLine:
    """A recipe's line, as MLflow and Prefect know it now."""
    name, store = model_name(recipe), tracking_uri()
    version = aliased(client, name, CHAMPION)
    known = client.get_experiment_by_name(name) is not None
    nights = past_runs(client, recipe, failed) if known else _failures(recipe, failed)
    verdict = next((night for night in nights if night.best is not None), None)
    champion, since, page = "none", "", None
    if version is not None:
        page = page_url(store, f"models/{name}/versions/{version}")
        registered = client.get_model_version(name, str(version))
        champion = f"v{version} {registered.tags.get('learner', 'made by hand')}"
        since = _since(nights, version, registered.creation_timestamp)
    return RecipeLine(
        name=recipe,
        report=f"/artifacts/key/{artifact_key(KEY, recipe)}" if verdict else None,
        champion=champion,
        champion_page=page,
        since=since,
        verdict=verdict,
        failure=next((night for night in nights if night.failed), None),
        next_run=planned.get(recipe, "no deployment"),
    )


def _failures(recipe: str, failed: list[FlowRun]) -> list[PastRun]:
    return [failed_night(run) for run in failed if recipe_of(run) == recipe]


def _since(nights: list[PastRun], version: int, created: int) -> str:
    """When the version became champion, as far as it is known."""
    moved = next((night for night in nights if night.champion is not None), None)
    if moved is not None and moved.champion == version:
        return moment_text(moved.moment)
    if moved is not None:
        return "set by hand"
    return moment_text(datetime.fromtimestamp(created / 1000, UTC))


def _overdue() -> list[str]:
    """Runs that did not finish by their hour."""
    return [
        f"{run_link(run.name, str(run.id))} has been {str(run.state_name).lower()} since "
        f"{moment_text(run.expected_start_time)}"
        for run in overdue_runs()
        if run.expected_start_time is not None and str(run.id) != flow_run.id  # its end is near
    ]


def _unresolved(recipes: list[RecipeLine], now: datetime) -> list[str]:
    """Failures in the last `_DAYS` days after which the recipe has had no verdict yet."""
    found = []
    for one in recipes:
        failure, verdict = one.failure, one.verdict
        if failure is None or failure.moment < now - timedelta(days=_DAYS):
            continue
        if verdict is None or verdict.moment < failure.moment:
            found.append(_failure(one.name, failure))
    return found


def _others(failed: list[FlowRun], now: datetime) -> list[str]:
    """Failures in the last `_DAYS` days of runs without a recipe."""
    nights = {run.name: failed_night(run) for run in failed if recipe_of(run) is None}
    recent = now - timedelta(days=_DAYS)
    return [_failure(name, night) for name, night in nights.items() if night.moment > recent]


def _failure(name: str, night: PastRun) -> str:
    page = run_link(moment_text(night.moment), night.flow_run)
    reason = f": {night.message}" if night.message else ""
    return f"{name}: {night.outcome.lower()} {page}{reason}"


def _told(now: datetime) -> list[str]:
    """Alerts and rollbacks of the last `_DAYS` days, the newest first."""
    chosen = EventFilter.model_validate(
        {
            "occurred": {"since": now - timedelta(days=_DAYS)},
            "event": {"prefix": ["slateflow.alert.", "slateflow.model.rolled-back"]},
        }
    )
    with get_client(sync_client=True) as client:
        events = client.read_events(chosen, limit=20).events
    return [f"{moment_text(event.occurred)} {_event_text(event)}" for event in events]


def _event_text(event: Any) -> str:
    message = event.payload.get("message")
    return str(message or f"{event.resource.name} is the champion again, by a rollback")
