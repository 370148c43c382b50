"""The aliases of a registered model: `champion`, and `previous`, the version before it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from slateflow.environments import EnvironmentSpec, spec_from_dict
from slateflow.environments.logged import LoggedSpec
from slateflow.errors import InputError
from slateflow.evaluation.off_policy.double_learning import Target
from slateflow.policies import AnyScorer, ScoringPolicy
from slateflow.trajectories.alignment import AlignedPolicy
from tasks.store.tracking import load_scorer, model_name, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

CHAMPION, PREVIOUS = "champion", "previous"
SPEC = "spec"
"""Tag of a version: the world in which its verdict was taken."""


def lock_folder() -> Path:
    """Folder of the locks: beside the embedded store; for other stores in the user's home.

    `SLATEFLOW_LOCKS` names another folder. For a store that is not a SQLite file the folder's
    name is a digest of its URI, so all who share a registry have to write its address alike.
    """
    if chosen := os.environ.get("SLATEFLOW_LOCKS"):
        return Path(chosen)
    uri = tracking_uri()
    if uri.startswith("sqlite:///"):
        return Path(uri.removeprefix("sqlite:///")).parent / "locks"
    store = hashlib.sha256(uri.rstrip("/").encode()).hexdigest()[:16]
    return Path.home() / ".slateflow" / "locks" / store


@contextmanager
def aliases_locked(name: str) -> Iterator[None]:
    """Hold the lock under which the aliases of a model are read, compared and set.

    MLflow sets an alias whatever it was before. The lock holds between processes of one user on
    one machine (`fcntl.flock`; the system takes it back from a process that dies), and not between
    machines or users, nor against changes by hand. `SLATEFLOW_LOCKS` on a file system that two
    users or machines share, and that passes `flock` on, as NFSv4 does, holds between them.
    """
    folder = lock_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def aliased(client: MlflowClient, name: str, alias: str) -> int | None:
    """The version that has the alias; None where there is none, or no such model."""
    from mlflow.exceptions import MlflowException

    try:
        return int(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def require_same_world(client: MlflowClient, recipe: str, spec: EnvironmentSpec) -> None:
    """Refuse a world that is not the one in which the recipe's champion was judged."""
    name = model_name(recipe)
    champion = aliased(client, name, CHAMPION)
    if champion is None:
        return
    wanted = spec.lasting()
    tags = client.get_model_version(name, str(champion)).tags
    before = json.loads(tags[SPEC]) if SPEC in tags else wanted
    if not spec.simulated:
        before = {key: before.get(key) for key in wanted}
    changed = [
        f"{key} {wanted.get(key)!r} instead of {before.get(key)!r}"
        for key in {**before, **wanted}
        if before.get(key) != wanted.get(key)
    ]
    if changed:
        raise InputError(
            f"{recipe}: expected the world in which its champion, version {champion} of {name}, "
            f"was judged, got {', '.join(changed)}; rename the recipe, roll back to a version of "
            "this world, or delete the registered model"
        )


def scoring_policy(scorer: AnyScorer, spec: EnvironmentSpec) -> ScoringPolicy:
    """The policy of a scorer, if it fits the world's sizes."""
    sizes = ("user_size", "document_size", "slate_size")
    wanted, got = ({name: getattr(one, name) for name in sizes} for one in (spec, scorer))
    if wanted != got:
        raise InputError(
            f"model: expected {wanted} for {spec.name}, got {got}; train it on this environment"
        )
    return ScoringPolicy(scorer)


def version_policy(client: MlflowClient, version: ModelVersion, spec: EnvironmentSpec) -> Target:
    """The policy of a registered version, for that world or for own logs of other days."""
    scorer = load_scorer(client, str(version.run_id))
    learnt = spec_from_dict(json.loads(version.tags[SPEC])) if SPEC in version.tags else spec
    if spec.simulated or learnt == spec:
        return scoring_policy(scorer, spec)
    return AlignedPolicy(
        scoring_policy(scorer, learnt), cast(LoggedSpec, spec), cast(LoggedSpec, learnt)
    )


def promote(client: MlflowClient, name: str, version: int, reigning: int | None) -> bool:
    """Make the version the champion if `reigning` still is; whether it did.

    Call it with the lock held. Setting `champion` is the commit point and comes last.
    """
    current = aliased(client, name, CHAMPION)
    if current != reigning:
        return False
    if current is not None and current != version:
        client.set_registered_model_alias(name, PREVIOUS, str(current))
    client.set_registered_model_alias(name, CHAMPION, str(version))
    return True


def rollback(client: MlflowClient, name: str) -> tuple[int, int | None]:
    """Put `previous` back; returns the new champion and the former.

    The champion becomes `previous`, so a second call undoes the first.

    Raises:
        InputError: There is no such model, or no version before the champion.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = ", ".join(sorted(model.name for model in client.search_registered_models()))
        raise InputError(
            f"model: expected a model of the registry ({known or 'it is empty'}), got {name!r}"
        ) from error
    with aliases_locked(name):
        champion, previous = (aliased(client, name, alias) for alias in (CHAMPION, PREVIOUS))
        if previous is None or previous == champion:
            reign = "has no champion" if champion is None else f"version {champion} reigns"
            raise InputError(f"{name}: expected a version before the champion, found none; {reign}")
        client.set_registered_model_alias(name, CHAMPION, str(previous))
        if champion is not None:
            client.set_registered_model_alias(name, PREVIOUS, str(champion))
    return previous, champion
