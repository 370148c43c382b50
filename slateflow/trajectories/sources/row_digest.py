"""A digest of a file's rows that depends neither on their order nor on the file's format."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from slateflow.trajectories.sources.csv_texts import NUMBER, lower_booleans
from slateflow.trajectories.sources.row_sample import Hashes, RowSampling
from slateflow.trajectories.sources.table import is_list, is_text

DIFFERENT_ROWS = 20
"""Fewest distinct rows with which equal digests prove a copy.

Two files with rows from the same distribution have this many distinct rows, each equally often in
both, less than once in 100 million times.
"""

ORIGIN_COLUMNS = ("row", "event")
"""Columns of a batch that contain a row's origin and nothing about the decision."""

SPLITMIX64 = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))
"""Shifts and factors of SplitMix64's finaliser."""


class RowDigest:
    """The number of rows, sums of their hashes and of the hashes' squares, and a sample."""

    def __init__(self) -> None:
        self.sampling = RowSampling()
        self._rows = self._sum = self._squares = 0
        self._different: set[int] = set()

    def add(self, table: pa.Table, known: Mapping[str, Hashes], coded: Mapping[str, Any]) -> None:
        """Add the rows of a batch.

        Args:
            table: Standard columns without empty lists.
            known: (R,) hashes of some of the columns.
            coded: The values of other columns as dictionaries, with lists flattened.
        """
        hashes = np.zeros(table.num_rows, np.uint64)
        for name in table.column_names:
            factor = _factor(name)
            if name in known:
                hashes += _spread(known[name], factor)
            elif name not in ORIGIN_COLUMNS:
                values = table[name].combine_chunks()
                flat = values.flatten() if is_list(values.type) else values
                each = _value_hashes(coded.get(name, flat), factor)
                hashes += each if flat is values else _list_hashes(values, each, name)
        for shift, number in SPLITMIX64:
            hashes ^= hashes >> np.uint64(shift)
            hashes *= np.uint64(number)
        self.sampling.add(hashes)
        self._rows += len(hashes)
        self._sum += int(hashes.sum())
        self._squares += int(np.dot(hashes, hashes))
        if len(self._different) < DIFFERENT_ROWS:
            self._different.update(pd.unique(hashes)[:DIFFERENT_ROWS].tolist())

    @property
    def text(self) -> str:
        """The digest; empty where too few of the rows differ to recognise a copy."""
        if len(self._different) < DIFFERENT_ROWS:
            return ""
        return f"{self._rows}.{self._sum % 2**64:016x}{self._squares % 2**64:016x}"


def coded_texts(values: Any) -> Any:
    """Texts as a dictionary; None for other values, and for texts that seem to be numbers."""
    return values.dictionary_encode() if is_text(values.type) and not _numeric(values) else None


def _numeric(texts: Any) -> bool:
    """True if texts seem to be numbers, judging by a few of them."""
    few = texts.take(np.linspace(0, len(texts) - 1, min(len(texts), 16), dtype=np.int64))
    return bool(pc.all(pc.match_substring_regex(few, NUMBER)).as_py())


def _factor(name: str) -> np.uint64:
    """An odd factor for the values of a column, from its name."""
    digest = hashlib.sha256(name.encode()).digest()
    return np.uint64(int.from_bytes(digest[:8], "little") | 1)


def _spread(bits: Hashes, factor: np.uint64) -> Hashes:
    """Mix values into hashes, so that those of different columns do not cancel each other out."""
    hashes = bits * factor
    hashes ^= hashes >> np.uint64(29)
    return hashes


def _list_hashes(lists: Any, each: Hashes, name: str) -> Hashes:
    """(R,) hashes of lists from those of their values; the order of candidates does not matter."""
    if len(each) == len(lists):
        return each
    if name == "candidates":
        lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
        return np.add.reduceat(each, np.append(0, np.cumsum(lengths)[:-1]))
    rows = each.reshape(len(lists), -1)
    return np.asarray(rows @ np.arange(1, 2 * rows.shape[1], 2, dtype=np.uint64))


def _value_hashes(values: Any, factor: np.uint64) -> Hashes:
    """(R,) hashes of values; 0 for missing values, and texts of numbers hash as the numbers."""
    if is_text(values.type):
        if _numeric(values):
            with suppress(pa.ArrowException):  # not all are numbers
                numbers = pc.cast(values, pa.float64())
                if pc.all(pc.is_finite(numbers)).as_py():  # nor is the text "nan" a number
                    return _spread(_bits(numbers), factor)
        values = values.dictionary_encode()
    if not pa.types.is_dictionary(values.type):
        return _spread(_bits(values), factor)
    hashes = np.append(_spread(_text_bits(values.dictionary), factor), np.uint64(0))
    places = pc.fill_null(values.indices, len(hashes) - 1)
    return np.asarray(hashes.take(places.to_numpy(zero_copy_only=False)))


def _bits(numbers: Any) -> Hashes:
    """Bits of numbers as float32, as CSV may lack float64's digits; points in time unchanged."""
    if pa.types.is_timestamp(numbers.type):
        return np.asarray(numbers.cast(pa.int64()).to_numpy(zero_copy_only=False)).view(np.uint64)
    with np.errstate(over="ignore"):
        found = pc.fill_null(numbers, 0).to_numpy(zero_copy_only=False).astype(np.float32)
    return np.asarray(found.view(np.uint32), np.uint64)


def _text_bits(texts: Any) -> Hashes:
    """(V,) hashes of V distinct texts."""
    plain = lower_booleans(texts)
    names = np.array(plain.to_pylist(), object)
    bits = np.asarray(pd.util.hash_array(names, categorize=False), np.uint64)
    bits[names == ""] = 0
    number = pc.match_substring_regex(plain, NUMBER).to_numpy(zero_copy_only=False)
    bits[number] = _bits(pa.array([float(one) for one in names[number]], pa.float64()))
    return bits
