"""The contract of a logged step: columns, types, and the metadata that travels with them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec
from slateflow.trajectories.bits import Bits

Columns: TypeAlias = "Mapping[str, NDArray[Any] | Bits]"
"""By name, in the order of the schema; compact ones have bits for vectors of zeros and ones."""

Rows: TypeAlias = "NDArray[np.integer[Any]] | slice"

SCHEMA_VERSION = 1
METADATA_KEY = b"slateflow"


@dataclass(frozen=True)
class Trajectories:
    """Logged steps as arrays, sorted by episode, then step. R is the number of rows."""

    episode: NDArray[np.int64]  # (R,)
    step: NDArray[np.int32]  # (R,)
    user: NDArray[np.float32]  # (R, U)
    candidates: NDArray[np.float32]  # (R, N, D)
    slate: NDArray[np.int32]  # (R, K)
    propensity: NDArray[np.float64]  # (R,)
    clicked: NDArray[np.int32]  # (R,), the clicked place in the slate, −1 for none
    reward: NDArray[np.float32]  # (R,)
    responses: dict[str, NDArray[np.float32]]  # each (R,)
    terminated: NDArray[np.bool_]  # (R,)
    truncated: NDArray[np.bool_]  # (R,)

    def __len__(self) -> int:
        return len(self.episode)

    def where(self, chosen: NDArray[Any] | slice) -> Trajectories:
        """Some of the rows, by number, by a mask (R,) or a slice; whole episodes stay a log."""
        arrays = {name: getattr(self, name)[chosen] for name in _ARRAYS}
        return Trajectories(
            **arrays, responses={name: values[chosen] for name, values in self.responses.items()}
        )

    @cached_property
    def starts(self) -> NDArray[np.intp]:
        """(E,) first row of each episode."""
        return np.flatnonzero(episode_starts(self.episode))

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
        return np.append(episode_starts(self.episode)[1:], True)[: len(self)]

    def candidate_features(self, rows: Rows = slice(None)) -> NDArray[np.float32]:
        """Features (B, N, D) of the candidates of some rows, by number or slice."""
        features: NDArray[np.float32] = self.candidates[rows]
        return features

    def features_at(
        self, positions: NDArray[np.integer], rows: Rows = slice(None)
    ) -> NDArray[np.float32]:
        """Features (B, …, D) of the candidates at positions (B, …) of some rows."""
        offered = self.candidates[rows]
        first = np.arange(len(offered)).reshape(-1, *[1] * (positions.ndim - 1))
        features: NDArray[np.float32] = offered[first, positions]
        return features

    def shown_features(self, rows: Rows = slice(None)) -> NDArray[np.float32]:
        """Features (B, K, D) of the slates of some rows."""
        return self.features_at(self.slate[rows], rows)

    def clicked_features(self, rows: Rows = slice(None)) -> NDArray[np.float32]:
        """Features (B, D) of the clicked candidates of some rows; zeros without a click."""
        position = self.clicked_candidate()[rows]
        features = self.features_at(np.maximum(position, 0), rows)
        return np.where(position[:, None] >= 0, features, np.float32(0))

    @classmethod
    def joined(cls, parts: Sequence[Trajectories]) -> Trajectories:
        """The rows of parts, one after the other."""
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
        responses = {
            name: np.concatenate([part.responses[name] for part in parts])
            for name in parts[0].responses
        }
        return cls(**arrays, responses=responses)

    def columns(self) -> dict[str, NDArray[Any]]:
        """The arrays under the names of the Parquet columns, in their order."""
        responses = {name: self.responses[name] for name in sorted(self.responses)}
        user = {"user": self.user} if self.user.shape[1] else {}
        features = math.prod(self.candidates.shape[1:])  # −1 does not do without rows
        return {
            "episode": self.episode,
            "step": self.step,
            **user,
            "candidates": self.candidates.reshape(len(self), features),
            "slate": self.slate,
            "propensity": self.propensity,
            "clicked": self.clicked,
            "reward": self.reward,
            **responses,
            "terminated": self.terminated,
            "truncated": self.truncated,
        }

    def clicked_candidate(self) -> NDArray[np.intp]:
        """(R,) position among the candidates of the clicked one; −1 where nothing was clicked."""
        place = np.maximum(self.clicked, 0)[:, None]
        position = np.take_along_axis(self.slate, place, axis=1)[:, 0].astype(np.intp)
        return np.where(self.clicked >= 0, position, -1)


def episode_starts(episode: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(R,) whether a row is of another episode than the row before it."""
    starts = np.ones(len(episode), dtype=np.bool_)
    starts[1:] = episode[1:] != episode[:-1]
    return starts


_ARRAYS = [field.name for field in fields(Trajectories) if field.name != "responses"]


def arrow_schema(spec: EnvironmentSpec) -> pa.Schema:
    """The Arrow schema of that world's logs, without metadata."""

    def vector(dtype: pa.DataType, length: int) -> pa.DataType:
        return pa.list_(pa.field("item", dtype, nullable=False), length)

    user = {"user": vector(pa.float32(), spec.user_size)} if spec.user_size else {}
    types = {
        "episode": pa.int64(),
        "step": pa.int32(),
        **user,
        "candidates": vector(pa.float32(), spec.num_candidates * spec.document_size),
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
    """The same with the metadata of a file, which say how its rows were made."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "environment": spec.to_dict(),
        "part": part_key,
    }
    metadata = {METADATA_KEY: json.dumps(document, sort_keys=True).encode()}
    return arrow_schema(spec).with_metadata(metadata)


def to_table(rows: Trajectories, spec: EnvironmentSpec, part_key: dict[str, Any]) -> pa.Table:
    """The rows as an Arrow table; its metadata says how they were made."""
    return arrow_table(rows.columns(), file_schema(spec, part_key))


def arrow_table(columns: Columns, schema: pa.Schema) -> pa.Table:
    """Columns, which may be compact, as an Arrow table."""
    arrays = []
    for field in schema:
        values = columns[field.name]
        if isinstance(values, Bits):
            values = values.numbers()
        if pa.types.is_fixed_size_list(field.type):
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
        else:
            arrays.append(pa.array(values, type=field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def from_table(table: pa.Table, spec: EnvironmentSpec) -> Trajectories:
    """The inverse of `to_table`."""
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
        candidates=column("candidates").reshape(rows, spec.num_candidates, spec.document_size),
        slate=column("slate").reshape(rows, spec.slate_size),
        propensity=column("propensity"),
        clicked=column("clicked"),
        reward=column("reward"),
        responses={name: column(name) for name in spec.response_columns},
        terminated=column("terminated"),
        truncated=column("truncated"),
    )


def no_rows(spec: EnvironmentSpec) -> Trajectories:
    """Logs of that world without a step."""
    return from_table(arrow_schema(spec).empty_table(), spec)


def compact_columns(rows: Trajectories) -> Columns:
    """The columns with bits for vectors of zeros and ones."""
    return {name: _compact(values) for name, values in rows.columns().items()}


def _compact(values: NDArray[Any]) -> NDArray[Any] | Bits:
    bits = Bits.of(values) if values.ndim == 2 and values.dtype == np.float32 else None
    return values if bits is None else bits


def column_digest(rows: Trajectories) -> str:
    """SHA-256 over the names and the canonical bytes of the columns, in schema order.

    Numbers are little-endian. Vectors of zeros and ones, as one-hot features are, count a bit a
    number and say so behind their name. The digest knows nothing of files, so compression,
    encodings and row groups do not change it.
    """
    return digest_of(compact_columns(rows))


def digest_of(columns: Columns) -> str:
    """The same of compact columns."""
    digest = hashlib.sha256()
    for name, values in columns.items():
        digest.update(name.encode())
        if isinstance(values, Bits):
            digest.update(b" in bits")
            values = values.packed
        little_endian = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
        digest.update(little_endian.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
