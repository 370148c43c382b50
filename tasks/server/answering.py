"""A client of the Prefect server that is configured, which has to answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from slateflow.errors import InputError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


@contextmanager
def answering_client() -> Iterator[SyncPrefectClient]:
    """A client of the server at `PREFECT_API_URL`.

    Raises:
        InputError: Nothing answers there.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    from tasks.store.tracking import redact_passwords

    with get_client(sync_client=True) as client:
        if (error := client.api_healthcheck()) is not None:
            address = redact_passwords(str(PREFECT_API_URL.value()))
            raise InputError(
                f"PREFECT_API_URL: expected a Prefect server at {address}, got {error}; start it, "
                "or name another"
            )
        yield client
