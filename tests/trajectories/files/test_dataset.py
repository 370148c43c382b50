"""Reading: a dataset agrees with its manifest, or the error names the file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slateflow.errors import InputError
from slateflow.trajectories import MANIFEST, Dataset

PART = "policy=random/part-00001.parquet"


def edit(folder: Path, **changes) -> Dataset:
    """Open the dataset with some fields of the manifest replaced."""
    document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    document.update(changes)
    (folder / MANIFEST).write_text(json.dumps(document), encoding="utf-8")
    return Dataset.open(str(folder))


def test_opening_gives_back_what_was_published(small):
    opened = Dataset.open(small.path)
    assert opened == small
    assert opened.verify() is opened


def test_all_rows_are_the_rows_of_the_files(small):
    table = pa.concat_tables(
        [pq.read_table(f"{small.path}/{part.path}", partitioning=None) for part in small.parts]
    )
    rows = small.read()
    assert len(rows) == table.num_rows
    for name in ("episode", "step", "propensity", "clicked", "reward", "terminated", "truncated"):
        assert getattr(rows, name).tolist() == table[name].to_pylist()
    for name in ("user", "slate"):
        assert getattr(rows, name).tolist() == table[name].to_pylist()
    assert rows.candidates[:, :, 0].tolist() == table["candidates"].to_pylist()
    assert rows.responses["watch_time"].tolist() == table["watch_time"].to_pylist()
    assert sum(len(part) for part in small.iter_parts()) == len(rows)


def test_the_digest_covers_the_world_and_the_parts_in_their_order(small):
    document = {
        "schema_version": 2,
        "environment": small.spec.to_dict(),
        "parts": [[part.policy, part.sha256] for part in small.parts],
    }
    encoded = json.dumps(document, sort_keys=True).encode()
    assert small.digest == f"sha256:{hashlib.sha256(encoded).hexdigest()}"


def test_without_a_manifest_there_is_no_dataset(copied):
    (copied / MANIFEST).unlink()
    with pytest.raises(InputError, match=r"expected a dataset with _manifest\.json, found none"):
        Dataset.open(str(copied))
    with pytest.raises(InputError, match="slateflow generate"):
        Dataset.open(str(copied / "nowhere"))


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.95])
def test_a_flipped_bit_is_found_and_its_file_named(copied, share):
    file = copied / PART
    damaged = bytearray(file.read_bytes())
    damaged[int(share * len(damaged))] ^= 0x10
    file.write_bytes(damaged)
    with pytest.raises(InputError, match=r"policy=random/part-00001\.parquet: ") as refused:
        Dataset.open(str(copied)).verify()
    assert "\n" not in str(refused.value)


def test_a_changed_value_is_found(copied):
    table = pq.read_table(copied / PART, partitioning=None)
    rewards = table["reward"].to_numpy().copy()
    rewards[17] = np.nextafter(rewards[17], np.float32(0))
    index = table.schema.get_field_index("reward")
    pq.write_table(table.set_column(index, table.schema.field(index), [rewards]), copied / PART)
    dataset = Dataset.open(str(copied))
    dataset.read()  # the file itself is whole
    with pytest.raises(InputError, match=r"part-00001\.parquet: its digest does not match"):
        dataset.verify()


def test_a_missing_part_is_named(copied):
    (copied / PART).unlink()
    with pytest.raises(InputError, match=r"part-00001\.parquet: expected a part .*found none"):
        Dataset.open(str(copied)).read()


@pytest.mark.parametrize("kept", [0, 3, 1_000, -1])
def test_a_truncated_file_is_named(copied, kept):
    (copied / PART).write_bytes((copied / PART).read_bytes()[:kept])
    with pytest.raises(InputError, match=r"part-00001\.parquet: expected a Parquet file") as error:
        Dataset.open(str(copied)).read()
    assert "\n" not in str(error.value)


def test_lost_rows_are_found_without_a_digest(copied):
    table = pq.read_table(copied / PART, partitioning=None)
    pq.write_table(table.slice(0, 1_999), copied / PART)
    with pytest.raises(InputError, match=r"part-00001\.parquet: expected 2000 rows, got 1999"):
        Dataset.open(str(copied)).read()


@pytest.mark.parametrize("change", ["drop", "type", "nullable"])
def test_a_part_with_other_columns_is_named(copied, change):
    table = pq.read_table(copied / PART, partitioning=None)
    if change == "drop":
        table = table.drop_columns(["clicked"])
    else:
        index = table.schema.get_field_index("clicked")
        field = (
            pa.field("clicked", pa.int64(), nullable=False)
            if change == "type"
            else pa.field("clicked", pa.int32(), nullable=True)
        )
        table = table.set_column(index, field, table["clicked"].cast(field.type))
    pq.write_table(table, copied / PART)
    with pytest.raises(InputError, match=r"part-00001\.parquet: expected the columns of"):
        Dataset.open(str(copied)).read()


@pytest.mark.parametrize("version", [0, 1, 3, "2", None])
def test_a_foreign_schema_version_is_refused(copied, version):
    with pytest.raises(
        InputError, match=f"expected schema version 2, got {version}; delete .*again"
    ):
        edit(copied, schema_version=version)


def test_a_dataset_of_the_first_schema_is_refused_with_the_way_out(copied):
    document = json.loads((copied / MANIFEST).read_bytes())
    first = {key: value for key, value in document.items() if key not in ("held_out", "checksum")}
    (copied / MANIFEST).write_text(json.dumps({**first, "schema_version": 1}))
    with pytest.raises(InputError, match=r"expected schema version 2, got 1; delete .*again"):
        Dataset.open(str(copied))


def test_a_manifest_with_another_digest_is_refused(copied, small):
    other = "sha256:" + "0" * 64
    with pytest.raises(
        InputError, match=f"expected digest {small.digest} from its parts, got {other}"
    ):
        edit(copied, digest=other)


def test_a_manifest_with_another_world_is_refused(copied, small):
    with pytest.raises(InputError, match="expected digest"):
        edit(copied, environment={**small.spec.to_dict(), "sensitivity": 0.06})


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": "modified-lts-20-2"},
        {"environment": {"world": "mars"}},
        {"environment": {"world": ["mars"]}},
        {"parts": 3},
        {"parts": [{"path": "x"}]},
        {"parts": ["x"]},
        {"parts": [{"path": "x", "sha": "y"}]},
        {"parts": None},
    ],
)
def test_a_manifest_that_is_none_of_ours_is_refused(copied, changes):
    with pytest.raises(InputError) as refused:
        edit(copied, **changes)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"x"', "{}", '{"schema_version": 2}'])
def test_what_is_no_manifest_is_refused(copied, text):
    (copied / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"_manifest\.json: expected a manifest, got"):
        Dataset.open(str(copied))


def test_a_manifest_that_is_no_text_is_refused(copied):
    (copied / MANIFEST).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="expected a manifest, got"):
        Dataset.open(str(copied))
