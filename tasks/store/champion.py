"""The aliases of a registered model: `champion`, and `previous`, the version before it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from slateflow.environments import EnvironmentSpec, spec_from_dict
from slateflow.environments.logged import LoggedSpec
from slateflow.errors import InputError
from slateflow.policies import AnyScorer, ScoringPolicy
from slateflow.trajectories import Dataset
from slateflow.trajectories.alignment import AlignedScorer, CarriedItems
from tasks.store.alias_lock import aliases_locked
from tasks.store.tracking import (
    model_name,
    require_experiment,
    tracking_uri,
    version_items,
    version_scorer,
)

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

CHAMPION, PREVIOUS = "champion", "previous"
ROLLED_BACK = "rolled_back"
"""Tag of a version that a rollback replaced: the version that took its place."""
SPEC = "spec"
"""Tag of a version: the world in which its verdict was taken."""
_SECONDS_UNTIL_SETTLED = 1.0


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
    require_experiment(client, recipe)
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
    if isinstance(spec, LoggedSpec) and SPEC in tags:
        changed += _lost_columns(json.loads(tags[SPEC])["user_features"], spec.user_features)
    if changed:
        raise InputError(
            f"{recipe}: expected the world in which its champion, version {champion} of {name}, "
            f"was judged, got {', '.join(changed)}; rename the recipe, roll back to a version of "
            "this world, or delete the registered model"
        )


def misfits(version: ModelVersion, spec: EnvironmentSpec) -> list[str]:
    """Why a version's policy means nothing in a world, or in own logs; empty where it fits."""
    learnt = json.loads(version.tags[SPEC]) if SPEC in version.tags else spec.to_dict()
    if learnt["world"] != spec.world:
        return [f"a model of {learnt['world']} instead of {spec.world}"]
    if isinstance(spec, LoggedSpec):
        return _lost_columns(learnt["user_features"], spec.user_features)
    return []


def _lost_columns(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Columns of the user that a version knows, and these logs lack or have as another kind.

    The version would take them for zero. Categories may come and go.

    Args:
        before: Names of the features that the version was trained with.
        now: Those of these logs.

    Example:
        >>> _lost_columns(["age", "tab", "land=at"], ["age", "tab=0", "tab=1", "land=de"])
        ["no numbers of the user's column tab"]
    """
    known, given = (Counter(map(_column, features)) for features in (before, now))
    return [
        f"no {kind} of the user's column {name}"
        for (name, kind), size in known.items()
        if not given[name, kind] or (kind == "lists" and given[name, kind] != size)
    ]


def _column(feature: str) -> tuple[str, str]:
    """Column of a feature, and its kind, as `Column.features` names them."""
    for mark, kind in (("=", "categories"), ("[", "lists")):
        if mark in feature:
            return feature[: feature.index(mark)], kind
    return feature, "numbers"


def scoring_policy(scorer: AnyScorer, spec: EnvironmentSpec) -> ScoringPolicy:
    """The policy of a scorer, if it fits the world's sizes."""
    sizes = ("user_size", "document_size", "slate_size")
    wanted, got = ({name: getattr(one, name) for name in sizes} for one in (spec, scorer))
    if wanted != got:
        raise InputError(
            f"model: expected {wanted} for {spec.name}, got {got}; train it on this environment"
        )
    return ScoringPolicy(scorer)


def version_policy(
    client: MlflowClient,
    version: ModelVersion,
    spec: EnvironmentSpec,
    dataset: Dataset | None = None,
) -> ScoringPolicy:
    """The policy of a registered version, for that world or for own logs of other days.

    In a dataset of own logs the policy sees the items as it answers requests for them.

    Raises:
        InputError: The version does not fit, or refuses requests for all of the dataset's items.
    """
    scorer = version_scorer(client, version)
    learnt = spec_from_dict(json.loads(version.tags[SPEC])) if SPEC in version.tags else spec
    if isinstance(spec, LoggedSpec) and isinstance(learnt, LoggedSpec):
        scoring_policy(scorer, learnt)
        carried = None
        if dataset is not None and (found := version_items(version)) is not None:
            carried = CarriedItems.of(dataset, found, learnt.item_features)
            if carried.refused.all():
                raise InputError(
                    f"models:/{version.name}/{version.version}: expected items that it knows, got "
                    f"{len(carried.refused):,} that it does not know, so that it would refuse all "
                    "requests; rename the recipe, roll back to a version that knows them, or "
                    "delete the registered model"
                )
        return ScoringPolicy(AlignedScorer(scorer, spec, learnt, carried))
    return scoring_policy(scorer, spec)


def promote(client: MlflowClient, name: str, version: int, reigning: int | None) -> bool:
    """Make the version the champion if `reigning` still is; returns whether it is the champion.

    Call it with the lock held. Setting `champion` is the commit point and comes last.

    Two machines do not see each other's locks, so the later of their moves wins. The machine of the
    earlier move notices, and takes its verdict again. It does not notice a move that was decided
    before its own move but comes more than a second after it. Then the champion was judged against
    the earlier champion, and the next verdict compares with the new one.
    """
    current = aliased(client, name, CHAMPION)
    if current != reigning:
        return False
    if current is not None and current != version:
        client.set_registered_model_alias(name, PREVIOUS, str(current))
    client.set_registered_model_alias(name, CHAMPION, str(version))
    return _settled_champion(client, name) == version


def _settled_champion(client: MlflowClient, name: str) -> int | None:
    """The champion after a move, when a move of another machine at the same time has come, too.

    A store in a SQLite file has no other machines.
    """
    if not tracking_uri().startswith("sqlite:"):
        time.sleep(_SECONDS_UNTIL_SETTLED)
    return aliased(client, name, CHAMPION)


def rollback(client: MlflowClient, name: str) -> tuple[int, int | None]:
    """Put `previous` back; returns the new champion and the former.

    The champion becomes `previous`, so a second call undoes the first. It is tagged, so that the
    training it comes from does not make it the champion again.

    Raises:
        InputError: There is no such model, or no version before the champion; or another machine
            has moved the alias at the same time.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = ", ".join(sorted(model.name for model in client.search_registered_models()))
        raise InputError(
            f"model: expected one in the registry ({known or 'it is empty'}), got {name!r}"
        ) from error
    with aliases_locked(client, name):
        champion, previous = (aliased(client, name, alias) for alias in (CHAMPION, PREVIOUS))
        if previous == champion is not None:  # unless a rollback was killed half-way
            champion = _rolled_back_to(client, name, champion) or champion
        if previous is None or previous == champion:
            reign = "has no champion" if champion is None else f"version {champion} reigns"
            raise InputError(f"{name}: expected a version before the champion, found none; {reign}")
        if champion is not None:
            client.set_model_version_tag(name, str(champion), ROLLED_BACK, str(previous))
        client.set_registered_model_alias(name, CHAMPION, str(previous))
        if champion is not None:
            client.set_registered_model_alias(name, PREVIOUS, str(champion))
        if was_rolled_back(client, name, previous):
            client.delete_model_version_tag(name, str(previous), ROLLED_BACK)
        settled = _settled_champion(client, name)
    if settled != previous:
        raise InputError(
            f"{name}: expected version {previous} to be the champion again, got {settled}; "
            "another machine moved the alias at the same time; check it and roll back again"
        )
    return previous, champion


def was_rolled_back(client: MlflowClient, name: str, version: int) -> bool:
    """Whether a rollback put another version in the place of this one."""
    return ROLLED_BACK in client.get_model_version(name, str(version)).tags


def _rolled_back_to(client: MlflowClient, name: str, version: int) -> int | None:
    """The last version that a rollback replaced by this one."""
    found = client.search_model_versions(f"name = '{name}'")
    of_this = (int(one.version) for one in found if one.tags.get(ROLLED_BACK) == str(version))
    return max(of_this, default=None)
