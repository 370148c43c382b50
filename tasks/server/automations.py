"""Automations that alert people: on Prefect's server, so that they work when a worker is dead.

    uv run python -m tasks.server.automations

makes them on the server of `PREFECT_API_URL`; `slateflow up` does so by itself. Without a
notification block each leaves an event in the feed, `prefect.automation.triggered`. With
`SLATEFLOW_ALERT_BLOCK=slack-webhook/ops`, or any other notification block, it sends a message.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from slateflow.errors import InputError
from tasks.server.failures import finishing_hours

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events import EventTrigger
    from prefect.events.actions import ActionTypes

    from tasks.reports.alerts import Alert

_TAGS = ["prefect.tag.nightly", "prefect.tag.weekly", "prefect.tag.fresh"]
"""Tags of the deployments whose runs are watched, as related resources of their events."""
_FAILED = {"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"}
_STARTED = {"prefect.flow-run.Late", "prefect.flow-run.Pending", "prefect.flow-run.Running"}
_ENDED = {"prefect.flow-run.Completed", "prefect.flow-run.Cancelled", *_FAILED}
_RUN = "{{ flow_run.name }}: {{ flow_run.state.name }}. {{ flow_run.state.message }}"


def raise_alert(recipe: str, alert: Alert, run: str) -> None:
    """Emit an alert's event, `slateflow.alert.…`, once for a flow run."""
    from prefect.events import emit_event

    from tasks.server.lineage import labels_of

    event = f"slateflow.alert.{alert.kind}"
    emit_event(
        event,
        resource=labels_of(f"recipe.{recipe}", recipe, recipe),
        payload={"message": alert.message},
        id=uuid5(NAMESPACE_URL, f"{run}/{event}"),
    )


def ensure_alerts(client: SyncPrefectClient) -> list[str]:
    """Make the server's alert automations equal to those here; returns what they lack, in lines.

    One that somebody paused stays paused. Without its block, which cannot be made before the
    server runs, an alert is an event in the feed.
    """
    from prefect.events.schemas.automations import AutomationCore

    block, missing = None, []
    try:
        block = _block(client)
    except InputError as error:
        missing = [f"{error}; until then alerts are only in the event feed"]
    made = {automation.name: automation for automation in client.read_automations()}
    planned = _alerts(finishing_hours())
    for name, (description, trigger, body) in planned.items():
        automation = AutomationCore(
            name=name,
            description=description,
            enabled=name not in made or made[name].enabled,
            trigger=trigger,
            actions=[_action(block, name, body)],
        )
        if name in made:
            # Made anew, it would forget the runs that it waits for
            if made[name].model_dump(exclude={"id"}) == automation.model_dump():
                continue
            client.delete_automation(made[name].id)
        client.create_automation(automation)
    return missing


def _alerts(hours: float) -> dict[str, tuple[str, EventTrigger, str]]:
    """Alerts by name: description, trigger, and the message's text."""
    from prefect.events import EventTrigger
    from prefect.events.schemas.automations import Posture

    # Runs of deployments alone: where a step of a pipeline fails, one message is enough
    watched: Any = [
        {"prefect.resource.role": "tag", "prefect.resource.id": _TAGS},
        {"prefect.resource.role": "deployment"},
    ]
    return {
        "slateflow: a run failed": (
            "A run of a nightly, weekly or fresh deployment failed or crashed.",
            EventTrigger(expect=_FAILED, match_related=watched),
            _RUN,
        ),
        "slateflow: a run did not finish": (
            f"A run of such a deployment began, or should have, and has not ended {hours:g} hours "
            "later.",
            EventTrigger(
                after=_STARTED,
                expect=_ENDED,
                match_related=watched,
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                within=timedelta(hours=hours),
            ),
            f"{{{{ flow_run.name }}}} has not finished {hours:g} hours after it should have begun.",
        ),
        "slateflow: a verdict to look at": (
            "No winner for many nights, a champion that is worth less than before, or no new logs.",
            EventTrigger(expect={"slateflow.alert.*"}),
            "{{ event.payload.message }}",
        ),
        "slateflow: a rollback": (
            "Somebody put the version before the champion back.",
            EventTrigger(expect={"slateflow.model.rolled-back"}),
            "{{ event.resource.name }} is the champion again, by a rollback",
        ),
    }


def _action(block: Any, name: str, body: str) -> ActionTypes:
    """A message to the block; without a block the event of the automation has to do."""
    from prefect.events.actions import DoNothing, SendNotification

    if block is None:
        return DoNothing()
    return SendNotification(block_document_id=block, subject=name, body=body)


def _block(client: SyncPrefectClient) -> Any:
    """Id of the notification block that `SLATEFLOW_ALERT_BLOCK` names; None where it is unset."""
    from prefect.exceptions import ObjectNotFound

    given = os.environ.get("SLATEFLOW_ALERT_BLOCK")
    if not given:
        return None
    expected = "SLATEFLOW_ALERT_BLOCK: expected a notification block, such as slack-webhook/ops"
    kind, _, name = given.partition("/")
    if not kind or not name:
        raise InputError(f"{expected}, got {given!r}")
    try:
        document = client.read_block_document_by_name(name, kind)
    except ObjectNotFound:
        raise InputError(
            f"{expected}, got {given}, which the server does not have; make it in Prefect's UI "
            "under Blocks and start again"
        ) from None
    schema = document.block_schema
    if schema is None or "notify" not in schema.capabilities:
        raise InputError(f"{expected}, got {given}, which sends no notifications; choose another")
    return document.id


def main() -> None:
    """Make the automations on the server of `PREFECT_API_URL`."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        missing = ensure_alerts(client)
    for line in missing:
        print(f"slateflow: {line}", file=sys.stderr)
    sys.exit(2 if missing else 0)


if __name__ == "__main__":
    main()
