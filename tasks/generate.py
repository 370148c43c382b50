"""Step one: trajectories into Parquet."""

from __future__ import annotations

from prefect import get_run_logger, task

from slateflow.trajectories import AnyRecipe, generate
from slateflow.trajectories.sources.lines_passed_by import source_remarks
from tasks.experiment import Experiment, data_folder
from tasks.server.lineage import dataset_published
from tasks.server.progress import stage_with_artifact


@task(task_run_name="generate {recipe.dataset_name}")
def generate_dataset(recipe: AnyRecipe, data: str | None, workers: int) -> Experiment:
    """Create the recipe's dataset unless it already exists; own logs are read and checked."""
    title = f"generate {recipe.dataset_name}"
    progress = stage_with_artifact(title, f"generate-{recipe.name}", title)
    dataset = generate(recipe, data_folder(data), workers, progress)
    progress(1, 1)  # also where it already existed
    get_run_logger().info("%s: %d rows, %s", dataset.path, dataset.rows, dataset.digest)
    for remark in source_remarks(dataset):
        get_run_logger().info("%s: %s", dataset.path, remark)
    experiment = Experiment.on(dataset, recipe.name, recipe.seed)
    dataset_published(experiment)
    return experiment


@task(task_run_name="verify {experiment.dataset.name}")
def verify_dataset(experiment: Experiment) -> None:
    """Read every part and compare its digest with the manifest, and with the expected one."""
    experiment.open_dataset().verify()
