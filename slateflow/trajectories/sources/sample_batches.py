"""Logs of RLlib's JSON writer: lines of `SampleBatch`, of its old API stack, read as tables.

The observation is the user, the action's number the item. Slates are refused: RLlib has no column
for the click.
`action_prob` or `action_logp` is required, because a propensity cannot be made up. `t` counts the
steps of an episode.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from textwrap import shorten
from typing import Any

import numpy as np
import pyarrow as pa

from slateflow.errors import InputError, refused
from slateflow.trajectories.exchange.rllib_json import BROKEN, batches, column_of, propensities
from slateflow.trajectories.sources.column_files import BATCH_ROWS
from slateflow.trajectories.sources.recipe import SAMPLE_BATCHES
from slateflow.trajectories.sources.table import TableReader


class SampleBatchReader(TableReader):
    """Reads the decisions of a source."""

    def _tables(self, name: str, path: str, columns: list[str]) -> Iterator[pa.Table]:
        waiting: list[pa.Table] = []
        with refused(f"{path}: expected lines of JSON", OSError, UnicodeDecodeError):
            lines = io.TextIOWrapper(self.files.folder.stream(name), encoding="utf-8")
            for where, batch in batches(lines, path):
                with refused(f"{where}: expected a SampleBatch", *BROKEN):
                    waiting.append(_table(batch, columns, where))
                if sum(table.num_rows for table in waiting) >= BATCH_ROWS:
                    yield pa.concat_tables(waiting)
                    waiting = []
        if waiting:
            yield pa.concat_tables(waiting)


def _table(batch: dict[str, Any], columns: list[str], where: str) -> pa.Table:
    """Some columns of a batch as a table."""
    values = {}
    for name in columns:
        chance = name == SAMPLE_BATCHES.propensity
        given = propensities(batch, where) if chance else column_of(batch, where, name)
        values[name] = _array(given, name, where)
    lengths = {name: len(one) for name, one in values.items()}
    if len({*lengths.values()}) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"{where}: expected columns of one length, got {told}")
    return pa.table(values)


def _array(values: Any, name: str, where: str) -> pa.Array:
    """The values as lists or numbers; ids, which are whole numbers or texts, as texts."""
    item = name == SAMPLE_BATCHES.item
    kinds = "a whole number a step" if item else "numbers, or lists of numbers of one length"
    expected, remedy = f"{where}: {name}: expected {kinds}", _SLATES if item else _VECTORS
    try:
        array = np.asarray(values)
    except ValueError:
        raise InputError(f"{expected}, got lists of several lengths; {remedy}") from None
    if array.ndim == 0:
        raise InputError(f"{expected}, got {_shown(values)}; write a list with a value a step")
    if array.ndim > 2 or (item and array.ndim == 2 and array.shape[1] != 1):
        raise InputError(f"{expected}, got {_shown(array[0].tolist())} at the first; {remedy}")
    if item or name == SAMPLE_BATCHES.episode:
        if array.dtype.kind not in "iuU":
            raise InputError(f"{where}: {name}: expected whole numbers, got {_shown(values)}")
        return _lists(array.astype(str), pa.string())
    if array.dtype.kind not in "iufb":
        raise InputError(f"{expected}, got {_shown(array[0])}")
    return _lists(array.astype(np.float64), pa.float64())


_SLATES = "write slates as a table, which has a column for the click"
_VECTORS = "flatten what was observed"


def _shown(value: Any) -> str:
    return shorten(str(value), 40, placeholder="...")


def _lists(array: np.ndarray[Any, Any], kind: pa.DataType) -> pa.Array:
    flat = pa.array(array.ravel(), kind)
    if array.ndim == 1:
        return flat
    offsets = np.arange(0, array.size + 1, max(array.shape[1], 1), dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, flat)
