"""The part of some logs that a registered version has seen in its training."""

from __future__ import annotations

import json
from posixpath import normpath
from typing import TYPE_CHECKING, Any, Literal

from slateflow.trajectories import Dataset
from slateflow.trajectories.files.dataset import differing_keys
from slateflow.trajectories.files.hold_out import BY_PLACE
from slateflow.trajectories.sources.logged_rows import LoggedRows

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

Seen = Literal["nothing", "all but the held-out", "all"]

VARIED = ("seed", "nights", "episodes")
"""Keys of a simulated recipe by which its logs can differ and have sessions in common."""


def seen_by(version: ModelVersion, dataset: Dataset, learnt_from: LoggedRows | None = None) -> Seen:
    """The part of the logs that a version was trained on; all where that is unknown.

    Logs grow day by day. A session that is held out stays so in all datasets of the same days.
    From another source, other sessions are held out; so the version has seen all of the logs where
    some of the rows that it has learnt from are among them.

    Args:
        version: The version, by whose tags the logs of one source are told.
        dataset: The logs.
        learnt_from: A sample of the rows that the version carries; None where it carries none.
    """
    trained = json.loads(version.tags.get("recipe", "{}"))
    held_in_of = trained.pop("held_in_of", None)
    if held_in_of == dataset.digest:
        return "all but the held-out"
    if version.tags.get("dataset_digest") == dataset.digest:
        return "all"
    if not _in_common(trained, dataset.recipe):
        return "all" if learnt_from and learnt_from.among(LoggedRows.of(dataset)) else "nothing"
    # By place among all episodes: others are held out of logs of another size
    stays = dataset.hold_out != BY_PLACE and _rule(trained) == _rule(dataset.recipe)
    return "all but the held-out" if held_in_of and stays else "all"


def _rule(recipe: dict[str, Any]) -> tuple[Any, Any]:
    """How a recipe of own logs holds sessions out; the same for all other recipes."""
    return recipe.get("held_out"), recipe.get("columns", {}).get("visitor")


def _in_common(trained: dict[str, Any], recipe: dict[str, Any]) -> bool:
    """Whether logs of two recipes may have sessions in common."""
    if "source" in recipe:
        return _path(trained.get("source", "")) == _path(recipe["source"])
    if not {*differing_keys(trained, recipe)} <= {*VARIED}:
        return False
    if "imported" in recipe:  # of one source, which may have grown
        return True
    one, other = (_nights(document) for document in (trained, recipe))
    return max(one.start, other.start) < min(one.stop, other.stop)


def _path(source: str) -> str:
    """A source in one form for all ways in which its path can be written."""
    return source if "://" in source else normpath(source)


def _nights(recipe: dict[str, Any]) -> range:
    """Seeds of a simulated recipe's nights."""
    last = int(recipe["seed"])
    return range(last + 1 - recipe.get("nights", 1), last + 1)
