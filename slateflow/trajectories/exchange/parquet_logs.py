"""Parquet files of other programs in our schema.

Other layouts are accepted: nullable columns without a null, plain lists where ours have a fixed
length, doubles (which become floats) where ours are floats. Where the world has a catalogue, rows
may name `items` or carry `candidates`, whose features have to be those of items.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slateflow.environments import EnvironmentSpec, preset, spec_from_dict
from slateflow.errors import InputError, refused
from slateflow.trajectories.catalogue import CATALOGUE, Catalogue
from slateflow.trajectories.files.part_files import other_keys
from slateflow.trajectories.schema import Trajectories, arrow_schema, from_table, stored_metadata


def spec_of_parquet(path: Path, environment: str | None) -> EnvironmentSpec:
    """The world of a file: that of its metadata, or the preset with the sizes of the file's lists.

    Raises:
        InputError: Metadata and preset contradict each other, or both are missing.
    """
    spec = _named_world(path)
    if spec is not None:
        if environment not in (None, spec.name):
            raise InputError(
                f"{path}: expected logs of {environment}, got some of {spec.name}; leave out "
                "--environment"
            )
        return spec
    if environment is None:
        raise InputError(
            f"{path}: expected --environment, because the file does not name its world"
        )
    return _sized(preset(environment), path)


def check_world(path: Path, spec: EnvironmentSpec, first: str) -> None:
    """Refuse a file whose metadata name a world other than that of the logs' first file.

    Raises:
        InputError: The worlds differ.
    """
    found = _named_world(path)
    if found is not None and (other := other_keys(spec, found.to_dict())):
        raise InputError(
            f"{path}: expected logs of the same world as {first}, got a world with other "
            f"{', '.join(other)}; import them under another name"
        )


def _named_world(path: Path) -> EnvironmentSpec | None:
    """The world that a file's metadata name; None if they name none."""
    with _reading(path):
        schema = pq.read_schema(path)
    kinds = (InputError, ValueError, KeyError, TypeError)
    with refused(f"{path}: expected metadata of a world", *kinds):
        document = stored_metadata(schema)
        return spec_from_dict(document["environment"]) if document != {} else None


def _sized(spec: EnvironmentSpec, path: Path) -> EnvironmentSpec:
    """The spec with the numbers of candidates and places of the lists in the first row."""
    with _reading(path):
        file = pq.ParquetFile(path)
        names = [
            name for name in ("items", "candidates", "slate") if name in file.schema_arrow.names
        ]
        row = next(file.iter_batches(1, columns=names), None)
    if row is None or not row.num_rows:
        return spec
    values = {name: row.column(name)[0].as_py() for name in names}
    lengths = {name: len(value) for name, value in values.items() if isinstance(value, list)}
    features, odd = divmod(lengths.get("candidates", 0), spec.document_size)
    candidates, slate = lengths.get("items") or features, lengths.get("slate")
    if odd or not candidates or not slate:
        return spec  # the check of the columns names the column that does not fit
    return dataclasses.replace(spec, num_candidates=candidates, slate_size=slate)


def read_parquet(path: Path, spec: EnvironmentSpec, at_once: int) -> Iterator[Trajectories]:
    """The rows of a file, at most `at_once` in a piece, which may end within an episode.

    Raises:
        InputError: Columns are missing, unknown or of another type, lists have another length, or
            candidates are not in the catalogue.
    """
    catalogue = Catalogue.of_world(spec)
    with _reading(path):
        names = pq.read_schema(path).names
        by_item = catalogue is not None and "candidates" not in names
        wanted = arrow_schema(spec, items=by_item)
        _check_names(names, wanted.names, path)
        if catalogue is not None:
            _check_catalogue(path, catalogue)
        file = pq.ParquetFile(path, page_checksum_verification=True)
        for batch in file.iter_batches(at_once, columns=wanted.names):
            rows = from_table(_cast(batch, wanted, path), spec, catalogue if by_item else None)
            if catalogue is not None and not by_item:
                rows = in_catalogue(rows, catalogue, str(path))
            yield rows


def in_catalogue(rows: Trajectories, catalogue: Catalogue, where: str) -> Trajectories:
    """The rows with items of the catalogue in place of their candidates' features.

    Raises:
        InputError: No item has the features of a candidate.
    """
    items = catalogue.find(rows.candidates)
    unknown = (items < 0).any(axis=1)
    if unknown.any():
        row = int(unknown.argmax())
        features = rows.candidates[row, int((items[row] < 0).argmax())].tolist()
        raise InputError(
            f"{where}: episode {rows.episode[row]}, step {rows.step[row]}: candidates: expected "
            f"features of items of the catalogue, got {features}"
        )
    return dataclasses.replace(rows, candidates=items, catalogue=catalogue)


def _check_catalogue(path: Path, catalogue: Catalogue) -> None:
    """Refuse logs with another catalogue beside the file or beside its partition."""
    for folder in (path.parent, path.parent.parent):
        file = folder / CATALOGUE
        if file.is_file():
            found = Catalogue.from_bytes(file.read_bytes(), str(file))
            if found.digest != catalogue.digest:
                raise InputError(
                    f"{file}: expected the {len(catalogue)} items of the world, got {len(found)} "
                    "others; choose the world with --environment"
                )


def _check_names(names: list[str], wanted: list[str], path: Path) -> None:
    missing = [name for name in wanted if name not in names]
    foreign = [name for name in names if name not in (*wanted, "policy")]
    problems = [f"none named {', '.join(missing)}"] if missing else []
    problems += [f"others named {', '.join(foreign)}"] if foreign else []
    if problems:
        raise InputError(
            f"{path}: expected the columns {', '.join(wanted)}, got {' and '.join(problems)}; add "
            "or drop them"
        )


def _cast(batch: pa.RecordBatch, wanted: pa.Schema, path: Path) -> pa.Table:
    columns = []
    for field in wanted:
        column = batch.column(field.name)
        _check_shape(batch, field, path)
        expected = f"{path}: {field.name}: expected {field.type}, got {column.type}"
        with refused(expected, pa.ArrowException):
            columns.append(column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=wanted)


def _check_shape(batch: pa.RecordBatch, field: pa.Field, path: Path) -> None:
    """Refuse nulls, and lists of another length."""
    column = batch.column(field.name)
    wrong, expected = column.is_null(), "a value"
    if pa.types.is_fixed_size_list(field.type):
        size = field.type.list_size
        lengths = pc.fill_null(pc.list_value_length(column), -1)
        wrong, expected = pc.not_equal(lengths, size), f"a list of {size}"
        if not pc.any(wrong).as_py() and pc.list_flatten(column).null_count:
            inside = pc.list_flatten(column).is_null().to_numpy(zero_copy_only=False)
            wrong, expected = inside.reshape(-1, size).any(axis=1), f"{size} values"
    mask = np.asarray(wrong)
    if mask.any():
        row = int(mask.argmax())
        raise InputError(
            f"{path}: episode {batch.column('episode')[row]}, step {batch.column('step')[row]}: "
            f"{field.name}: expected {expected}, got {column[row].as_py()}"
        )


def _reading(path: Path) -> AbstractContextManager[None]:
    """Context in which errors of Arrow and the disk become an `InputError` that names the file."""
    return refused(f"{path}: expected a Parquet file", pa.ArrowException, OSError)
