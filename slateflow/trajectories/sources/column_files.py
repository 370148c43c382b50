"""Columns of Parquet and CSV files, batch by batch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from slateflow.errors import InputError, refused
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.sources.csv_texts import trimmed

BATCH_ROWS = 65_536
"""Rows of a file that are in memory at once."""

HEADER_BYTES = 4_096
"""First bytes of a CSV file, which show its encoding and what separates its columns."""


def read_columns(folder: Folder, name: str, path: str, columns: list[str]) -> Iterator[pa.Table]:
    """Some columns of a Parquet or CSV file.

    Columns of CSV are texts without spaces around them, null where nothing is left.

    Args:
        folder: Folder of the file.
        name: Its name there.
        path: Its path, for messages.
        columns: Names of the columns.

    Raises:
        InputError: The file cannot be read, or lacks one of the columns.
    """
    kind = "Parquet file" if name.endswith(".parquet") else "CSV file in UTF-8 with commas"
    expected, remedy = f"{path}: expected a {kind}", "write it again or move it away"
    with refused(expected, pa.ArrowException, OSError, remedy=remedy), _without_header():
        if name.endswith(".parquet"):
            file = pq.ParquetFile(folder.open(name))
            _check_names(path, columns, file.schema_arrow.names)
            batches = file.iter_batches(BATCH_ROWS, columns=columns)
        else:
            if other := _other_form(folder.stream(name).read(HEADER_BYTES)):
                raise InputError(f"{expected}, got {other}; {remedy}")
            _check_names(path, columns, pacsv.open_csv(folder.stream(name)).schema.names)
            options = pacsv.ConvertOptions(
                include_columns=columns,
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=True,
                null_values=[""],
            )
            batches = (
                pa.record_batch({one: trimmed(batch[one]) for one in columns})
                for batch in pacsv.open_csv(folder.stream(name), convert_options=options)
            )
        for batch in batches:
            yield pa.Table.from_batches([batch])


def _other_form(start: bytes) -> str:
    """The encoding or the separators by which a CSV file's first bytes differ from ours, or ""."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start:
        return "UTF-16"
    separators = {b",": "", b";": "semicolons", b"\t": "tabs"}
    return separators[max(separators, key=start.partition(b"\n")[0].count)]  # a tie is a comma's


@contextmanager
def _without_header() -> Iterator[None]:
    """Context in which rows in Arrow's messages count from 1, without the header, as in ours."""
    try:
        yield
    except pa.ArrowInvalid as error:
        counted = re.sub(r"Row #(\d+)", lambda row: f"row {int(row[1]) - 1}", str(error))
        raise pa.ArrowInvalid(counted) from None


def _check_names(path: str, wanted: list[str], names: list[str]) -> None:
    for name in wanted:
        if names.count(name) > 1:
            raise InputError(
                f"{path}: expected one column {name}, got {names.count(name)}; rename the others"
            )
    missing = [name for name in wanted if name not in names]
    if missing:
        # Spaces around a name would be invisible
        expected, *got = (
            one if one == one.strip() != "" else repr(one) for one in (missing[0], *names)
        )
        raise InputError(
            f"{path}: expected a column {expected}, got {', '.join(got)}; name the columns in "
            "the recipe"
        )
