"""Progress of long steps, for the command line and for the Prefect UI."""

from __future__ import annotations

import hashlib
import re
import time
from contextlib import suppress
from typing import cast
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.exceptions import ObjectNotFound

from slateflow.progress import Progress
from tasks.server.stages import stage

_SECONDS_BETWEEN_UPDATES = 2.0


def artifact_key(*parts: str) -> str:
    """The key of an artifact: the parts with dashes, in the characters that Prefect allows.

    Names that differ only in other characters get different keys.
    """
    name = "-".join(parts)
    key = re.sub("[^a-z0-9]+", "-", name.lower())
    return key if key == name else f"{key}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def stage_with_artifact(name: str, key: str, description: str) -> Progress:
    """A stage that is also a progress artifact of the flow run while it lasts, if that is long.

    At its end the artifact is deleted: the Artifacts page is for reports. Those that a
    killed run left go with it.

    Args:
        name: Name of the stage for the listeners.
        key: The artifact's, after `progress-`. It has no part that changes from night to night,
            which would make a new artifact every time.
        description: The artifact's description.
    """
    listeners = stage(name)
    key = artifact_key("progress", key)
    shown = time.monotonic()
    artifact: UUID | None = None

    def report(done: int, total: int) -> None:
        nonlocal shown, artifact
        listeners(done, total)
        now = time.monotonic()
        # Without a server, or with an artifact that a run beside us deleted, the step runs unseen
        with suppress(httpx.HTTPError, ObjectNotFound, ValueError):
            if done >= total:
                _delete_artifacts(key)
            elif now - shown >= _SECONDS_BETWEEN_UPDATES:
                shown, share = now, 100.0 * done / max(total, 1)
                if artifact is not None:
                    update_progress_artifact(artifact, progress=share)
                else:
                    made = create_progress_artifact(share, key=key, description=description)
                    artifact = cast(UUID, made)  # not a coroutine, outside of async code

    return report


def _delete_artifacts(key: str) -> None:
    """Delete all artifacts of a key."""
    chosen = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
    with get_client(sync_client=True) as client:
        for artifact in client.read_artifacts(artifact_filter=chosen):
            client.delete_artifact(artifact.id)
