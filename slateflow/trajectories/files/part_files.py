"""One Parquet file of a dataset: how it is written, and what stands between it and a reader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.parquet import parquet_bytes
from slateflow.trajectories.schema import (
    METADATA_KEY,
    SCHEMA_VERSION,
    Columns,
    Trajectories,
    arrow_schema,
    compact_columns,
    digest_of,
    file_schema,
    from_table,
)

STATISTICS = ("episode", "step", "reward")
"""Columns whose smallest and largest value each file tells, so that readers can skip it."""


@dataclass(frozen=True)
class Part:
    """One Parquet file of a dataset.

    Attributes:
        path: File, relative to the dataset.
        policy: Behaviour policy that made it.
        seed_block: Number of the block of random numbers that it was made from.
        episodes: Episodes in it.
        rows: Steps in it.
        sha256: Digest over the canonical bytes of its columns (not of the file).
    """

    path: str
    policy: str
    seed_block: int
    episodes: int
    rows: int
    sha256: str


def write_part(
    folder: Folder, path: str, rows: Trajectories, spec: EnvironmentSpec, key: dict[str, Any]
) -> str:
    """Write one Parquet file; the digest of its rows. `key` says what is in it."""
    digest, data = encode_part(compact_columns(rows), spec, key)
    folder.write(path, data)
    return digest


def encode_part(columns: Columns, spec: EnvironmentSpec, key: dict[str, Any]) -> tuple[str, bytes]:
    """The digest of the rows, and a Parquet file of them; its metadata has `key` and digest."""
    digest = digest_of(columns)
    schema = file_schema(spec, {**key, "sha256": digest})
    return digest, parquet_bytes(columns, schema, STATISTICS)


def read_part(folder: Folder, path: str, spec: EnvironmentSpec, remedy: str) -> Trajectories:
    """The rows of one Parquet file.

    Raises:
        InputError: It is missing, damaged, or of another world; the message ends with `remedy`.
    """
    where = f"{folder.url}/{path}"
    with _opened(folder, path, remedy) as file:
        table = pq.read_table(file, partitioning=None, page_checksum_verification=True)
    if not table.schema.equals(arrow_schema(spec)):
        raise InputError(
            f"{where}: expected the columns of {spec.name}, got {table.schema.names}; {remedy}"
        )
    _check_metadata(where, table.schema.metadata, spec, remedy)
    return from_table(table, spec)


def part_rows(folder: Folder, path: str, remedy: str) -> int:
    """How many rows its footer says there are.

    Raises:
        InputError: It is missing or has no footer; the message ends with `remedy`.
    """
    with _opened(folder, path, remedy) as file:
        return int(pq.read_metadata(file).num_rows)


@contextmanager
def _opened(folder: Folder, path: str, remedy: str) -> Iterator[Any]:
    """A part as a file; what goes wrong in the block is said of it."""
    where = f"{folder.url}/{path}"
    if not folder.exists(path):
        raise InputError(f"{where}: expected a part of the dataset, found none; {remedy}")
    try:
        with folder.open(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{where}: expected a Parquet file, got {reason}; {remedy}") from error


def _check_metadata(
    where: str, metadata: dict[bytes, bytes] | None, spec: EnvironmentSpec, remedy: str
) -> None:
    """Refuse a part that says that it is of another version or world. It need not say anything."""
    said = (metadata or {}).get(METADATA_KEY)
    if said is None:
        return
    try:
        document = json.loads(said)
        version, environment = document["schema_version"], document["environment"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{where}: expected our metadata, got {error!r}; {remedy}") from error
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{where}: expected schema version {SCHEMA_VERSION}, got {version}; "
            "read it with the Slateflow that wrote it"
        )
    if environment != spec.to_dict():
        given = environment if isinstance(environment, dict) else {}
        other = [key for key, value in spec.to_dict().items() if given.get(key) != value]
        raise InputError(
            f"{where}: expected a part of {spec.name}, got one of a world with other "
            f"{', '.join(other) or 'fields'}; {remedy}"
        )
