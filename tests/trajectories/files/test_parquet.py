"""The Parquet writer against pyarrow: what it reads of our files, and what it writes itself."""

from __future__ import annotations

import io

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slateflow.trajectories.bits import Bits
from slateflow.trajectories.files import parquet
from slateflow.trajectories.files.parquet import parquet_bytes
from slateflow.trajectories.files.thrift import I64, encode

TYPES = [pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.bool_()]


def table(rows: int, lengths: list[int], seed: int = 0) -> pa.Table:
    """Every type as plain numbers and, but for booleans, as lists of the given lengths."""
    rng = np.random.default_rng(seed)
    fields, arrays = [], []
    for dtype in TYPES:
        for length in [0, *lengths] if dtype != pa.bool_() else [0]:
            values = rng.normal(0, 1000, (rows, max(length, 1))).reshape(-1)
            array = pa.array(values > 0 if dtype == pa.bool_() else values).cast(dtype, safe=False)
            if length:
                item = pa.field("element", dtype, nullable=False)
                array = pa.FixedSizeListArray.from_arrays(array, type=pa.list_(item, length))
            fields.append(pa.field(f"{dtype}-{length}", array.type, nullable=False))
            arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, {"made": "here", "ä": "ö"}))


def columns(data: pa.Table) -> dict[str, np.ndarray]:
    """The arrays that our writer takes."""
    taken = {}
    for field, column in zip(data.schema, data.columns, strict=True):
        array = column.combine_chunks()
        if pa.types.is_fixed_size_list(field.type):
            flat = array.flatten().to_numpy()
            taken[field.name] = flat.reshape(-1, field.type.list_size)
        else:
            taken[field.name] = array.to_numpy(zero_copy_only=False)
    return taken


def written(data: pa.Table, **options) -> bytes:
    return parquet_bytes(columns(data), data.schema, **options)


@given(
    st.integers(0, 50),
    # Levels are written as bits up to some 30 numbers, as runs beyond
    st.lists(st.integers(1, 9) | st.integers(25, 70), min_size=1, max_size=2, unique=True),
    st.sampled_from(["lz4", "snappy", "zstd", "none"]),
    st.sampled_from([8, 100, 2**20]),
    st.integers(0, 2**32),
)
def test_pyarrow_reads_what_was_written(rows, lengths, compression, page_bytes, seed):
    data = table(rows, lengths, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "PAGE_BYTES", page_bytes)
        file = written(data, compression=compression)
    read = pq.read_table(io.BytesIO(file), page_checksum_verification=True)
    assert read.schema.equals(data.schema, check_metadata=True)
    assert read.equals(data)
    read.validate(full=True)


def one_hot(rows: int, length: int) -> tuple[pa.Table, dict[str, np.ndarray | Bits]]:
    """Vectors of zeros and ones between other columns, and how our writer takes them."""
    values = np.random.default_rng(1).integers(0, 2, (rows, length))
    fields, arrays = [], []
    for dtype in TYPES[:4]:
        item = pa.field("element", dtype, nullable=False)
        flat = pa.array(values.reshape(-1)).cast(dtype)
        arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(item, length)))
        fields.append(pa.field(f"{dtype}", arrays[-1].type, nullable=False))
    data = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    bits = Bits.of(values.astype(np.float32))
    assert bits is not None
    return data, {**columns(data), "float": bits, "int64": bits}


@given(
    st.integers(0, 50),
    st.integers(1, 9) | st.integers(25, 210),
    st.sampled_from(["lz4", "none"]),
    st.sampled_from([8, 100, 2**20]),
)
def test_pyarrow_reads_bits_as_the_numbers_that_they_are(rows, length, compression, page_bytes):
    data, taken = one_hot(rows, length)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "PAGE_BYTES", page_bytes)
        file = parquet_bytes(taken, data.schema, compression=compression)
    read = pq.read_table(io.BytesIO(file), page_checksum_verification=True)
    assert read.equals(data)
    read.validate(full=True)


def test_the_footer_tells_where_bits_are_and_that_they_are_short(tmp_path):
    data, taken = one_hot(4_000, 200)
    content = parquet_bytes(taken, data.schema)
    group = pq.read_metadata(io.BytesIO(content)).row_group(0)
    numbers, bits = (group.column(data.schema.names.index(name)) for name in ("int32", "float"))
    assert (numbers.has_dictionary_page, bits.has_dictionary_page) == (False, True)
    assert "RLE_DICTIONARY" in bits.encodings
    assert bits.dictionary_page_offset < bits.data_page_offset
    # 25 bytes of a bit each and 5 of levels
    assert 4_000 * 30 < bits.total_compressed_size < 4_000 * 30 + 200
    chunks = [group.column(number) for number in range(4)]
    starts = [
        one.dictionary_page_offset if one.has_dictionary_page else one.data_page_offset
        for one in chunks
    ]
    ends = [a + one.total_compressed_size for a, one in zip(starts, chunks, strict=True)]
    assert starts == [4, *ends[:-1]]
    assert group.total_byte_size == sum(one.total_uncompressed_size for one in chunks)
    (tmp_path / "bits.parquet").write_bytes(content)
    expected = {name: values.tolist() for name, values in columns(data).items()}
    assert pl.read_parquet(tmp_path / "bits.parquet").to_dict(as_series=False) == expected
    with duckdb.connect() as connection:
        rows = connection.sql(f"select * from '{tmp_path}/bits.parquet'").fetchall()
    assert dict(zip(expected, map(list, zip(*rows, strict=True)), strict=True)) == expected


def test_the_footer_says_what_pyarrows_says():
    data = table(1_000, [3])
    names = ["int64-0", "float-0"]
    theirs = io.BytesIO()
    pq.write_table(data, theirs, compression="snappy", use_dictionary=False, write_statistics=names)
    ours = pq.ParquetFile(io.BytesIO(written(data, compression="snappy", statistics=names)))
    other = pq.ParquetFile(theirs)
    assert ours.schema.equals(other.schema)
    assert ours.metadata.metadata.keys() == other.metadata.metadata.keys()
    assert (ours.metadata.num_rows, ours.metadata.num_row_groups) == (1_000, 1)
    for number in range(len(data.schema)):
        mine, its = (one.metadata.row_group(0).column(number) for one in (ours, other))
        for what in ("physical_type", "num_values", "path_in_schema", "compression"):
            assert getattr(mine, what) == getattr(its, what)
        assert mine.is_stats_set == its.is_stats_set
        if mine.is_stats_set:
            for what in ("min", "max", "null_count"):
                assert getattr(mine.statistics, what) == getattr(its.statistics, what)
    row_group = ours.metadata.row_group(0)
    chunks = [row_group.column(number) for number in range(len(data.schema))]
    assert row_group.total_byte_size == sum(chunk.total_uncompressed_size for chunk in chunks)
    # The chunks lie one after the other and fill the file up to the footer.
    ends = [chunk.data_page_offset + chunk.total_compressed_size for chunk in chunks]
    assert [chunk.data_page_offset for chunk in chunks] == [4, *ends[:-1]]


@pytest.mark.parametrize("compression", ["lz4", "snappy", "zstd", "none"])
def test_pandas_duckdb_and_polars_read_it(tmp_path, compression, monkeypatch):
    monkeypatch.setattr(parquet, "PAGE_BYTES", 4_000)  # several pages a column
    data = table(5_000, [2, 20])
    file = tmp_path / "one.parquet"
    file.write_bytes(written(data, compression=compression, statistics=["int64-0"]))
    expected = {name: values.tolist() for name, values in columns(data).items()}
    frame = pd.read_parquet(file)
    assert {name: np.stack(frame[name]).tolist() for name in frame} == expected
    assert pl.read_parquet(file).to_dict(as_series=False) == expected
    with duckdb.connect() as connection:
        rows = connection.sql(f"select * from '{file}'").fetchall()
        found = zip(*rows, strict=True)
        assert dict(zip(expected, map(list, found), strict=True)) == expected
        some = connection.sql(f"""select count(*) from '{file}' where "int64-0" > 500""").fetchall()
    assert some == [(sum(value > 500 for value in expected["int64-0"]),)]


@pytest.mark.parametrize("bits", [False, True])
def test_a_flipped_bit_in_any_page_is_found(bits):
    if bits:
        data, taken = one_hot(12, 5)
        file = parquet_bytes(taken, data.schema)
    else:
        data = table(40, [3])
        file = written(data)
    footer = int.from_bytes(file[-8:-4], "little")
    for position in range(4, len(file) - 8 - footer, 1 if bits else 7):
        flipped = bytearray(file)
        flipped[position] ^= 4
        try:
            read = pq.read_table(io.BytesIO(flipped), page_checksum_verification=True)
        except (OSError, pa.ArrowException):
            continue
        assert read.equals(data)  # a bit of a header that means nothing


@pytest.mark.parametrize(
    ("values", "least", "most"),
    [([0.0, 1.0], -0.0, 1.0), ([-1.0, -0.0], -1.0, -0.0), ([2.5, 2.5], 2.5, 2.5)],
)
def test_statistics_hold_zeros_of_either_sign(values, least, most):
    data = pa.table(
        {"x": pa.array(values, pa.float32())},
        pa.schema([pa.field("x", pa.float32(), nullable=False)]),
    )
    file = pq.ParquetFile(io.BytesIO(written(data, statistics=["x"])))
    statistics = file.metadata.row_group(0).column(0).statistics
    assert (statistics.min, statistics.max) == (least, most)
    assert np.signbit(statistics.min) == np.signbit(least)


def test_structs_are_those_of_thrifts_compact_protocol():
    # By hand from the protocol's description: a header is the distance to the last field in the
    # high and the type in the low four bits, numbers are zigzag varints, a zero ends a struct.
    assert encode({1: -1}) == bytes([0x15, 0x01, 0x00])
    assert encode({1: 64, 2: I64(-65)}) == bytes([0x15, 0x80, 0x01, 0x16, 0x81, 0x01, 0x00])
    assert encode({3: b"ab"}) == bytes([0x38, 0x02]) + b"ab\0"
    assert encode({1: [1, 2]}) == bytes([0x19, 0x25, 0x02, 0x04, 0x00])
    assert encode({1: [{}] * 16}) == bytes([0x19, 0xFC, 0x10]) + bytes(17)
    assert encode({2: {1: 1}, 5: {}}) == bytes([0x2C, 0x15, 0x02, 0x00, 0x3C, 0x00, 0x00])
    assert encode({20: 1}) == bytes([0x05, 0x28, 0x02, 0x00])
