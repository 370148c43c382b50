"""The contract of a logged step: columns, types, and the metadata that travels with them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec
from slateflow.trajectories.catalogue import Catalogue

Rows: TypeAlias = "NDArray[np.integer[Any]] | slice"

SCHEMA_VERSION = 2
METADATA_KEY = b"slateflow"


BLOCK_ROWS = 3_000
"""Rows whose features are in memory at once. With 20 candidates their monomials stay in the
processor's cache: fitted-q takes 2.2 s where blocks of 20,000 take 6."""


def blocks(rows: int) -> Iterable[slice]:
    """Slices of at most `BLOCK_ROWS` rows."""
    return (slice(start, start + BLOCK_ROWS) for start in range(0, rows, BLOCK_ROWS))


@dataclass(frozen=True)
class Trajectories:
    """Logged steps as arrays, sorted by episode, then step. R is the number of rows.

    Candidates are features where they are fresh at every step, and numbers of items where they
    come from a catalogue. The methods below give features in both cases; ask them for a block of
    rows, because the features of all rows may not fit into memory.
    """

    episode: NDArray[np.int64]  # (R,)
    step: NDArray[np.int32]  # (R,)
    user: NDArray[np.float32]  # (R, U)
    candidates: NDArray[Any]  # (R, N, D) features, or (R, N) items of the catalogue
    slate: NDArray[np.int32]  # (R, K)
    propensity: NDArray[np.float64]  # (R,)
    clicked: NDArray[np.int32]  # (R,), the clicked place in the slate, −1 for none
    reward: NDArray[np.float32]  # (R,)
    responses: dict[str, NDArray[np.float32]]  # each (R,)
    terminated: NDArray[np.bool_]  # (R,)
    truncated: NDArray[np.bool_]  # (R,)
    catalogue: Catalogue | None = None

    def __len__(self) -> int:
        return len(self.episode)

    def where(self, chosen: NDArray[Any] | slice) -> Trajectories:
        """Some of the rows, by number, by a mask (R,) or a slice; whole episodes stay a log."""
        arrays: dict[str, Any] = {name: getattr(self, name)[chosen] for name in _ARRAYS}
        responses = {name: values[chosen] for name, values in self.responses.items()}
        return replace(self, **arrays, responses=responses)

    @property
    def first(self) -> NDArray[np.bool_]:
        """(R,) whether the row is its episode's first, by the episodes' numbers."""
        first = np.ones(len(self), dtype=np.bool_)
        first[1:] = self.episode[1:] != self.episode[:-1]
        return first

    @cached_property
    def starts(self) -> NDArray[np.intp]:
        """(E,) the first row of each episode."""
        return np.flatnonzero(self.first)

    @property
    def lengths(self) -> NDArray[np.intp]:
        """(E,) rows of each episode."""
        return np.diff(np.append(self.starts, len(self)))

    @property
    def sessions(self) -> NDArray[np.intp]:
        """(R,) number of the row's episode among those of these rows, from 0."""
        return np.repeat(np.arange(len(self.starts)), self.lengths)

    @property
    def last(self) -> NDArray[np.bool_]:
        """(R,) whether the row is its episode's last, by the episodes' numbers."""
        return np.append(self.first[1:], True)[: len(self)]

    def candidate_features(self, rows: Rows = slice(None)) -> NDArray[np.float32]:
        """Features (B, N, D) of the candidates of some rows, by number or slice."""
        return self._features(self.candidates[rows])

    def features_at(
        self, positions: NDArray[np.integer], rows: Rows = slice(None)
    ) -> NDArray[np.float32]:
        """Features (B, …, D) of the candidates at positions (B, …) of some rows."""
        offered = self.candidates[rows]
        first = np.arange(len(offered)).reshape(-1, *[1] * (positions.ndim - 1))
        return self._features(offered[first, positions])

    def _features(self, candidates: NDArray[Any]) -> NDArray[np.float32]:
        return candidates if self.catalogue is None else self.catalogue.features[candidates]

    def shown_features(self, rows: Rows = slice(None)) -> NDArray[np.float32]:
        """Features (B, K, D) of the slates of some rows."""
        return self.features_at(self.slate[rows], rows)

    def clicked_features(self, rows: Rows = slice(None)) -> NDArray[np.float32]:
        """Features (B, D) of the clicked candidates of some rows; zeros without a click."""
        position = self.clicked_candidate()[rows]
        features = self.features_at(np.maximum(position, 0), rows)
        return np.where(position[:, None] >= 0, features, np.float32(0))

    @classmethod
    def from_parts(cls, parts: Sequence[Trajectories]) -> Trajectories:
        """The rows of parts of one dataset, in their order."""
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS
        }
        responses = {
            name: np.concatenate([part.responses[name] for part in parts])
            for name in parts[0].responses
        }
        return replace(parts[0], **arrays, responses=responses)

    def columns(self) -> dict[str, NDArray[Any]]:
        """The arrays under the names of the Parquet columns, in their order."""
        responses = {name: self.responses[name] for name in sorted(self.responses)}
        user = {"user": self.user} if self.user.shape[1] else {}
        width = math.prod(self.candidates.shape[1:])  # −1 needs rows
        offered = "candidates" if self.catalogue is None else "items"
        return {
            "episode": self.episode,
            "step": self.step,
            **user,
            offered: self.candidates.reshape(len(self), width),
            "slate": self.slate,
            "propensity": self.propensity,
            "clicked": self.clicked,
            "reward": self.reward,
            **responses,
            "terminated": self.terminated,
            "truncated": self.truncated,
        }

    def clicked_candidate(self) -> NDArray[np.intp]:
        """(R,) position of the clicked candidate among the candidates; −1 without a click."""
        place = np.maximum(self.clicked, 0)[:, None]
        position = np.take_along_axis(self.slate, place, axis=1)[:, 0].astype(np.intp)
        return np.where(self.clicked >= 0, position, -1)


_ARRAYS = [
    field.name for field in fields(Trajectories) if field.name not in ("responses", "catalogue")
]


def arrow_schema(spec: EnvironmentSpec, items: bool | None = None) -> pa.Schema:
    """The Arrow schema of that world's logs, without metadata.

    Args:
        spec: The world.
        items: Whether rows name items of a catalogue or carry the features of their candidates;
            None for the form of the world's own datasets. The lists have a fixed size because a
            world offers the same number at every step; elsewhere the column is `list<int32>`.
    """

    def vector(dtype: pa.DataType, length: int) -> pa.DataType:
        return pa.list_(pa.field("item", dtype, nullable=False), length)

    user = {"user": vector(pa.float32(), spec.user_size)} if spec.user_size else {}
    features = vector(pa.float32(), spec.num_candidates * spec.document_size)
    by_item = bool(spec.items) if items is None else items
    offered = (
        {"items": vector(pa.int32(), spec.num_candidates)} if by_item else {"candidates": features}
    )
    types = {
        "episode": pa.int64(),
        "step": pa.int32(),
        **user,
        **offered,
        "slate": vector(pa.int32(), spec.slate_size),
        "propensity": pa.float64(),
        "clicked": pa.int32(),
        "reward": pa.float32(),
        **{name: pa.float32() for name in sorted(spec.response_columns)},
        "terminated": pa.bool_(),
        "truncated": pa.bool_(),
    }
    return pa.schema([pa.field(name, dtype, nullable=False) for name, dtype in types.items()])


def file_schema(spec: EnvironmentSpec, part_key: dict[str, Any]) -> pa.Schema:
    """The Arrow schema with the metadata of a file: schema version, world and part."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "environment": spec.to_dict(),
        "part": part_key,
    }
    metadata = {METADATA_KEY: json.dumps(document, sort_keys=True).encode()}
    return arrow_schema(spec).with_metadata(metadata)


def to_table(rows: Trajectories, spec: EnvironmentSpec, part_key: dict[str, Any]) -> pa.Table:
    """The rows as an Arrow table, with the metadata of `file_schema`."""
    schema, columns = file_schema(spec, part_key), rows.columns()
    arrays = []
    for field in schema:
        values = columns[field.name]
        if pa.types.is_fixed_size_list(field.type):
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
        else:
            arrays.append(pa.array(values, type=field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def from_table(
    table: pa.Table, spec: EnvironmentSpec, catalogue: Catalogue | None = None
) -> Trajectories:
    """The inverse of `to_table`; with a catalogue the table has a column `items`."""
    rows = table.num_rows

    def column(name: str) -> NDArray[Any]:
        array = table.column(name).combine_chunks()
        if pa.types.is_fixed_size_list(array.type):
            return np.asarray(array.flatten().to_numpy(zero_copy_only=False))
        return np.asarray(array.to_numpy(zero_copy_only=False))

    return Trajectories(
        episode=column("episode"),
        step=column("step"),
        user=(
            column("user").reshape(rows, spec.user_size)
            if spec.user_size
            else np.zeros((rows, 0), dtype=np.float32)
        ),
        candidates=(
            column("candidates").reshape(rows, spec.num_candidates, spec.document_size)
            if catalogue is None
            else column("items").reshape(rows, spec.num_candidates)
        ),
        slate=column("slate").reshape(rows, spec.slate_size),
        propensity=column("propensity"),
        clicked=column("clicked"),
        reward=column("reward"),
        responses={name: column(name) for name in spec.response_columns},
        terminated=column("terminated"),
        truncated=column("truncated"),
        catalogue=catalogue,
    )


def no_rows(spec: EnvironmentSpec, catalogue: Catalogue | None = None) -> Trajectories:
    """Logs of that world without a step."""
    schema = arrow_schema(spec, items=catalogue is not None)
    return from_table(schema.empty_table(), spec, catalogue)


def column_digest(rows: Trajectories) -> str:
    """SHA-256 over the names and the canonical bytes of the columns, in schema order.

    Numbers are little-endian. Compression, encodings and row groups of files do not change it.
    """
    digest = hashlib.sha256()
    for name, values in rows.columns().items():
        digest.update(name.encode())
        little_endian = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
        digest.update(little_endian.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
