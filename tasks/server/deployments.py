"""The work pool, and prefect.yaml's deployments on a Prefect server."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import yaml

from slateflow.errors import InputError
from tasks.project import PROJECT

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POOL, TAG = "slateflow", "slateflow"
_POOL_TYPE = "process"


@dataclass(frozen=True)
class Planned:
    """A deployment of prefect.yaml."""

    name: str
    entrypoint: str
    schedules: tuple[str, ...]  # cron, and the time zone
    events: tuple[str, ...] = ()  # names of the events that start it

    @property
    def flow(self) -> str:
        """Name of its flow, which is that of the function."""
        return self.entrypoint.rpartition(":")[2]


def read_document() -> dict[str, Any]:
    """The contents of prefect.yaml.

    Raises:
        InputError: The file is not YAML, or has no deployments.
    """
    try:
        document = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error)
        raise InputError(f"prefect.yaml{line}: expected YAML, got: {reason}") from error
    if not isinstance(document, dict) or not isinstance(document.get("deployments"), list):
        raise InputError("prefect.yaml: expected a list of deployments, got none")
    return document


def planned_deployments() -> list[Planned]:
    """The deployments of prefect.yaml."""
    document = read_document()
    return [
        Planned(
            name=entry["name"],
            entrypoint=entry["entrypoint"],
            schedules=tuple(
                f"{schedule['cron']} {schedule.get('timezone', 'UTC')}"
                for schedule in entry.get("schedules", [])
            ),
            events=tuple(
                event for trigger in entry.get("triggers", []) for event in trigger["expect"]
            ),
        )
        for entry in document["deployments"]
    ]


def ensure_pool(client: SyncPrefectClient) -> None:
    """Create the work pool where it is missing.

    Raises:
        InputError: The pool exists, and its workers do not start processes.
    """
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type=_POOL_TYPE))
    except ObjectAlreadyExists:
        found = client.read_work_pool(POOL).type
        if found != _POOL_TYPE:
            raise InputError(
                f"work pool {POOL}: expected the type {_POOL_TYPE}, got {found}; delete it, "
                "and `slateflow up` creates it"
            ) from None


def prune_deployments(client: SyncPrefectClient, planned: list[Planned]) -> list[str]:
    """Delete our deployments that prefect.yaml no longer has; returns their names.

    Ours are known by tag and pool. Their triggers go, too.
    """
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    wanted = {(one.entrypoint, one.name) for one in planned}
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    pruned = []
    for deployment in client.read_deployments(deployment_filter=ours):
        known = (deployment.entrypoint, deployment.name) in wanted
        if not known and deployment.work_pool_name == POOL:
            client.delete_resource_owned_automations(f"prefect.deployment.{deployment.id}")
            client.delete_deployment(deployment.id)
            pruned.append(deployment.name)
    return pruned


def request_overview(client: SyncPrefectClient) -> None:
    """Run the deployment of the overview, if it exists, for changes that have no event of ours."""
    from prefect.exceptions import ObjectNotFound

    with suppress(ObjectNotFound):
        deployment = client.read_deployment_by_name("overview/overview")
        client.create_flow_run_from_deployment(deployment.id)


def _pausable(
    client: SyncPrefectClient,
) -> Iterator[tuple[Hashable, str, bool, Callable[[], object]]]:
    """Key (the same after a deployment), name, state and pausing function of what can be paused."""
    for deployment in client.read_deployments():
        pause = partial(client.pause_deployment, deployment.id)
        yield deployment.id, deployment.name, deployment.paused, pause
        for one in deployment.schedules:
            key = deployment.id, one.schedule.model_dump_json()
            stop = partial(client.update_deployment_schedule, deployment.id, one.id, active=False)
            yield key, f"{deployment.name}'s schedule", not one.active, stop
    for automation in client.read_automations():
        pause = partial(client.pause_automation, automation.id)
        yield automation.name, automation.name, not automation.enabled, pause


def read_paused(client: SyncPrefectClient) -> set[Hashable]:
    """Keys of paused deployments, which `prefect deploy` would resume."""
    return {key for key, _, paused, _ in _pausable(client) if paused}


def pause_again(client: SyncPrefectClient, paused: set[Hashable]) -> list[str]:
    """Pause deployments that were paused before prefect.yaml was deployed; returns their names."""
    names = []
    for key, name, _, pause in _pausable(client):
        if key in paused:
            pause()
            names.append(name)
    return names
