"""What a Prefect server is told: the pool, and prefect.yaml's deployments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from tasks.tracking import PROJECT

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POOL, TAG = "slateflow", "slateflow"


@dataclass(frozen=True)
class Planned:
    """A deployment of prefect.yaml."""

    name: str
    entrypoint: str
    description: str
    schedules: tuple[str, ...]  # cron, and the time zone
    events: tuple[str, ...] = ()  # names of those that start it

    @property
    def flow(self) -> str:
        """Name of its flow, which is that of the function."""
        return self.entrypoint.rpartition(":")[2]


def planned_deployments() -> list[Planned]:
    """The deployments of prefect.yaml."""
    document: dict[str, Any] = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
    return [
        Planned(
            name=entry["name"],
            entrypoint=entry["entrypoint"],
            description=" ".join(entry["description"].split()),
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
    """Make the work pool where it is missing."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    except ObjectAlreadyExists:
        return


def prune_deployments(client: SyncPrefectClient, planned: list[Planned]) -> list[str]:
    """Delete those of ours, by tag and pool, that are not planned any more; gives their names.

    What triggers them goes, too.
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
