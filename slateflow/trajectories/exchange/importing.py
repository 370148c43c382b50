"""Logs from elsewhere as a published dataset: every row is checked, nothing is mended or left out.

Parquet files have to be in our schema, of any layout: nullable without a null, plain lists where
ours have a fixed length, doubles where ours are floats (which makes them floats). What RLlib's
JSON writer wrote is read by `rllib_json`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slateflow.environments import EnvironmentSpec, preset, spec_from_dict
from slateflow.errors import InputError
from slateflow.trajectories.contract import check_rows
from slateflow.trajectories.exchange.rllib_json import read_json
from slateflow.trajectories.files.dataset import MANIFEST, Dataset
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.part_files import Part, write_part
from slateflow.trajectories.schema import (
    METADATA_KEY,
    Trajectories,
    arrow_schema,
    episode_starts,
    from_table,
)

PART_ROWS = 60_000
"""Rows from which on a part is closed; it ends with an episode."""

_POLICY = re.compile(r"policy=([^/]+)/")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Log:
    """A file of logs and the behaviour policy that wrote it."""

    path: Path
    policy: str


def import_logs(source: Path, name: str, data: Folder, environment: str | None = None) -> Dataset:
    """Make a dataset of logs that somebody else wrote.

    Args:
        source: A file, or a folder: of Parquet files, perhaps in partitions `policy=…`, or of
            RLlib's JSON files.
        name: Name of the dataset.
        data: Folder that holds the datasets.
        environment: Preset that the logs are from; not needed where the files say it themselves.

    Raises:
        InputError: The name is taken, or the logs do not keep the contract; the message names
            file, episode and step.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"name: expected letters, digits, '.', '_' and '-', got {name!r}")
    folder = data / name
    if folder.exists(MANIFEST):
        raise InputError(
            f"{folder.url}: expected a name without a dataset, found one; choose another name "
            "or delete the dataset"
        )
    logs = _find_logs(source)
    spec = _spec_of(logs, environment)
    recipe = {
        "imported": str(source),
        "environment": spec.name,
        "parameters": _parameters(spec),
    }
    parts: list[Part] = []
    with folder.claimed(json.dumps(recipe, sort_keys=True).encode()):
        numbers: dict[str, int] = {}
        known: list[np.ndarray[Any, Any]] = []
        for log, rows in _checked(logs, spec, known):
            number = numbers[log.policy] = numbers.get(log.policy, -1) + 1
            path = f"policy={log.policy}/part-{number:05d}.parquet"
            block = len(parts)
            digest = write_part(
                folder, path, rows, spec, {"policy": log.policy, "from": log.path.name}
            )
            episodes = int(episode_starts(rows.episode).sum())
            parts.append(Part(path, log.policy, block, episodes, len(rows), digest))
        return Dataset(folder, spec, recipe, tuple(parts)).publish()


def _find_logs(source: Path) -> list[Log]:
    if not source.exists():
        raise InputError(f"{source}: expected a file or folder of logs, found none")
    files = [source] if source.is_file() else sorted(source.rglob("*"))
    if (source / MANIFEST).exists():  # one of our datasets: its parts have an order
        files = [source / part.path for part in Dataset.open(str(source)).parts]
    logs = []
    for path in files:
        relative = str(path.relative_to(source)) if source.is_dir() else path.name
        if not path.is_file() or any(part[0] in "._" for part in Path(relative).parts):
            continue
        if path.suffix not in (".parquet", ".json", ".jsonl"):
            if path.name == "slateflow.json":
                continue
            raise InputError(
                f"{path}: expected logs in .parquet, .json or .jsonl files, got another; move it "
                "out of the folder"
            )
        match = _POLICY.search(relative)
        logs.append(Log(path, match.group(1) if match else "logged"))
    if not logs:
        raise InputError(f"{source}: expected .parquet, .json or .jsonl files, found none")
    return logs


def _spec_of(logs: list[Log], environment: str | None) -> EnvironmentSpec:
    """The world: what the first file says of itself, or the preset in the size of its lists."""
    first = logs[0].path
    if first.suffix != ".parquet":
        if environment is None:
            raise InputError(f"{first}: expected --environment for JSON files, got none")
        return preset(environment)
    with _reading(first):
        schema = pq.read_schema(first)
    said = (schema.metadata or {}).get(METADATA_KEY)
    if said is not None:
        try:
            spec = spec_from_dict(json.loads(said)["environment"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{first}: expected metadata of a world, got {error}") from error
        if environment not in (None, spec.name):
            raise InputError(
                f"{first}: expected logs of {environment}, got some of {spec.name}; leave out "
                "--environment"
            )
        return spec
    if environment is None:
        raise InputError(
            f"{first}: expected --environment, because the file does not say what world it is from"
        )
    return _sized(preset(environment), first)


def _sized(spec: EnvironmentSpec, path: Path) -> EnvironmentSpec:
    with _reading(path):
        columns = [name for name in ("candidates", "slate") if name in pq.read_schema(path).names]
        row = next(pq.ParquetFile(path).iter_batches(1, columns=columns), None)
    if row is None or len(columns) < 2 or not row.num_rows:
        return spec
    lengths = {name: _length(row.column(name)[0].as_py()) for name in columns}
    if not all(lengths.values()) or lengths["candidates"] % spec.document_size:
        return spec  # the check of the columns says what is wrong
    return dataclasses.replace(
        spec,
        num_candidates=lengths["candidates"] // spec.document_size,
        slate_size=lengths["slate"],
    )


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def _parameters(spec: EnvironmentSpec) -> dict[str, Any]:
    """Fields that differ from the preset."""
    standard = preset(spec.name).to_dict()
    return {key: value for key, value in spec.to_dict().items() if standard[key] != value}


def _checked(
    logs: list[Log], spec: EnvironmentSpec, known: list[np.ndarray[Any, Any]]
) -> Iterator[tuple[Log, Trajectories]]:
    """Parts of whole, checked episodes, none of which was in an earlier one."""
    numbers = 0
    for log in logs:
        if log.path.suffix == ".parquet":
            pieces: Iterable[Trajectories] = _read_parquet(log.path, spec)
        else:
            pieces = read_json(log.path, spec, numbers)
        for rows in _whole_episodes(pieces):
            check_rows(rows, spec, str(log.path))
            episodes = rows.episode[episode_starts(rows.episode)]
            for earlier in known:
                again = np.intersect1d(earlier, episodes)
                if len(again):
                    raise InputError(
                        f"{log.path}: episode {again[0]}, step 0: episode: expected a number that "
                        "no other part of the logs has, got it again; number the episodes anew"
                    )
            known.append(episodes)
            numbers = max(numbers, int(episodes.max()) + 1)
            yield log, rows


def _whole_episodes(pieces: Iterable[Trajectories]) -> Iterator[Trajectories]:
    """The same rows in pieces of at least `PART_ROWS` that end where an episode does."""
    held: list[Trajectories] = []
    for piece in pieces:
        held.append(piece)
        if sum(map(len, held)) < PART_ROWS:
            continue
        rows = _joined(held)
        last = int(np.flatnonzero(episode_starts(rows.episode))[-1])
        if last:
            yield _taken(rows, slice(0, last))
        held = [_taken(rows, slice(last, None))]
    if sum(map(len, held)):
        yield _joined(held)


def _taken(rows: Trajectories, which: slice) -> Trajectories:
    fields = {
        field.name: getattr(rows, field.name)[which]
        for field in dataclasses.fields(rows)
        if field.name != "responses"
    }
    responses = {name: values[which] for name, values in rows.responses.items()}
    return Trajectories(**fields, responses=responses)


def _joined(pieces: list[Trajectories]) -> Trajectories:
    if len(pieces) == 1:
        return pieces[0]
    fields = {
        field.name: np.concatenate([getattr(piece, field.name) for piece in pieces])
        for field in dataclasses.fields(Trajectories)
        if field.name != "responses"
    }
    responses = {
        name: np.concatenate([piece.responses[name] for piece in pieces])
        for name in pieces[0].responses
    }
    return Trajectories(**fields, responses=responses)


def _read_parquet(path: Path, spec: EnvironmentSpec) -> Iterator[Trajectories]:
    wanted = arrow_schema(spec)
    with _reading(path):
        names = pq.read_schema(path).names
        missing = [name for name in wanted.names if name not in names]
        foreign = [name for name in names if name not in (*wanted.names, "policy")]
        if missing or foreign:
            raise InputError(
                f"{path}: expected the columns {', '.join(wanted.names)}, got "
                + " and ".join(
                    text
                    for text, those in (
                        (f"none named {', '.join(missing)}", missing),
                        (f"others named {', '.join(foreign)}", foreign),
                    )
                    if those
                )
                + "; add or drop them"
            )
        file = pq.ParquetFile(path, page_checksum_verification=True)
        for batch in file.iter_batches(PART_ROWS, columns=wanted.names):
            yield _cast(batch, wanted, spec, path)


def _cast(
    batch: pa.RecordBatch, wanted: pa.Schema, spec: EnvironmentSpec, path: Path
) -> Trajectories:
    columns = []
    for field in wanted:
        column = batch.column(field.name)
        _check_shape(batch, field, path)
        try:
            columns.append(column.cast(field.type))
        except pa.ArrowException as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{path}: {field.name}: expected {field.type}, got {column.type} ({reason})"
            ) from error
    return from_table(pa.Table.from_arrays(columns, schema=wanted), spec)


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


class _reading:  # noqa: N801 - used like a function
    """What goes wrong in the block is said of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, pa.ArrowException | OSError) and not isinstance(error, InputError):
            reason = str(error).splitlines()[0]
            raise InputError(f"{self.path}: expected a Parquet file, got {reason}") from error
