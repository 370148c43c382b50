"""Find leftovers of nights that nobody needs any more, and remove them on request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from prefect import get_run_logger, task
from pydantic import BaseModel

from slateflow.errors import InputError
from slateflow.trajectories import MANIFEST, Dataset, Folder, LoggedRecipe, read_recipe
from slateflow.trajectories.files.dataset import differing_keys
from slateflow.trajectories.generation.recipe import recipe_names
from slateflow.trajectories.sources.earlier_days import KEYS_OF_DAYS
from slateflow.user_models.kept_sums import SUMS
from tasks.experiment import data_folder
from tasks.project import RECIPES
from tasks.server.retries import RETRIES
from tasks.store.champion import CHAMPION, PREVIOUS
from tasks.store.tracking import TRAINING, mlflow_client, model_name
from tasks.train import CHECKPOINTS

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

DAY = 86_400.0
_HIDDEN = ".training"  # of logs that are not held out, which are made from their dataset


class Disposable(BaseModel):
    """Something that can go: a dataset, a half-made one, a training's weights or checkpoint, sums.

    `name` is a path, a URL, or an MLflow run. `days` is its age. `size` is in bytes.
    """

    kind: Literal["dataset", "unfinished dataset", "training", "checkpoint", "sums of a day"]
    name: str
    days: float
    size: int


class Pruning(BaseModel):
    """The things that can be removed, and whether they were."""

    removed: bool
    found: list[Disposable]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(one.size for one in self.found)


@task(task_run_name="prune what is older than {days} days", **RETRIES)
def prune_old(days: int, data: str | None = None) -> Pruning:
    """Remove disposable things older than so many days."""
    pruning = prune(days, data, remove=True)
    text = "%d old datasets, trainings, checkpoints and sums are gone, %.1f MB"
    get_run_logger().info(text, len(pruning.found), pruning.size / 1e6)
    return pruning


def prune(days: int, data: str | None, *, remove: bool) -> Pruning:
    """Find disposable things older than so many days; remove them, if so wanted.

    Always kept: the datasets of each champion, its predecessor and running trainings, the newest
    dataset of each recipe, imported datasets, own logs whose files are not all there any more or
    whose recipe has changed, registered versions and the trainings behind them. If a removal is
    killed halfway, what is left is no longer a dataset or a model, and the next call removes it.

    Args:
        days: Age from which things are old, at least 1.
        data: Folder of the datasets, or a URL of pyarrow.fs; None for the project's.
        remove: Whether to remove.
    """
    client, found = mlflow_client(), []
    for one in [
        *_datasets(client, data_folder(data), days),
        *_trainings(client, days),
        *_checkpoints(Folder(str(CHECKPOINTS)), days),
        *_sums(Folder(str(CHECKPOINTS / SUMS)), days),
    ]:
        found.append(one)
        if remove:
            _remove(client, one)
    return Pruning(removed=remove, found=found)


def _remove(client: MlflowClient, one: Disposable) -> None:
    """Remove one thing, beginning with the file or state that makes it a dataset or a model."""
    if one.kind == "sums of a day":
        folder, _, name = one.name.rpartition("/")
        Folder(folder).remove([name])
        return
    if one.kind != "training":
        Folder(one.name).clear(first=MANIFEST)
        return
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    run = client.get_run(one.name)
    client.update_run(one.name, status="KILLED")  # nobody takes the weights of such a run
    get_artifact_repository(run.info.artifact_uri).delete_artifacts()
    client.delete_run(one.name)


def _datasets(client: MlflowClient, folder: Folder, days: int) -> Iterator[Disposable]:
    """Old datasets that can be made again, and what was left of unfinished ones."""
    needed = _digests_of_champions(client) | _digests_in_use(client)
    newest: dict[str, float] = {}
    published: list[tuple[Folder, Dataset, float]] = []
    parents = folder, folder / _HIDDEN
    visible = [(one / name, name) for one in parents for name in one.subfolders() if name[0] != "."]
    for one, name in visible:
        changed = one.changed()
        if not one.exists(MANIFEST):
            if changed and _age(changed) >= days:
                yield _disposable("unfinished dataset", one, changed)
            continue
        try:
            dataset = Dataset.open(one.url)
        except InputError:  # damaged, or of another version: not for us to judge
            continue
        changed = one.written(MANIFEST)  # parts may be older ones, which datasets share
        published.append((one, dataset, changed))
        if not _derived(dataset):
            recipe = _recipe_of(name)
            newest[recipe] = max(changed, newest.get(recipe, 0.0))
    for one, dataset, changed in published:
        derived, recipe = _derived(dataset), _recipe_of(one.url.rpartition("/")[2])
        if (
            _age(changed) >= days
            and dataset.digest not in needed
            and (derived or changed < newest[recipe])
            and (derived or _can_be_made_again(dataset, recipe))
        ):
            yield _disposable("dataset", one, changed)


def _digests_of_champions(client: MlflowClient) -> set[str]:
    """Digests of the datasets from which champions and their predecessors were learnt."""
    digests: set[str] = set()
    for model in _registered(client):
        for alias in {CHAMPION, PREVIOUS} & set(model.aliases):
            tags = client.get_model_version_by_alias(model.name, alias).tags
            digests |= _digests(tags)
    return digests


def _digests_in_use(client: MlflowClient) -> set[str]:
    """Digests of the datasets from which trainings learn at this moment."""
    running = _training_runs(client, "attributes.status = 'RUNNING'")
    return set().union(*(_digests(run.data.tags, "slateflow.") for run in running))


def _digests(tags: Mapping[str, str], prefix: str = "") -> set[str]:
    """Digests of a dataset and of that from which it was made; tags made by hand have none."""
    recipe = json.loads(tags.get(f"{prefix}recipe", "{}"))
    return {tags.get(f"{prefix}dataset_digest", ""), recipe.get("held_in_of", "")}


def _registered(client: MlflowClient) -> list[Any]:
    """All our registered models."""
    ours = f"name LIKE '{model_name('%')}'"
    return _every(lambda token: client.search_registered_models(ours, page_token=token))


def _every(search: Callable[[str | None], Any]) -> list[Any]:
    """All pages of a search in MLflow, gathered first because removals would shift them."""
    found, token = [], None
    while True:
        page = search(token)
        found += page
        if not (token := page.token):
            return found


def _derived(dataset: Dataset) -> bool:
    """Whether these are the logs of another dataset that are not held out."""
    return "held_in_of" in dataset.recipe


def _can_be_made_again(dataset: Dataset, recipe: str) -> bool:
    """Whether a dataset's rows can be made again; a simulated recipe is wholly in the manifest."""
    if dataset.spec.simulated:
        return "imported" not in dataset.recipe
    if recipe not in recipe_names(RECIPES):
        return False
    try:
        found = read_recipe(RECIPES, recipe)
        if not isinstance(found, LoggedRecipe):
            return False
        changed = differing_keys(dataset.recipe, found.to_dict())
        return {*changed} <= {*KEYS_OF_DAYS} and dataset.recipe["files"] in _fingerprints(found)
    except InputError:  # the recipe is broken, or no files are left
        return False


def _fingerprints(recipe: LoggedRecipe) -> Iterator[str]:
    """The fingerprints that the source had on each day, if files have only been added since."""
    everything = replace(recipe, days=None).files
    by_day = sorted(everything.files, key=lambda file: file.modified)
    for last in range(1, len(by_day) + 1):
        then = {file.name for file in by_day[max(0, last - (recipe.days or last)) : last]}
        kept = tuple(file for file in everything.files if file.name in then)
        yield replace(everything, files=kept).fingerprint


def _recipe_of(name: str) -> str:
    """The recipe of a dataset's name, which may have more behind a dot."""
    known = [one for one in recipe_names(RECIPES) if f"{name}.".startswith(f"{one}.")]
    return max(known, key=len, default=name.partition(".")[0])


def _training_runs(client: MlflowClient, condition: str) -> list[Any]:
    """Runs of trainings that meet the condition."""
    experiments = [
        one.experiment_id
        for one in client.search_experiments(filter_string=f"name LIKE '{model_name('%')}'")
    ]
    if not experiments:
        return []
    query = f"tags.`{TRAINING}` != '' and {condition}"
    return _every(lambda token: client.search_runs(experiments, query, page_token=token))


def _trainings(client: MlflowClient, days: int) -> Iterator[Disposable]:
    """Old runs of trainings that led to no registered version."""
    before = int(1000 * (time.time() - days * DAY))
    versions = _every(lambda token: client.search_model_versions(page_token=token))
    registered = {version.run_id for version in versions}
    for run in _training_runs(client, f"attributes.start_time < {before}"):
        if run.info.run_id not in registered and run.info.status != "RUNNING":
            files = client.list_artifacts(run.info.run_id)
            yield Disposable(
                kind="training",
                name=run.info.run_id,
                days=_age(run.info.start_time / 1000),
                size=sum(file.file_size or 0 for file in files),
            )


def _checkpoints(parent: Folder, days: int) -> Iterator[Disposable]:
    """Old checkpoints of trainings that were killed and never resumed."""
    for name in parent.subfolders():
        one = parent / name
        changed = one.changed()
        if changed and _age(changed) >= days and name != SUMS:
            yield _disposable("checkpoint", one, changed)


def _sums(folder: Folder, days: int) -> Iterator[Disposable]:
    """Sums of days that no training has asked for in a long time."""
    for name, info in folder.listing():
        age = _age(info.mtime_ns / 1e9)
        if age >= days:
            path = (folder / name).url
            yield Disposable(kind="sums of a day", name=path, days=age, size=info.size)


def _disposable(
    kind: Literal["dataset", "unfinished dataset", "checkpoint"], folder: Folder, changed: float
) -> Disposable:
    return Disposable(kind=kind, name=folder.url, days=_age(changed), size=folder.size())


def _age(moment: float) -> float:
    """Days since a moment."""
    return (time.time() - moment) / DAY
