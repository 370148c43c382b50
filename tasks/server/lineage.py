"""Events that connect datasets, models and verdicts; deployments are triggered by them.

Prefect's assets carry the same facts, but its open-source UI does not show assets, and their keys
are fixed in the code instead of set by a run. Every event carries the flow run, and so the
deployment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
from prefect.client.orchestration import get_client
from prefect.events import Event, RelatedResource, Resource, emit_event
from prefect.runtime import flow_run

from tasks.experiment import Experiment, ModelRef

if TYPE_CHECKING:
    from tasks.reports.report import Report


def dataset_published(experiment: Experiment) -> None:
    """Emit the experiment once its dataset exists: a training takes it as it is."""
    payload = {"experiment": experiment.model_dump(mode="json")}
    name = experiment.dataset.name
    _emit("slateflow.dataset.published", _dataset(experiment), name, experiment.recipe, payload, {})


def model_trained(model: ModelRef, experiment: Experiment) -> None:
    """Emit a model that was trained and is a run in MLflow."""
    name = f"{model.learner} for {experiment.recipe}"
    related = {"dataset": _dataset(experiment)}
    payload = model.model_dump()
    resource = f"run.{model.run_id}"
    _emit("slateflow.model.trained", resource, name, experiment.recipe, payload, related)


def training_finished(models: list[ModelRef], experiment: Experiment) -> None:
    """Emit the experiment and all its models: an evaluation takes them as they are."""
    payload = {
        "experiment": experiment.model_dump(mode="json"),
        "models": [model.model_dump() for model in models],
    }
    related, name = {"dataset": _dataset(experiment)}, f"training on {experiment.recipe}"
    resource = f"training.{flow_run.id}"
    _emit("slateflow.training.finished", resource, name, experiment.recipe, payload, related)


def verdict_given(report: Report) -> None:
    """Emit a verdict: a registration takes it as it is."""
    experiment, winner = report.experiment, report.winner
    payload = {"verdict": report.model_dump(mode="json")}
    labels = {} if winner is None else {"slateflow.winner": winner.learner}
    resource, name = f"verdict.{flow_run.id}", f"verdict on {experiment.recipe}"
    _emit("slateflow.verdict.given", resource, name, experiment.recipe, payload, {}, **labels)


def model_promoted(report: Report) -> None:
    """Emit the version that became the champion."""
    winner, registered = report.winner, report.registered
    if winner is None or registered is None:
        return
    resource = f"version.{registered.name}.{registered.version}"
    name = f"{registered.name} version {registered.version}"
    recipe, related = report.experiment.recipe, {"model": f"run.{winner.run_id}"}
    _emit("slateflow.model.promoted", resource, name, recipe, registered.model_dump(), related)


def model_rolled_back(recipe: str, name: str, champion: int, former: int | None) -> bool:
    """Send the server the new and the former champion of a rollback; returns whether it answered.

    A rollback is not a flow, and its process ends at once, so it waits for the answer.
    """
    event = Event(
        event="slateflow.model.rolled-back",
        resource=Resource(
            labels_of(f"version.{name}.{champion}", f"{name} version {champion}", recipe)
        ),
        payload={"name": name, "version": champion, "former": former},
    )
    with get_client(sync_client=True) as client:
        try:
            client.request("POST", "/events", json=[event.model_dump(mode="json")])
        except httpx.HTTPError:
            return False
    return True


def _emit(
    event: str,
    resource: str,
    name: str,
    recipe: str,
    payload: dict[str, Any],
    related: dict[str, str],
    **labels: str,
) -> None:
    """Emit an event about a resource; `related` has those that it comes from, by their role."""
    sources = [
        RelatedResource(
            {"prefect.resource.id": f"slateflow.{source}", "prefect.resource.role": role}
        )
        for role, source in related.items()
    ]
    named = {**labels_of(resource, name, recipe), **labels}
    emit_event(event, named, related=sources, payload=payload)


def labels_of(resource: str, name: str, recipe: str) -> dict[str, str]:
    """Labels of a resource of ours."""
    return {
        "prefect.resource.id": f"slateflow.{resource}",
        "prefect.resource.name": name,
        "slateflow.recipe": recipe,
    }


def _dataset(experiment: Experiment) -> str:
    return f"dataset.{experiment.dataset.digest.removeprefix('sha256:')}"
