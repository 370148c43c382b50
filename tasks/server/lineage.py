"""Events that tell which dataset a model came from; deployments are triggered by them.

Prefect's assets say the same, but its open-source UI does not show them, and their keys stand in
the code, not in the run. Every event carries the flow run, and so the deployment, by itself.
"""

from __future__ import annotations

from prefect.events import RelatedResource, emit_event
from prefect.runtime import flow_run

from tasks.reports.documents import (
    DatasetReference,
    ModelReference,
    RegisteredVersion,
    VerdictReport,
    World,
)


def dataset_name(dataset: DatasetReference) -> str:
    """The last part of its path."""
    return dataset.path.rstrip("/").rsplit("/", 1)[-1]


def dataset_published(dataset: DatasetReference, world: World) -> None:
    """A dataset is there, made now or before; all that a training on it needs to know."""
    resource = {**_dataset(dataset), "slateflow.environment": world.environment}
    payload = {**dataset.model_dump(), **world.model_dump()}
    emit_event("slateflow.dataset.published", resource, payload=payload)


def model_trained(model: ModelReference, dataset: DatasetReference, environment: str) -> None:
    """A model was trained on a dataset and is a run in MLflow."""
    emit_event(
        "slateflow.model.trained",
        {
            "prefect.resource.id": f"slateflow.run.{model.run_id}",
            "prefect.resource.name": f"{model.learner} for {environment}",
            "slateflow.environment": environment,
        },
        related=[RelatedResource({**_dataset(dataset), "prefect.resource.role": "dataset"})],
        payload=model.model_dump(),
    )


def training_finished(
    models: list[ModelReference], dataset: DatasetReference, world: World
) -> None:
    """All learners of a run are trained; all that an evaluation needs to know."""
    emit_event(
        "slateflow.training.finished",
        _run_resource("training", world),
        related=[RelatedResource({**_dataset(dataset), "prefect.resource.role": "dataset"})],
        payload={**world.model_dump(), "models": [model.model_dump() for model in models]},
    )


def verdict_given(verdict: VerdictReport, world: World) -> None:
    """Models were played against random; all that a registration needs to know."""
    winner = verdict.winner
    emit_event(
        "slateflow.verdict.given",
        {
            **_run_resource("verdict", world),
            **({} if winner is None else {"slateflow.winner": winner.learner}),
        },
        payload={**world.model_dump(), "verdict": verdict.model_dump(mode="json")},
    )


def model_promoted(registered: RegisteredVersion, run_id: str, environment: str) -> None:
    """A run's model became the champion of the registry."""
    run = {"prefect.resource.id": f"slateflow.run.{run_id}", "prefect.resource.role": "model"}
    emit_event(
        "slateflow.model.promoted",
        {
            "prefect.resource.id": f"slateflow.version.{registered.name}.{registered.version}",
            "prefect.resource.name": f"{registered.name} version {registered.version}",
            "slateflow.environment": environment,
        },
        related=[RelatedResource(run)],
        payload=registered.model_dump(),
    )


def _run_resource(kind: str, world: World) -> dict[str, str]:
    """What a flow run found, by the run's id."""
    return {
        "prefect.resource.id": f"slateflow.{kind}.{flow_run.id}",
        "prefect.resource.name": f"{kind} in {world.environment}",
        "slateflow.environment": world.environment,
    }


def _dataset(dataset: DatasetReference) -> dict[str, str]:
    return {
        "prefect.resource.id": f"slateflow.dataset.{dataset.digest.removeprefix('sha256:')}",
        "prefect.resource.name": dataset_name(dataset),
    }
