"""Events that tell which dataset a model came from; deployments are triggered by them.

Prefect's assets say the same, but its open-source UI does not show them, and their keys stand in
the code, not in the run. Every event carries the flow run, and so the deployment, by itself.
"""

from __future__ import annotations

from prefect.events import RelatedResource, emit_event

from tasks.references import DatasetReference, ModelReference, RegisteredVersion


def dataset_name(dataset: DatasetReference) -> str:
    """The last part of its path."""
    return dataset.path.rstrip("/").rsplit("/", 1)[-1]


def dataset_published(dataset: DatasetReference, environment: str) -> None:
    """A dataset is there, made now or before."""
    resource = {**_dataset(dataset), "slateflow.environment": environment}
    emit_event("slateflow.dataset.published", resource, payload=dataset.model_dump())


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


def _dataset(dataset: DatasetReference) -> dict[str, str]:
    return {
        "prefect.resource.id": f"slateflow.dataset.{dataset.digest.removeprefix('sha256:')}",
        "prefect.resource.name": dataset_name(dataset),
    }
