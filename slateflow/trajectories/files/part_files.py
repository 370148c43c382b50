"""A dataset's Parquet files: each is written in one piece and checked when it is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError, refused
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.schema import (
    SAME_ITEMS,
    SCHEMA_VERSION,
    Trajectories,
    arrow_schema,
    column_digest,
    from_table,
    stored_metadata,
    to_table,
)

LAYOUT: dict[str, Any] = {
    "compression": "lz4",
    "use_dictionary": False,  # features are all different
    "write_statistics": ["episode", "step", "reward"],  # by which readers can skip files
    "write_page_checksum": True,
}
"""Options of the Parquet writer."""

PART_ROWS = 60_000
"""Rows at which a part of imported or own logs is closed; it ends with an episode."""

MAKE_AGAIN = (
    "delete the dataset, and generate it again with `slateflow generate` or import it again"
)


@dataclass(frozen=True)
class PartFile:
    """One Parquet file of a dataset."""

    path: str  # file, relative to the dataset
    policy: str  # behaviour policy that made it
    seed_block: int  # number of the block of random streams from which it was made
    episodes: int  # episodes in it
    rows: int  # steps in it
    sha256: str  # digest over the canonical bytes of its columns (not of the file)
    day: str = ""  # key of its day, where the dataset has days
    held_in_of: str = ""  # part whose rows that are not held out it holds, and the rule

    def to_dict(self) -> dict[str, Any]:
        """The part, as the manifest stores it."""
        return {key: value for key, value in vars(self).items() if value != ""}


def part_path(policy: str, number: int) -> str:
    """Path of a policy's part within a dataset."""
    return f"policy={policy}/part-{number:05d}.parquet"


def write_part(
    folder: Folder, path: str, rows: Trajectories, spec: EnvironmentSpec, key: dict[str, Any]
) -> str:
    """Write one Parquet file and return the digest of its rows.

    The file's metadata holds the digest and `key`, the description of how its rows were made.
    """
    digest = column_digest(rows)
    sink = pa.BufferOutputStream()
    pq.write_table(to_table(rows, spec, {**key, "sha256": digest}), sink, **LAYOUT)
    folder.write(path, memoryview(sink.getvalue()))
    return digest


def read_part(
    folder: Folder,
    path: str,
    spec: EnvironmentSpec,
    remedy: str,
    catalogue: Catalogue | None = None,
) -> Trajectories:
    """The rows of one Parquet file.

    Raises:
        InputError: The file is missing, damaged or of another world; the message ends with
            `remedy`.
    """
    where = f"{folder.url}/{path}"
    with _opened(folder, path, remedy) as file:
        part = pq.ParquetFile(file, page_checksum_verification=True)
        schema = part.schema_arrow
        _check_metadata(where, schema, spec, remedy)
        if not schema.equals(arrow_schema(spec, items=catalogue is not None)):
            raise InputError(
                f"{where}: expected the columns of {spec.name}, got {schema.names}; {remedy}"
            )
        if not (part.metadata.num_rows and SAME_ITEMS in stored_metadata(schema)):
            return from_table(part.read(), spec, catalogue)
        first = next(part.iter_batches(1, columns=["items"]))
        rest = part.read([name for name in schema.names if name != "items"])
    return from_table(rest, spec, catalogue, pa.Table.from_batches([first]))


def kept_part(
    folder: Folder,
    path: str,
    spec: EnvironmentSpec,
    key: dict[str, Any],
    remedy: str,
    catalogue: Catalogue | None = None,
) -> Trajectories | None:
    """The rows that an interrupted run left; None unless they have this `key` and are undamaged."""
    if not folder.exists(path):
        return None
    try:
        with folder.open(path) as file:
            document = stored_metadata(pq.read_schema(file))
        rows = read_part(folder, path, spec, remedy, catalogue)
        # Parquet has checksums for its pages but none for its footer
        wanted = {**key, "sha256": column_digest(rows)}
        return rows if document["part"] == wanted else None
    except (InputError, pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return None


def part_rows(folder: Folder, path: str, remedy: str) -> int:
    """The number of rows according to the part's footer.

    Raises:
        InputError: The file is missing or has no footer; the message ends with `remedy`.
    """
    with _opened(folder, path, remedy) as file:
        return int(pq.read_metadata(file).num_rows)


@contextmanager
def _opened(folder: Folder, path: str, remedy: str) -> Iterator[Any]:
    """The part as an open file; errors in the block become an `InputError` that names it."""
    where = f"{folder.url}/{path}"
    if not folder.exists(path):
        raise InputError(f"{where}: expected a part of the dataset, found none; {remedy}")
    expected = f"{where}: expected a Parquet file"
    with refused(expected, pa.ArrowException, OSError, remedy=remedy), folder.open(path) as file:
        yield file


def other_keys(spec: EnvironmentSpec, given: dict[str, Any]) -> list[str]:
    """Keys in which a stored world differs from the spec."""
    return [key for key, value in spec.lasting().items() if given.get(key) != value]


def _check_metadata(where: str, schema: pa.Schema, spec: EnvironmentSpec, remedy: str) -> None:
    """Refuse a part whose metadata names another version or world; metadata may be absent."""
    kinds = (ValueError, KeyError, TypeError)
    with refused(f"{where}: expected our metadata", *kinds, remedy=remedy):
        document = stored_metadata(schema)
        if document == {}:
            return
        version, environment = document["schema_version"], document["environment"]
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{where}: expected schema version {SCHEMA_VERSION}, got {version}; {MAKE_AGAIN}"
        )
    if other := other_keys(spec, environment if isinstance(environment, dict) else {}):
        raise InputError(
            f"{where}: expected a part of {spec.name}, got one of a world with other "
            f"{', '.join(other)}; {remedy}"
        )
