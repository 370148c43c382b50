"""Step one: trajectories into Parquet."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger, task

from slateflow.trajectories import Dataset, Folder, Recipe, generate, read_recipe
from tasks.progress import stage
from tasks.references import DatasetReference
from tasks.tracking import PROJECT


def find_recipe(name: str, episodes: int | None, seed: int | None) -> Recipe:
    """The recipe of that name in the project's `datasets` folder, perhaps of another size."""
    return read_recipe(Path(PROJECT) / "datasets", name).varied(episodes, seed)


def data_folder(url: str | None) -> Folder:
    """Where the datasets are: the given folder or URL, or the project's `datasets`."""
    return Folder(url or str(PROJECT / "datasets"))


@task(task_run_name="generate {recipe.name}")
def generate_dataset(recipe: Recipe, data: str | None, workers: int) -> DatasetReference:
    """Make the recipe's dataset, or find it made."""
    progress = stage(f"generate {recipe.name}")
    dataset = generate(recipe, data_folder(data), workers, progress)
    progress(1, 1)  # also where it was found made
    get_run_logger().info("%s: %d rows, %s", dataset.path, dataset.rows, dataset.digest)
    return reference(dataset)


@task(task_run_name="verify {path}")
def verify_dataset(path: str) -> DatasetReference:
    """Read every part and compare its digest with the manifest."""
    return reference(Dataset.open(path).verify())


def reference(dataset: Dataset) -> DatasetReference:
    """What travels on: path and digest."""
    return DatasetReference(path=dataset.path, digest=dataset.digest, rows=dataset.rows)
