"""The verdict of a flow run where Prefect's lists show and filter it: in its name and its tags.

The state keeps the name `Completed`. Prefect's lists of a deployment's runs, its filters and its
automations use the built-in names, and would pass over a run whose state has another name.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import httpx
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

OUTCOMES = ("Promoted", "Kept champion", "No winner", "No verdict", "Winner")


def tag_of(outcome: str) -> str:
    """An outcome as a tag.

    Example:
        >>> tag_of("Kept champion")
        'kept-champion'
    """
    return outcome.lower().replace(" ", "-")


def label_run(outcome: str) -> None:
    """Add the outcome to the name and the tags of the running flow run.

    A run that is tried again has only the outcome of its last try. If the server has just died, the
    run continues without a label.
    """
    name = str(flow_run.name).partition(": ")[0]
    tags = _with_outcome(flow_run.tags, outcome)
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, name=f"{name}: {outcome.lower()}", tags=tags)


def _with_outcome(tags: Iterable[str], outcome: str) -> list[str]:
    others = set(tags) - {tag_of(one) for one in OUTCOMES}
    return sorted(others | {tag_of(outcome)})
