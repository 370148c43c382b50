"""Step one: trajectories into Parquet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.runtime import task_run

from slateflow.errors import InputError
from slateflow.trajectories import MANIFEST, Dataset, Folder, Recipe, generate, read_recipe
from tasks.reports.documents import DatasetReference, World
from tasks.server.lineage import dataset_published
from tasks.server.progress import watched_stage
from tasks.store.tracking import PROJECT


def find_recipe(name: str, episodes: int | None, seed: int | None) -> Recipe:
    """The recipe of that name in the project's `datasets` folder, perhaps of another size."""
    return read_recipe(Path(PROJECT) / "datasets", name).varied(episodes, seed)


@dataclass(frozen=True)
class Logs:
    """A dataset by its name: that of a recipe, or one that was imported.

    Attributes:
        url: Where it is, or will be when the recipe's is generated.
        environment: Preset of its world.
        parameters: Fields of the world's spec that differ from the preset.
        seed: Seed of trainings and evaluations on it.
    """

    url: str
    environment: str
    parameters: dict[str, Any]
    seed: int


def find_logs(name: str, episodes: int | None, seed: int | None, data: str | None) -> Logs:
    """The logs of that name; a recipe comes before an imported dataset."""
    is_recipe = (Path(PROJECT) / "datasets" / f"{name}.toml").exists()
    folder = data_folder(data) / name
    if not is_recipe and "/" not in name and folder.exists(MANIFEST):
        recipe = Dataset.open(folder.url).recipe
        if "imported" in recipe:
            if episodes is not None:
                raise InputError(f"--episodes: expected none for imported {name}, got {episodes}")
            return Logs(folder.url, recipe["environment"], recipe["parameters"], seed or 0)
    found = find_recipe(name, episodes, seed)
    url = (data_folder(data) / found.name).url
    return Logs(url, found.environment, found.parameters, found.seed)


def data_folder(url: str | None) -> Folder:
    """Where the datasets are: the given folder or URL, or the project's `datasets`."""
    return Folder(url or str(PROJECT / "datasets"))


@task(task_run_name="generate {recipe.name}")
def generate_dataset(recipe: Recipe, data: str | None, workers: int) -> DatasetReference:
    """Make the recipe's dataset, or find it made."""
    what = f"generate {recipe.name}"
    progress = watched_stage(what, f"generate-{recipe.name.partition('.')[0]}", what)
    dataset = generate(recipe, data_folder(data), workers, progress)
    progress(1, 1)  # also where it was found made
    get_run_logger().info("%s: %d rows, %s", dataset.path, dataset.rows, dataset.digest)
    world = World(
        environment=recipe.environment, parameters=dict(recipe.parameters), seed=recipe.seed
    )
    dataset_published(reference(dataset), world)
    return reference(dataset)


def _verified() -> str:
    """The dataset's name; its path is too long for the timeline."""
    path: str = task_run.parameters["path"]
    return f"verify {path.rstrip('/').rsplit('/', 1)[-1]}"


@task(task_run_name=_verified)
def verify_dataset(path: str, digest: str | None = None) -> DatasetReference:
    """Read every part and compare its digest with the manifest, and with the expected one."""
    dataset = Dataset.open(path)
    if digest is not None and dataset.digest != digest:
        raise InputError(
            f"{path}: expected the dataset {digest}, got {dataset.digest}; "
            "it is not the one that was published, start again with its recipe"
        )
    return reference(dataset.verify())


def reference(dataset: Dataset) -> DatasetReference:
    """What travels on: path and digest."""
    return DatasetReference(path=dataset.path, digest=dataset.digest, rows=dataset.rows)
