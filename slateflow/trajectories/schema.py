"""The contract of a logged step: columns, types, and the metadata that travels with them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec, Observation
from slateflow.errors import InputError
from slateflow.held_out_choice import halves
from slateflow.shared_rows import at_rows, distinct, for_rows, joined, shared
from slateflow.trajectories.catalogue import Catalogue

Rows: TypeAlias = "NDArray[np.integer[Any]] | slice"
Column: TypeAlias = tuple[pa.DataType, tuple[int, ...]]
"""Arrow type of a column's numbers, and the shape of one row's value; () for a single number."""

SCHEMA_VERSION = 2
METADATA_KEY = b"slateflow"
SAME_ITEMS = "same_items"
"""Key in a part's metadata: whether all of its rows offer the same items in the same order."""

BLOCK_ROWS = 3_000
"""Rows whose features are in memory at once. With 20 candidates their monomials stay in the
processor's cache: fitted-q takes 2.2 s, and 6 s with blocks of 20,000."""

BLOCK_NUMBERS = 2**24
"""Numbers in memory at once, if that means fewer rows than `BLOCK_ROWS`."""


def _column(
    dtype: pa.DataType, shape: Callable[[EnvironmentSpec], tuple[int, ...]] = lambda spec: ()
) -> dict[str, Any]:
    """Metadata of a field that is a column of the files."""
    return {"column": lambda spec: (dtype, shape(spec))}


def blocks(rows: int, numbers: int = 1) -> Iterable[slice]:
    """Slices of at most `BLOCK_ROWS` rows, for rows with this many numbers."""
    size = min(BLOCK_ROWS, max(1, BLOCK_NUMBERS // numbers))
    return (slice(start, start + size) for start in range(0, rows, size))


@dataclass(frozen=True)
class Trajectories:
    """Logged steps as arrays, sorted by episode, then step. R is the number of rows.

    A field is a column of the files, in this order; reading and writing follow from its Arrow type
    and shape. Candidates are features where they are fresh at every step, and numbers of items
    where they come from a catalogue. The methods below give features in both cases; call them for a
    block of rows, because the features of all rows may not fit into memory.

    Where all rows offer the same items, `candidates` and their features are held once
    (`slateflow.shared_rows`).

    Where rows differ in the number of candidates, they are padded with −1. For padding the methods
    give the features of the row's first item, which changes no maximum; `offered` counts the real
    candidates.
    """

    episode: NDArray[np.int64] = field(metadata=_column(pa.int64()))  # (R,)
    step: NDArray[np.int32] = field(metadata=_column(pa.int32()))  # (R,)
    user: NDArray[np.float32] = field(  # (R, U)
        metadata=_column(pa.float32(), lambda spec: (spec.user_size,))
    )
    # (R, N, D) features; or (R, N) items of the catalogue, and −1 after the row's last
    candidates: NDArray[Any] = field(
        metadata=_column(pa.float32(), lambda spec: (spec.num_candidates, spec.document_size))
    )
    slate: NDArray[np.int32] = field(  # (R, K)
        metadata=_column(pa.int32(), lambda spec: (spec.slate_size,))
    )
    propensity: NDArray[np.float64] = field(metadata=_column(pa.float64()))  # (R,)
    # (R,), the clicked place in the slate, −1 for none
    clicked: NDArray[np.int32] = field(metadata=_column(pa.int32()))
    reward: NDArray[np.float32] = field(metadata=_column(pa.float32()))  # (R,)
    responses: dict[str, NDArray[np.float32]]  # each (R,)
    terminated: NDArray[np.bool_] = field(metadata=_column(pa.bool_()))  # (R,)
    truncated: NDArray[np.bool_] = field(metadata=_column(pa.bool_()))  # (R,)
    # (R,), hash of the visitor; None where visitors are unknown
    visitor: NDArray[np.int64] | None = field(default=None, metadata=_column(pa.int64()))
    catalogue: Catalogue | None = None

    def __len__(self) -> int:
        return len(self.episode)

    def where(self, chosen: NDArray[Any] | slice) -> Trajectories:
        """Some of the rows, by number, mask (R,) or slice; whole episodes are a log again."""
        arrays: dict[str, Any] = {
            name: at_rows(getattr(self, name), chosen) for name in self._arrays
        }
        responses = {name: values[chosen] for name, values in self.responses.items()}
        return replace(self, **arrays, responses=responses)

    def in_some_sessions(self, most: int) -> NDArray[np.bool_]:
        """(R,) True for rows of every second, third … session, so that about `most` are left."""
        return np.asarray(self.sessions % max(-(-len(self) // max(most, 1)), 1) == 0)

    def some_sessions(self, most: int) -> Trajectories:
        """Rows of every second, third … session, about `most` of them."""
        return self.where(self.in_some_sessions(most))

    @property
    def _arrays(self) -> list[str]:
        """Names of the fields that are arrays."""
        return [name for name in _ARRAYS if getattr(self, name) is not None]

    @property
    def first(self) -> NDArray[np.bool_]:
        """(R,) True for the first row of each episode, by the episodes' numbers."""
        first = np.ones(len(self), dtype=np.bool_)
        first[1:] = self.episode[1:] != self.episode[:-1]
        return first

    @cached_property
    def starts(self) -> NDArray[np.intp]:
        """(E,) first row of each episode."""
        return np.flatnonzero(self.first)

    @property
    def lengths(self) -> NDArray[np.intp]:
        """(E,) number of rows of each episode."""
        return np.diff(np.append(self.starts, len(self)))

    @property
    def sessions(self) -> NDArray[np.intp]:
        """(R,) number of the row's episode among those in these rows, from 0."""
        return np.repeat(np.arange(len(self.starts)), self.lengths)

    @cached_property
    def visitors(self) -> NDArray[np.intp]:
        """(R,) number of the row's visitor among those in these rows, from 0.

        Where visitors are unknown, each session counts as another visitor's.
        """
        if self.visitor is None:
            return self.sessions
        return np.unique(self.visitor, return_inverse=True)[1]

    @property
    def visitors_by_place(self) -> NDArray[np.intp]:
        """(R·K,) number of the visitor for each place of the slates, row by row."""
        return np.repeat(self.visitors, self.slate.shape[1])

    @property
    def halves(self) -> NDArray[np.intp]:
        """(R,) the half of the visitors, 0 or 1, to which the row's visitor belongs."""
        return halves(self.visitors)

    @property
    def last(self) -> NDArray[np.bool_]:
        """(R,) True for the last row of each episode, by the episodes' numbers."""
        return np.append(self.first[1:], True)[: len(self)]

    @property
    def offered(self) -> NDArray[np.intp]:
        """(R,) number of candidates of each row, which come first in `candidates`."""
        if self.catalogue is None:
            return np.full(len(self), self.candidates.shape[1])
        counts = np.count_nonzero(distinct(self.candidates) >= 0, axis=1)
        return for_rows(np.asarray(counts), len(self))

    def observation(self, rows: Rows = slice(None)) -> Observation:
        """The observation of a policy at B rows."""
        observed = Observation(
            user=self.user[rows],
            candidates=self.candidate_features(rows),
            step=self.step[rows][:, None],
        )
        items = at_rows(self.candidates, rows)
        if items.ndim == 2 and (distinct(items) < 0).any():
            observed["offered"] = np.count_nonzero(items >= 0, axis=1)
        return observed

    def filled(self, rows: Rows = slice(None)) -> NDArray[Any]:
        """Candidates of some rows as they are stored, with the row's first item in place of −1."""
        return _filled(at_rows(self.candidates, rows))

    def without_ids(self) -> Trajectories:
        """The rows with items by the columns that describe them, without the ids after these."""
        if self.catalogue is None or self.catalogue.without_ids is self.catalogue:
            return self
        return replace(self, catalogue=self.catalogue.without_ids)

    def candidate_features(self, rows: Rows = slice(None)) -> NDArray[np.float32]:
        """Features (B, N, D) of the candidates of some rows, by number or slice."""
        return self._features(self.filled(rows))

    def features_at(
        self, positions: NDArray[np.integer], rows: Rows = slice(None)
    ) -> NDArray[np.float32]:
        """Features (B, …, D) of the candidates at positions (B, …) of some rows."""
        offered = self.filled(rows)
        first = np.arange(len(offered)).reshape(-1, *[1] * (positions.ndim - 1))
        return self._features(offered[first, positions])

    def _features(self, candidates: NDArray[Any]) -> NDArray[np.float32]:
        if self.catalogue is None:
            return candidates
        return for_rows(self.catalogue.features[distinct(candidates)], len(candidates))

    def blocks(self, count: int | None = None) -> Iterable[slice]:
        """Slices of all rows, or of `count` of them, whose candidates fit into memory together."""
        return blocks(len(self) if count is None else count, self.candidate_numbers)

    @property
    def candidate_numbers(self) -> int:
        """Number of values in the features of a row's candidates."""
        return math.prod(self.candidate_features(slice(1)).shape[1:])

    @property
    def scored_numbers(self) -> int:
        """Number of values per row for scoring candidates: features, unless all rows share them."""
        return self.candidates.shape[1] if shared(self.candidates) else self.candidate_numbers

    def shown_items(self, rows: Rows = slice(None)) -> NDArray[Any]:
        """Catalogue numbers (B, K) of the items in the slates of some rows."""
        return np.take_along_axis(at_rows(self.candidates, rows), self.slate[rows], axis=1)

    def shown_features(self, rows: Rows = slice(None)) -> NDArray[np.float32]:
        """Features (B, K, D) of the slates of some rows."""
        return self.features_at(self.slate[rows], rows)

    @property
    def clicks(self) -> NDArray[np.bool_]:
        """(R, K) True for the shown candidate that was clicked."""
        return np.asarray(np.arange(self.slate.shape[1]) == self.clicked[:, None])

    def clicked_features(self, rows: Rows = slice(None)) -> NDArray[np.float32]:
        """Features (B, D) of the clicked candidates of some rows; zeros without a click."""
        position = self.clicked_candidate()[rows]
        features = self.features_at(np.maximum(position, 0), rows)
        return np.where(position[:, None] >= 0, features, np.float32(0))

    @classmethod
    def from_parts(cls, parts: Sequence[Trajectories]) -> Trajectories:
        """The rows of several parts of one dataset, in order."""
        arrays: dict[str, Any] = {
            name: joined([getattr(part, name) for part in parts]) for name in parts[0]._arrays
        }
        responses = {
            name: np.concatenate([part.responses[name] for part in parts])
            for name in parts[0].responses
        }
        return replace(parts[0], **arrays, responses=responses)

    @classmethod
    def from_columns(
        cls,
        values: Mapping[str, NDArray[Any]],
        spec: EnvironmentSpec,
        catalogue: Catalogue | None = None,
    ) -> Trajectories:
        """The rows of arrays (R, …) under the names of the columns; with a catalogue, of items."""
        rows = len(values["episode"])
        arrays: dict[str, Any] = {"user": np.zeros((rows, 0), np.float32)}
        for name, (dtype, shape) in columns_of(spec, items=catalogue is not None).items():
            numbers = np.asarray(values[name], dtype.to_pandas_dtype())
            arrays["candidates" if name == "items" else name] = numbers.reshape(rows, *shape)
        responses = {name: arrays.pop(name) for name in spec.response_columns}
        return cls(**arrays, responses=responses, catalogue=catalogue)

    def columns(self) -> dict[str, NDArray[Any]]:
        """The arrays under the names of the Parquet columns, in their order."""
        offered = "candidates" if self.catalogue is None else "items"
        columns: dict[str, NDArray[Any]] = {}
        for one in fields(self):
            values = getattr(self, one.name)
            if one.name == "responses":
                columns |= {name: values[name] for name in sorted(values)}
            elif one.name == "candidates":
                columns[offered] = values.reshape(len(self), math.prod(values.shape[1:]))
            elif one.metadata and values is not None and values.shape[1:] != (0,):
                columns[one.name] = values
        return columns

    def clicked_candidate(self) -> NDArray[np.intp]:
        """(R,) position of the clicked candidate among the candidates; −1 without a click."""
        place = np.maximum(self.clicked, 0)[:, None]
        position = np.take_along_axis(self.slate, place, axis=1)[:, 0].astype(np.intp)
        return np.where(self.clicked >= 0, position, -1)


def _filled(candidates: NDArray[Any]) -> NDArray[Any]:
    """Items (B, N) with the row's first in place of −1; features unchanged."""
    if candidates.ndim == 3 or not (distinct(candidates) < 0).any():
        return candidates
    return np.where(candidates < 0, candidates[:, :1], candidates)


_ARRAYS = [one.name for one in fields(Trajectories) if one.metadata]


def columns_of(spec: EnvironmentSpec, *, items: bool | None = None) -> dict[str, Column]:
    """The columns of the logs of a world by name, in the order of the files.

    Args:
        spec: The world.
        items: Whether rows name items of a catalogue or carry the features of their candidates;
            None for the form of the world's own datasets.
    """
    columns: dict[str, Column] = {}
    for one in fields(Trajectories):
        if one.name == "responses":
            columns |= {name: (pa.float32(), ()) for name in sorted(spec.response_columns)}
        elif one.name == "candidates" and (bool(spec.items) if items is None else items):
            columns["items"] = pa.int32(), (spec.num_candidates,)
        elif one.metadata and (one.name != "visitor" or spec.visitors):
            columns[one.name] = one.metadata["column"](spec)
    return {name: column for name, column in columns.items() if 0 not in column[1]}


def arrow_schema(spec: EnvironmentSpec, *, items: bool | None = None) -> pa.Schema:
    """The Arrow schema of `columns_of`, without metadata.

    Lists have a fixed size, except for items where steps differ in their number.
    """

    def stored(name: str, dtype: pa.DataType, shape: tuple[int, ...]) -> pa.DataType:
        one = pa.field("item", dtype, nullable=False)
        if name == "items" and spec.offers_vary:
            return pa.list_(one)
        return pa.list_(one, math.prod(shape)) if shape else dtype

    columns = columns_of(spec, items=items)
    return pa.schema(
        [pa.field(name, stored(name, *columns[name]), nullable=False) for name in columns]
    )


def to_table(rows: Trajectories, spec: EnvironmentSpec, part_key: dict[str, Any]) -> pa.Table:
    """The rows as an Arrow table; its metadata has the schema version, the world and the part.

    `SAME_ITEMS` informs readers that the items of one row are those of all.
    """
    document = {
        "schema_version": SCHEMA_VERSION,
        "environment": spec.lasting(),
        "part": part_key,
    }
    if rows.catalogue is not None and shared(rows.candidates):
        document[SAME_ITEMS] = True
    metadata = {METADATA_KEY: json.dumps(document, sort_keys=True).encode()}
    schema, columns = arrow_schema(spec).with_metadata(metadata), rows.columns()
    arrays = []
    for column in schema:
        values = columns[column.name]
        if pa.types.is_fixed_size_list(column.type):
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=column.type))
        elif pa.types.is_list(column.type):
            offsets = np.append(0, np.cumsum(rows.offered)).astype(np.int32)
            arrays.append(
                pa.ListArray.from_arrays(offsets, pa.array(values[values >= 0]), type=column.type)
            )
        else:
            arrays.append(pa.array(values, type=column.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def stored_metadata(schema: pa.Schema) -> Any:
    """The metadata that `to_table` wrote; empty without our metadata."""
    return json.loads((schema.metadata or {}).get(METADATA_KEY, b"{}"))


def from_table(
    table: pa.Table,
    spec: EnvironmentSpec,
    catalogue: Catalogue | None = None,
    same: pa.Table | None = None,
) -> Trajectories:
    """The inverse of `to_table`; with a catalogue the table has a column `items`.

    Args:
        table: The rows.
        spec: The world.
        catalogue: Catalogue of the items.
        same: One row with the columns that are the same in all rows, if the table lacks them.
    """
    values = _arrays(table, spec)
    if same is not None:
        size = len(table)
        one = _arrays(same, spec)
        values |= {
            name: np.broadcast_to(row.ravel(), (size, row.size)) for name, row in one.items()
        }
    return Trajectories.from_columns(values, spec, catalogue)


def _arrays(table: pa.Table, spec: EnvironmentSpec) -> dict[str, NDArray[Any]]:
    """The numbers of the columns; lists of one length are flattened."""
    values = {}
    for name in table.column_names:
        array = table.column(name).combine_chunks()
        if pa.types.is_list(array.type):
            values[name] = _padded(array, spec.num_candidates)
            continue
        flat = array.flatten() if pa.types.is_fixed_size_list(array.type) else array
        values[name] = flat.to_numpy(zero_copy_only=False)
    return values


def _padded(lists: pa.ListArray, size: int) -> NDArray[np.int32]:
    """(R, size) lists of numbers, padded with −1."""
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
    if lengths.max(initial=0) > size:
        raise InputError(f"items: expected at most {size} candidates, got {lengths.max()}")
    padded = np.full((len(lists), size), -1, np.int32)
    padded[np.arange(size) < lengths[:, None]] = lists.flatten().to_numpy(zero_copy_only=False)
    return padded


def no_rows(spec: EnvironmentSpec, catalogue: Catalogue | None = None) -> Trajectories:
    """Logs of a world without any step."""
    schema = arrow_schema(spec, items=catalogue is not None)
    return from_table(schema.empty_table(), spec, catalogue)


def column_digest(rows: Trajectories) -> str:
    """SHA-256 over the names and the canonical bytes of the columns, in schema order.

    Numbers are little-endian. The digest does not depend on compression, encodings and row groups
    of files, nor on the number of candidates in other rows of the dataset: where rows differ in it,
    the items are followed by their numbers per row.
    """
    digest = hashlib.sha256()
    for name, values in rows.columns().items():
        digest.update(name.encode())
        if name == "items" and (distinct(values) < 0).any():
            counts = rows.offered
            values = values[values >= 0]
            if (counts != counts[0]).any():
                values = np.concatenate([values, counts.astype(values.dtype)])
        little_endian = values.dtype.newbyteorder("<")
        some = max(1, BLOCK_NUMBERS // math.prod(values.shape[1:]))
        for start in range(0, len(values), some):
            block = np.ascontiguousarray(values[start : start + some], little_endian)
            digest.update(block.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
