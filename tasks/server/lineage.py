"""Events that connect datasets, models and verdicts; deployments are triggered by them.

Prefect's assets carry the same facts, but its open-source UI does not show them, and their keys
stand in the code, not in the run. Every event carries the flow run, and so the deployment.
"""

from __future__ import annotations

from prefect.events import RelatedResource, emit_event
from prefect.runtime import flow_run

from tasks.experiment import DatasetRef, Experiment, ModelRef
from tasks.reports.report import Report


def dataset_published(experiment: Experiment) -> None:
    """Emit the experiment once its dataset exists: a training takes it as it is."""
    resource = {**_dataset(experiment.dataset), "slateflow.recipe": experiment.recipe}
    payload = {"experiment": experiment.model_dump(mode="json")}
    emit_event("slateflow.dataset.published", resource, payload=payload)


def model_trained(model: ModelRef, experiment: Experiment) -> None:
    """Emit a model that was trained and is a run in MLflow."""
    emit_event(
        "slateflow.model.trained",
        {
            "prefect.resource.id": f"slateflow.run.{model.run_id}",
            "prefect.resource.name": f"{model.learner} for {experiment.recipe}",
            "slateflow.recipe": experiment.recipe,
        },
        related=[_related_dataset(experiment)],
        payload=model.model_dump(),
    )


def training_finished(models: list[ModelRef], experiment: Experiment) -> None:
    """Emit the experiment and all its models: an evaluation takes them as they are."""
    emit_event(
        "slateflow.training.finished",
        _run_resource("training", experiment),
        related=[_related_dataset(experiment)],
        payload={
            "experiment": experiment.model_dump(mode="json"),
            "models": [model.model_dump() for model in models],
        },
    )


def verdict_given(report: Report) -> None:
    """Emit a verdict: a registration takes it as it is."""
    winner = report.winner
    emit_event(
        "slateflow.verdict.given",
        {
            **_run_resource("verdict", report.experiment),
            **({} if winner is None else {"slateflow.winner": winner.learner}),
        },
        payload={"verdict": report.model_dump(mode="json")},
    )


def model_promoted(report: Report) -> None:
    """Emit the version that became the champion."""
    winner, registered = report.winner, report.registered
    if winner is None or registered is None:
        return
    run = {
        "prefect.resource.id": f"slateflow.run.{winner.run_id}",
        "prefect.resource.role": "model",
    }
    emit_event(
        "slateflow.model.promoted",
        {
            "prefect.resource.id": f"slateflow.version.{registered.name}.{registered.version}",
            "prefect.resource.name": f"{registered.name} version {registered.version}",
            "slateflow.recipe": report.experiment.recipe,
        },
        related=[RelatedResource(run)],
        payload=registered.model_dump(),
    )


def _run_resource(kind: str, experiment: Experiment) -> dict[str, str]:
    """The finding of this flow run, by the run's id."""
    return {
        "prefect.resource.id": f"slateflow.{kind}.{flow_run.id}",
        "prefect.resource.name": f"{kind} on {experiment.recipe}",
        "slateflow.recipe": experiment.recipe,
    }


def _dataset(dataset: DatasetRef) -> dict[str, str]:
    return {
        "prefect.resource.id": f"slateflow.dataset.{dataset.digest.removeprefix('sha256:')}",
        "prefect.resource.name": dataset.name,
    }


def _related_dataset(experiment: Experiment) -> RelatedResource:
    return RelatedResource({**_dataset(experiment.dataset), "prefect.resource.role": "dataset"})
