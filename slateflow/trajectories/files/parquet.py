"""A writer of Parquet files for columns without nulls, of numbers or of lists of one length.

pyarrow reads these files and is what they are tested against. It could write them, too, but it
spends most of its time in working out the levels of nested values one by one, 7 ns for every
number in a list. In lists of one length the levels are the same for all pages and known before.
Everything else is what pyarrow writes: pages of about a mebibyte with checksums, and the Arrow
schema in the footer.

Compression was chosen end to end, from the simulation to the file and back
(`pytest -m benchmark -s tests/benchmarks/test_simulators.py -k compressions`): lz4, over values as
they are in memory. Where documents are random numbers, which hardly compress, lz4 costs nothing
against no compression and saves a quarter of the file, in the other columns. zstd saves another
eighth and takes nearly twice as long to read. BYTE_STREAM_SPLIT under zstd saves a fifth of random
numbers, for three quarters as much again in making them. Dictionaries double the time and the
random numbers grow.

One-hot documents are the exception: of zeros and ones the dictionary is known, so they are indices
of one bit without a search for equal values: a file a third smaller than what lz4 makes of the
numbers, made in three quarters of the time.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slateflow.trajectories.bits import Bits
from slateflow.trajectories.files.thrift import I64, Struct, Value, encode, varint

PAGE_BYTES = 2**20

_MAGIC = b"PAR1"
_CREATED_BY = b"slateflow"
_REQUIRED, _REPEATED = 0, 2
_PLAIN, _RLE, _DICTIONARY = 0, 3, 8
_LIST_LOGICAL: Struct = {3: {}}
_CONVERTED_LIST = 3
_TYPES = {pa.bool_(): 0, pa.int32(): 1, pa.int64(): 2, pa.float32(): 4, pa.float64(): 5}
_CODECS = {"none": 0, "snappy": 1, "zstd": 6, "lz4": 7}
_CODEC_NAMES = {"lz4": "lz4_raw"}


@dataclass(frozen=True)
class _Column:
    """A column chunk: where it is in the schema, and what the footer says of it."""

    name: str
    dtype: pa.DataType
    length: int  # of its lists, 0 for plain numbers

    @property
    def path(self) -> list[Value]:
        name = self.name.encode()
        return [name, b"list", b"element"] if self.length else [name]

    def schema(self) -> list[Value]:
        """Its elements of the schema."""
        leaf: Struct = {1: _TYPES[self.dtype], 3: _REQUIRED, 4: self.path[-1]}
        if not self.length:
            return [leaf]
        group: Struct = {
            3: _REQUIRED, 4: self.path[0], 5: 1, 6: _CONVERTED_LIST, 10: _LIST_LOGICAL,
        }  # fmt: skip
        return [group, {3: _REPEATED, 4: b"list", 5: 1}, leaf]


def parquet_bytes(
    columns: Mapping[str, NDArray[Any] | Bits],
    schema: pa.Schema,
    statistics: Collection[str] = (),
    compression: str = "lz4",
) -> bytes:
    """A Parquet file of one row group.

    Args:
        columns: One array a field of the schema: (R,), or (R, L) for lists of length L, which may
            be bits.
        schema: Fields that are not nullable, of fixed-size lists, numbers or booleans, and
            metadata for the footer.
        statistics: Columns whose smallest and largest value the footer tells.
        compression: `lz4`, `snappy`, `zstd` or `none`.
    """
    written: list[Any] = [_MAGIC]
    end = len(_MAGIC)
    chunks: list[Value] = []
    elements: list[Value] = [{4: b"schema", 5: len(schema)}]
    rows, size = len(columns[schema[0].name]), 0
    for field in schema:
        listed = pa.types.is_fixed_size_list(field.type)
        column = _Column(
            field.name,
            field.type.value_type if listed else field.type,
            field.type.list_size if listed else 0,
        )
        values, told = columns[field.name], field.name in statistics
        start, chunk = end, _Chunk.of(column, values, compression)
        written += chunk.written
        end += chunk.compressed_size
        chunks.append({2: I64(start), 3: chunk.metadata(start, values, told)})
        elements += column.schema()
        size += chunk.size
    compressed_size = end - len(_MAGIC)
    group: Struct = {
        1: chunks, 2: I64(size), 3: I64(rows), 5: I64(len(_MAGIC)), 6: I64(compressed_size),
    }  # fmt: skip
    footer = encode(
        {
            1: 2,
            2: elements,
            3: I64(rows),
            4: [group],
            5: [{1: key, 2: value} for key, value in _metadata(schema)],
            6: _CREATED_BY,
            7: [{1: {}} for _ in chunks],  # statistics are in the order of the types
        }
    )
    return b"".join([*written, footer, len(footer).to_bytes(4, "little"), _MAGIC])


@dataclass(frozen=True)
class _Chunk:
    """The pages of a column, with headers."""

    column: _Column
    compression: str
    written: list[Any]
    size: int  # before compression
    dictionary_size: int  # of the first page, if it is one

    @classmethod
    def of(cls, column: _Column, values: NDArray[Any] | Bits, compression: str) -> _Chunk:
        written: list[Any] = []
        if isinstance(values, Bits):
            compression = "none"  # they are short as they are
            written += _dictionary_page(column)
        size = dictionary_size = sum(map(len, written))
        for header, page, full in _pages(column, values, compression):
            written += [header, page]
            size += len(header) + full
        return cls(column, compression, written, size, dictionary_size)

    @property
    def compressed_size(self) -> int:
        return sum(map(len, self.written))

    def metadata(self, start: int, values: NDArray[Any] | Bits, statistics: bool) -> Struct:
        """What the footer says of it."""
        said: Struct = {
            1: _TYPES[self.column.dtype],
            2: [_PLAIN, _RLE, *([_DICTIONARY] if self.dictionary_size else [])],
            3: self.column.path,
            4: _CODECS[self.compression],
            5: I64(len(values) * max(self.column.length, 1)),
            6: I64(self.size),
            7: I64(self.compressed_size),
            9: I64(start + self.dictionary_size),
        }
        if self.dictionary_size:
            said[11] = I64(start)
        if statistics and len(values) and not isinstance(values, Bits):
            said[12] = _statistics(values)
        return said


def _dictionary_page(column: _Column) -> tuple[bytes, bytes]:
    """Header and body of the page that says that index 0 is 0 and index 1 is 1."""
    body = np.array([0, 1], column.dtype.to_pandas_dtype()).tobytes()
    header = _page_header(2, body, body)
    header[7] = {1: 2, 2: _PLAIN}
    return encode(header), body


def _pages(
    column: _Column, values: NDArray[Any] | Bits, compression: str
) -> Iterator[tuple[bytes, Any, int]]:
    """Header and body of each page, and the size of the body before compression."""
    codec = None if compression == "none" else pa.Codec(_CODEC_NAMES.get(compression, compression))
    encoding, number_bytes = (
        (_DICTIONARY, 1) if isinstance(values, Bits) else (_PLAIN, values.itemsize)
    )
    row_bytes = number_bytes * max(column.length, 1)
    at_once = max(8, PAGE_BYTES // row_bytes // 8 * 8)  # whole bytes of booleans and levels
    for first in range(0, max(len(values), 1), at_once):
        rows = values[first : first + at_once]
        count = len(rows) * max(column.length, 1)
        body = _indices(rows) if isinstance(rows, Bits) else _plain(rows)
        if column.length:
            body = b"".join((_levels(len(rows), column.length), body))
        page = body if codec is None else codec.compress(body)
        header = _page_header(0, body, page)
        header[5] = {1: count, 2: encoding, 3: _RLE, 4: _RLE}
        yield encode(header), page, len(body)


def _page_header(kind: int, body: Any, page: Any) -> Struct:
    return {1: kind, 2: len(body), 3: len(page), 4: _signed(zlib.crc32(page))}


def _indices(bits: Bits) -> bytes:
    """Indices of one bit, as one run of groups of eight."""
    return b"".join((b"\1", varint(len(bits.packed) << 1 | 1), bits.packed.data))


def _plain(rows: NDArray[Any]) -> Any:
    """The values as they are in memory, booleans as bits."""
    if rows.dtype == np.bool_:
        return np.packbits(rows, bitorder="little").data
    little_endian = np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))
    return little_endian.reshape(-1).view(np.uint8).data


@lru_cache(maxsize=64)
def _levels(rows: int, length: int) -> bytes:
    """Repetition and definition levels of lists of one length.

    The first value of a list has repetition level 0, the others 1: as bits in groups of eight, or
    as a run for the one and a run for the others, whichever is shorter. All values are there,
    definition level 1: a single run.
    """
    runs = rows * (varint(1 << 1) + b"\0" + varint((length - 1) << 1) + b"\1")
    repeated = np.ones((rows, length), np.bool_)
    repeated[:, 0] = False
    bits = np.packbits(repeated, bitorder="little").tobytes()
    repetition = min(varint(len(bits) << 1 | 1) + bits, runs, key=len)
    definition = varint(rows * length << 1) + b"\1"
    return b"".join(len(one).to_bytes(4, "little") + one for one in (repetition, definition))


def _statistics(values: NDArray[Any]) -> Struct:
    """No nulls, the largest and the smallest value."""
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and low == 0:
        low = np.negative(np.abs(low))  # a zero of either sign may be among them
    bounds = (_plain(np.array([bound], values.dtype)) for bound in (high, low))
    return {3: I64(0), **{number: bytes(one) for number, one in zip((5, 6), bounds, strict=True)}}


def _metadata(schema: pa.Schema) -> Iterator[tuple[bytes, bytes]]:
    """What Arrow restores its schema from, and the schema's own metadata for everybody else."""
    yield b"ARROW:schema", base64.b64encode(schema.serialize().to_pybytes())
    yield from (schema.metadata or {}).items()


def _signed(checksum: int) -> int:
    return checksum - 2**32 if checksum >= 2**31 else checksum
