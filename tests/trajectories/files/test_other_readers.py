"""The folder is plain Parquet: other readers see the same as ours, including partitions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from slateflow.trajectories import Dataset, Folder, Recipe, generate


@pytest.fixture(
    scope="module",
    params=["modified-lts-20-2", "lts-10-1", "interest-evolution", "interest-exploration"],
)
def dataset(request, tmp_path_factory) -> Dataset:
    """Three policies in five parts, one with its own settings."""
    policies = {
        "random": 0.5,
        "greedy": 0.25,
        "greedy-epsilon-0.1": {"share": 0.25, "scorer": "greedy", "epsilon": 0.1},
    }
    small = {"time_budget": 3} if "lts" in request.param else {"step_limit": 3}
    recipe = Recipe("mixed", request.param, 1_200, 2, policies, small)
    dataset = generate(recipe, Folder(str(tmp_path_factory.mktemp("data"))))
    assert [part.policy for part in dataset.parts] == [
        "random", "random", "greedy", "greedy-epsilon-0.1",
    ]  # fmt: skip
    return dataset


def by_pandas(path: str) -> pd.DataFrame:
    return pd.read_parquet(path)


def by_pyarrow(path: str) -> pd.DataFrame:
    return pads.dataset(path, format="parquet", partitioning="hive").to_table().to_pandas()


def by_duckdb(path: str) -> pd.DataFrame:
    query = f"SELECT * FROM read_parquet('{path}/**/*.parquet', hive_partitioning = true)"
    return duckdb.sql(query).to_arrow_table().to_pandas()


def by_polars(path: str) -> pd.DataFrame:
    frame = pl.scan_parquet(f"{path}/**/*.parquet", hive_partitioning=True).collect()
    return frame.to_arrow().to_pandas()


READERS = [by_pandas, by_pyarrow, by_duckdb, by_polars]


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_sees_the_same_rows(dataset: Dataset, reader: Callable[[str], pd.DataFrame]):
    frame = reader(dataset.path).sort_values(["episode", "step"], ignore_index=True)
    ours = dataset.read()
    columns = ours.columns()
    assert set(frame.columns) == {*columns, "policy"}
    for name, values in columns.items():
        theirs = frame[name]
        seen = np.stack(theirs.to_list()) if values.ndim > 1 else theirs.to_numpy()
        assert seen.dtype == values.dtype, name
        np.testing.assert_array_equal(seen, values, err_msg=name)
    expected = [part.policy for part in dataset.parts for _ in range(part.rows)]
    assert frame["policy"].astype(str).to_list() == expected


def test_filters_on_the_policy_read_its_partition_only(dataset):
    rows = {
        policy: sum(part.rows for part in dataset.parts if part.policy == policy)
        for policy in ("random", "greedy")
    }
    path = dataset.path
    hive = pads.dataset(path, format="parquet", partitioning="hive")
    chosen = hive.get_fragments(filter=pads.field("policy") == "greedy")
    assert [fragment.path for fragment in chosen] == [f"{path}/policy=greedy/part-00000.parquet"]
    assert len(pd.read_parquet(path, filters=[("policy", "==", "greedy")])) == rows["greedy"]
    counts = duckdb.sql(
        f"SELECT policy, count(*) FROM read_parquet('{path}/**/*.parquet') GROUP BY policy"
    ).fetchall()
    assert {policy: count for policy, count in counts if policy in rows} == rows
    scan = pl.scan_parquet(f"{path}/**/*.parquet", hive_partitioning=True)
    assert scan.filter(pl.col("policy") == "random").collect().height == rows["random"]


def test_aggregates_of_duckdb_and_polars_are_those_of_numpy(dataset):
    ours = dataset.read()
    returns = np.bincount(ours.episode, weights=ours.reward.astype(np.float64))
    path = f"{dataset.path}/**/*.parquet"
    theirs = duckdb.sql(
        f"SELECT sum(reward::DOUBLE) FROM read_parquet('{path}') GROUP BY episode ORDER BY episode"
    ).fetchnumpy()
    np.testing.assert_allclose(next(iter(theirs.values())), returns, rtol=1e-12)
    frame = pl.scan_parquet(path).group_by("episode").agg(pl.col("reward").cast(pl.Float64).sum())
    np.testing.assert_allclose(
        frame.sort("episode").collect()["reward"].to_numpy(), returns, rtol=1e-12
    )


def test_no_reader_stumbles_over_what_is_hidden(dataset):
    folder = Path(dataset.path, "policy=random")
    leftover = folder / ".part-00009.parquet.0123.tmp"
    leftover.write_bytes(b"half a file")
    try:
        for reader in READERS:
            assert len(reader(dataset.path)) == dataset.rows, reader.__name__
    finally:
        leftover.unlink()


def test_arrow_sees_the_types_of_the_contract(dataset):
    schema = pads.dataset(dataset.path, format="parquet", partitioning="hive").schema
    spec = dataset.spec
    assert schema.field("slate").type.list_size == spec.slate_size
    if spec.items:
        assert schema.field("items").type.list_size == spec.num_candidates
        assert schema.field("items").type.value_type == pa.int32()
        assert "candidates" not in schema.names
    else:
        size = spec.num_candidates * spec.document_size
        assert schema.field("candidates").type.list_size == size
    assert schema.field("propensity").type == pa.float64()
