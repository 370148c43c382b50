"""The contract of a logged step for other programs."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from slateflow.environments import preset
from slateflow.trajectories import Folder, Recipe, generate
from slateflow.trajectories.schema import Trajectories, arrow_schema


def files(dataset):
    """The Parquet files, in the order of the rows."""
    return [f"{dataset.path}/{part.path}" for part in dataset.parts]


def fixed(dtype: pa.DataType, length: int) -> pa.DataType:
    return pa.list_(pa.field("item", dtype, nullable=False), length)


COLUMNS = {
    "episode": pa.int64(),
    "step": pa.int32(),
    "user": fixed(pa.float32(), 1),
    "candidates": fixed(pa.float32(), 20),
    "slate": fixed(pa.int32(), 2),
    "propensity": pa.float64(),
    "clicked": pa.int32(),
    "reward": pa.float32(),
    "watch_time": pa.float32(),
    "terminated": pa.bool_(),
    "truncated": pa.bool_(),
}


def test_columns_have_the_types_of_the_contract_and_none_is_nullable(small):
    for file in files(small):
        schema = pq.read_schema(file)
        assert {field.name: field.type for field in schema} == COLUMNS
        assert schema.names == list(COLUMNS)
        for field in schema:
            assert not field.nullable
            if pa.types.is_fixed_size_list(field.type):
                assert not field.type.value_field.nullable
        # The physical Parquet columns, not only the Arrow schema that is stored beside them.
        physical = pq.ParquetFile(file).schema
        for index in range(len(physical.names)):
            nested = physical.column(index).max_repetition_level
            assert physical.column(index).max_definition_level == nested


def test_user_is_absent_where_nothing_of_the_user_is_observed(tmp_path):
    recipe = Recipe("r", "lts-10-1", 2, 0, {"random": 1})
    dataset = generate(recipe, Folder(str(tmp_path)))
    assert pq.read_schema(files(dataset)[0]).names == [c for c in COLUMNS if c != "user"]
    assert dataset.read().user.shape == (120, 0)


def test_metadata_carries_the_schema_version_and_the_world(small):
    for number, file in enumerate(files(small)):
        document = json.loads(pq.read_schema(file).metadata[b"slateflow"])
        assert document["schema_version"] == 2
        assert document["environment"] == small.spec.to_dict()
        assert document["part"]["seed_block"] == number


def test_pandas_reads_the_folder(small):
    frame = pd.read_parquet(small.path)
    assert set(frame.columns) == {*COLUMNS, "policy"}
    assert len(frame) == 1_300 * 4
    assert frame.groupby("policy", observed=True)["episode"].nunique().to_dict() == {
        "random": 1_040,
        "greedy": 260,
    }
    assert not frame.isna().any().any()


def test_pyarrow_reads_the_folder_and_its_partitions(small):
    folder = pads.dataset(small.path, partitioning="hive")
    assert folder.count_rows() == 1_300 * 4
    greedy = folder.to_table(filter=pads.field("policy") == "greedy")
    assert greedy.num_rows == 260 * 4
    assert set(greedy["propensity"].to_pylist()) == {1.0}


def test_rows_are_whole_episodes_sorted_by_episode_then_step(small):
    table = pa.concat_tables([pq.read_table(file, partitioning=None) for file in files(small)])
    assert table["episode"].to_pylist() == [e for e in range(1_300) for _ in range(4)]
    assert table["step"].to_pylist() == [0, 1, 2, 3] * 1_300
    assert table["terminated"].to_pylist() == [False, False, False, True] * 1_300
    assert not any(table["truncated"].to_pylist())


def test_values_are_those_of_the_contract(small):
    frame = pd.read_parquet(small.path)
    slates, candidates = np.stack(frame["slate"]), np.stack(frame["candidates"])
    assert (slates[:, 0] != slates[:, 1]).all()
    assert slates.min() >= 0
    assert slates.max() < 20
    assert candidates.min() >= 0
    assert candidates.max() <= 1
    assert (frame["clicked"] == 0).all()
    assert (frame["watch_time"] == frame["reward"].clip(upper=100)).all()
    satisfaction = np.stack(frame["user"])[:, 0]
    assert ((satisfaction > 0) & (satisfaction < 1)).all()
    by_policy = frame.groupby("policy", observed=True)["propensity"].unique()
    assert by_policy["random"].tolist() == [1 / 380]
    assert by_policy["greedy"].tolist() == [1.0]
    greedy = (frame["policy"] == "greedy").to_numpy()
    best = np.argsort(-candidates[greedy], axis=1)[:, :2]
    np.testing.assert_array_equal(slates[greedy], best)


def test_digest_of_a_part_is_that_of_its_column_bytes(small):
    for part, file in zip(small.parts, files(small), strict=True):
        table = pq.read_table(file, partitioning=None)
        digest = hashlib.sha256()
        for name in table.column_names:
            column = table[name].combine_chunks()
            if pa.types.is_fixed_size_list(column.type):
                column = column.flatten()
            values = np.array(column.to_pylist())
            kind = (
                "?"
                if pa.types.is_boolean(column.type)
                else f"<{column.type.to_pandas_dtype()().dtype.str[1:]}"
            )
            digest.update(name.encode() + values.astype(kind).tobytes())
        assert part.sha256 == digest.hexdigest()
        assert part.rows == table.num_rows


def rows(**changes) -> Trajectories:
    """Three rows of a world with 4 candidates, slates of 2 and two responses."""
    fields = {
        "episode": np.array([0, 0, 1]),
        "step": np.array([0, 1, 0], dtype=np.int32),
        "user": np.zeros((3, 0), dtype=np.float32),
        "candidates": np.zeros((3, 4, 1), dtype=np.float32),
        "slate": np.array([[3, 1], [0, 2], [2, 3]], dtype=np.int32),
        "propensity": np.ones(3),
        "clicked": np.array([0, 1, -1], dtype=np.int32),
        "reward": np.ones(3, dtype=np.float32),
        "responses": {"watch_time": np.ones(3, dtype=np.float32)},
        "terminated": np.array([False, True, True]),
        "truncated": np.zeros(3, dtype=np.bool_),
    }
    return Trajectories(**{**fields, **changes})


def test_the_clicked_candidate_is_the_one_at_the_clicked_place():
    assert rows().clicked_candidate().tolist() == [3, 2, -1]


def test_responses_stand_in_the_order_of_their_names():
    two = {"b": np.ones(3, dtype=np.float32), "a": np.zeros(3, dtype=np.float32)}
    assert list(rows(responses=two).columns())[7:9] == ["a", "b"]


@pytest.mark.parametrize("name", ["modified-lts-20-2", "lts-10-1"])
def test_schema_follows_the_spec(name):
    spec = preset(name, num_candidates=7, slate_size=3)
    schema = arrow_schema(spec)
    assert schema.field("candidates").type.list_size == 7
    assert schema.field("slate").type.list_size == 3
    assert ("user" in schema.names) == spec.satisfaction_observed
