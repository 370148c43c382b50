"""An experiment and its references to datasets and models, which travel from step to step."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, InstanceOf, PlainSerializer, WithJsonSchema

from slateflow.environments import EnvironmentSpec, spec_from_dict
from slateflow.errors import InputError
from slateflow.trajectories import MANIFEST, AnyRecipe, Dataset, Folder, read_recipe
from slateflow.trajectories.generation.recipe import recipe_names
from slateflow.trajectories.held_out import training_logs
from tasks.next_command import typed
from tasks.project import RECIPES

Spec = Annotated[
    InstanceOf[EnvironmentSpec],
    BeforeValidator(lambda one: spec_from_dict(one) if isinstance(one, dict) else one),
    PlainSerializer(lambda spec: spec.to_dict()),
    WithJsonSchema({"type": "object"}),
]
"""A spec of any world, which JSON holds as `EnvironmentSpec.to_dict` writes it."""


Evidence = Literal["played", "logs"]


class DatasetRef(BaseModel):
    """A published dataset."""

    path: str
    digest: str
    rows: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]


class ModelRef(BaseModel):
    """A trained model: the MLflow run that holds its weights.

    `live_steps` counts the steps with live users that it learnt from; 0 from logs alone.
    """

    learner: str
    run_id: str
    train_seconds: float
    live_steps: int = 0


class Experiment(BaseModel):
    """A recipe's dataset and world; every step after `generate` works on it.

    `recipe` names the MLflow experiment and the registered model. `seed` is that of trainings and
    evaluations. `evidence` is the basis of the verdict: play in the world, or logs that no
    learner has seen.
    """

    recipe: str
    spec: Spec
    seed: int = 0
    dataset: DatasetRef
    evidence: Evidence = "played"

    @classmethod
    def on(cls, dataset: Dataset, recipe: str, seed: int) -> Experiment:
        """The experiment on a published dataset."""
        reference = DatasetRef(path=dataset.path, digest=dataset.digest, rows=dataset.rows)
        evidence: Evidence = "played" if dataset.spec.simulated else "logs"
        return cls(
            recipe=recipe, spec=dataset.spec, seed=seed, dataset=reference, evidence=evidence
        )

    @property
    def named(self) -> list[str]:
        """The words that name it behind a command: the recipe, and options that differ from it."""
        data, name = self.dataset.path.rstrip("/").rsplit("/", 1)
        varied = re.findall(r"\.(episodes|seed)-(\d+)", name.removeprefix(self.recipe))
        options = {option: int(value) for option, value in varied}
        return named(self.recipe, data=None if data == str(RECIPES) else data, **options)

    def judged_by(self, evidence: Evidence | None) -> Experiment:
        """The experiment judged by other evidence; unchanged for None.

        Raises:
            InputError: Its world cannot be played.
        """
        if evidence == "played" and not self.spec.simulated:
            raise InputError(
                f"evidence: expected logs for {self.recipe}, which has no simulator, got played; "
                "leave it out"
            )
        return self if evidence is None else self.model_copy(update={"evidence": evidence})

    @property
    def environment(self) -> str | None:
        """Name of the preset; None where the logs are not from a simulated world."""
        return self.spec.name if self.spec.simulated else None

    def training_dataset(self) -> Dataset:
        """Logs that learners train on: all, or those that are not evidence."""
        dataset = self.open_dataset()
        return dataset if self.evidence == "played" else held_in(dataset)

    def open_dataset(self) -> Dataset:
        """The dataset.

        Raises:
            InputError: Another was published in its place.
        """
        path, digest = self.dataset.path, self.dataset.digest
        dataset = Dataset.open(path)
        if dataset.digest != digest:
            raise InputError(
                f"{path}: expected the dataset {digest}, got {dataset.digest}; "
                "another was published in its place; start again with its recipe"
            )
        return dataset


def held_in(dataset: Dataset) -> Dataset:
    """The sessions that are not held out, as a hidden dataset beside it, made once."""
    data, name = dataset.path.rstrip("/").rsplit("/", 1)
    hidden = f"{name}-{dataset.digest.removeprefix('sha256:')[:12]}"
    return training_logs(dataset, Folder(data) / ".training" / hidden)


def find_recipe(
    recipe: str | AnyRecipe,
    episodes: int | None = None,
    seed: int | None = None,
    data: str | None = None,
) -> AnyRecipe:
    """A recipe, given or named in the project's `datasets` folder, with this size and seed, if any.

    Raises:
        InputError: There is no such recipe; the name may be that of an imported dataset.
    """
    if isinstance(recipe, str):
        if _find_imported(recipe, data):
            raise InputError(
                f"{recipe}: expected a recipe, got an imported dataset, which is not generated; "
                "use `slateflow train`, then `slateflow register`, which evaluates, too"
            )
        recipe = read_recipe(RECIPES, recipe)
    return recipe.varied(episodes, seed)


def _find_imported(name: str, data: str | None) -> Dataset | None:
    """The imported dataset of a name that is not the name of a recipe."""
    folder = data_folder(data) / name
    if name in recipe_names(RECIPES) or "/" in name or not folder.exists(MANIFEST):
        return None
    dataset = Dataset.open(folder.url)
    return dataset if "imported" in dataset.recipe else None


def find_experiment(
    name: str, episodes: int | None = None, seed: int | None = None, data: str | None = None
) -> Experiment:
    """The experiment on the published dataset of a recipe, or on an imported dataset.

    Raises:
        InputError: There is no such recipe or dataset, or the recipe changed since it was made.
    """
    if imported := _find_imported(name, data):
        if episodes is not None:
            raise InputError(f"--episodes: expected none for imported {name}, got {episodes}")
        return Experiment.on(imported, name, seed or 0)
    recipe = find_recipe(name, episodes, seed, data)
    made_by = named(name, episodes, seed, data)
    dataset = open_made(data_folder(data) / recipe.dataset_name, made_by)
    if dataset.recipe != recipe.to_dict() or recipe.spec not in (None, dataset.spec):
        raise InputError(
            f"{dataset.path}: expected the dataset of {name} as it is now, got one that was made "
            "with other settings; rename the recipe, or delete the dataset and generate it again"
        )
    return Experiment.on(dataset, recipe.name, recipe.seed)


def named(
    recipe: str, episodes: int | None = None, seed: int | None = None, data: str | None = None
) -> list[str]:
    """The words that name a dataset behind a command.

    Example:
        >>> named("lts-10-1", seed=3, data="my data")
        ['lts-10-1', '--seed', '3', '--data', 'my data']
    """
    options = {"--episodes": episodes, "--seed": seed, "--data": data}
    given = [(option, str(value)) for option, value in options.items() if value is not None]
    return [recipe, *(word for pair in given for word in pair)]


def open_made(folder: Folder, made_by: list[str]) -> Dataset:
    """Open a dataset of a recipe.

    Raises:
        InputError: It is not there yet; the message names the command that makes it.
    """
    if not folder.exists(MANIFEST):
        raise InputError(
            f"{folder.url}: expected a dataset with {MANIFEST}, found none; make it with "
            f"`{typed('slateflow', 'generate', *made_by)}`"
        )
    return Dataset.open(folder.url)


def dataset_folder(name: str, data: str | None) -> Folder:
    """Folder of a dataset by name; for a recipe with a source, that of its files as they are now.

    Datasets of varied recipes and imported datasets are found by their own names.
    """
    if name in recipe_names(RECIPES):
        name = read_recipe(RECIPES, name).dataset_name
    return data_folder(data) / name


def data_folder(url: str | None) -> Folder:
    """Folder of the datasets: the given path or URL, or the project's `datasets`.

    A path becomes absolute, as runs, reports and events keep it for readers elsewhere.
    """
    return absolute(url or str(RECIPES))


def absolute(url: str) -> Folder:
    """A folder by its path or URL, from whatever working directory."""
    folder = Folder(url).absolute()
    steps_up = "://" not in url and ".." in Path(url).parts
    # Only then, as a link may lead to another place tomorrow
    return Folder(str(Path(url).resolve())) if steps_up else folder
