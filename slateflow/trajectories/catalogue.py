"""The catalogue: features of the items that rows name by their number."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec, world_of
from slateflow.errors import InputError, refused
from slateflow.records import resolve

CATALOGUE = "_items.arrow"
"""Name of the catalogue's file in a dataset: Arrow IPC, which readers' globs for Parquet skip."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items that candidates come from; an item's number is its place, from 0.

    Example:
        >>> colours = Catalogue(np.eye(3, dtype=np.float32))
        >>> colours.features[[2, 0]].tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
        >>> colours.find(np.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.0]])).tolist()
        [1, -1]
    """

    features: NDArray[np.float32]  # (M, D)

    def __len__(self) -> int:
        return len(self.features)

    @classmethod
    def of_world(cls, spec: EnvironmentSpec) -> Catalogue | None:
        """The catalogue of a world; None where candidates are fresh at every step.

        Raises:
            InputError: The world's record has features for a different number of items.
        """
        if not spec.items:
            return None
        catalogue = resolve(world_of(spec).catalogue)
        features = None if catalogue is None else catalogue(spec)
        count = 0 if features is None else len(features)
        if features is None or count != spec.items:
            raise InputError(
                f"{spec.name}: expected features of {spec.items} items, got {count}; give the "
                "record of the world a catalogue"
            )
        return cls(features)

    @cached_property
    def without_ids(self) -> Catalogue:
        """The items with only the columns that describe them, if one-hot ids follow these.

        Example:
            >>> both = Catalogue(np.array([[7, 1, 0], [5, 0, 1]], np.float32))
            >>> both.without_ids.features.tolist()
            [[7.0], [5.0]]
        """
        features = self.features
        known = int(features[:, -1].argmax()) + 1 if features.shape[1] else 0
        columns = features.shape[1] - known
        own = np.eye(len(features), known, dtype=np.float32)
        if columns < 1 or features[known:].any() or (features[:, columns:] != own).any():
            return self  # nothing is known of items behind the known
        return Catalogue(features[:, :columns])

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the number of items and the little-endian bytes of their features."""
        digest = hashlib.sha256(str(self.features.shape).encode())
        digest.update(np.ascontiguousarray(self.features, "<f4").tobytes())
        return digest.hexdigest()

    def find(self, features: NDArray[Any]) -> NDArray[np.int32]:
        """Numbers (...) of the items with exactly these features (..., D); −1 for no such item."""
        known, wanted = _keys(self.features), _keys(features)
        order = np.argsort(known, kind="stable")
        place = np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)
        items = order[place]
        found = np.where(known[items] == wanted, items, -1).astype(np.int32)
        return found.reshape(features.shape[:-1])

    def to_bytes(self) -> bytes:
        """The Arrow IPC file: `id` int32 and `features`, a float32 list of fixed size."""
        vectors = pa.list_(pa.field("item", pa.float32(), nullable=False), self.features.shape[1])
        flat = pa.array(np.ascontiguousarray(self.features).reshape(-1))
        columns = {
            "id": pa.array(np.arange(len(self), dtype=np.int32)),
            "features": pa.FixedSizeListArray.from_arrays(flat, type=vectors),
        }
        fields = [pa.field(name, one.type, nullable=False) for name, one in columns.items()]
        table = pa.table(columns, schema=pa.schema(fields))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue().to_pybytes())

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Catalogue:
        """The inverse of `to_bytes`.

        Raises:
            InputError: The bytes are not a catalogue; the message begins with `where`.
        """
        kinds = (pa.ArrowException, KeyError, ValueError, TypeError, OSError)
        with refused(f"{where}: expected a catalogue of items", *kinds):
            table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
            table.validate(full=True)
            numbers = table["id"].to_numpy()
            features = _vectors(table["features"].combine_chunks())
        if not len(numbers) or features.ndim != 2 or (numbers != np.arange(len(numbers))).any():
            raise InputError(
                f"{where}: expected items numbered from 0 with features of one length, "
                f"got {len(numbers)} items"
            )
        return cls(features)


def _vectors(lists: pa.Array) -> NDArray[np.float32]:
    """(M, D) numbers of M lists of one length."""
    if not pa.types.is_fixed_size_list(lists.type):
        return np.array(lists.to_pylist(), np.float32)
    flat = lists.flatten().to_numpy()  # refuses nulls
    return np.array(flat, np.float32).reshape(len(lists), lists.type.list_size)


def _keys(features: NDArray[Any]) -> NDArray[np.void]:
    """Vectors (..., D) as one value each (...); 0 and −0 are the same."""
    vectors = np.ascontiguousarray(features, np.float32).reshape(-1, features.shape[-1])
    vectors = vectors + np.float32(0)
    return vectors.view(np.dtype((np.void, vectors.shape[1] * 4)))[:, 0]
