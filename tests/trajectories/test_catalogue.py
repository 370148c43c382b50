"""Datasets with item numbers in their rows: the catalogue file, and features from it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slateflow.environments import preset, world_of
from slateflow.errors import InputError
from slateflow.trajectories import MANIFEST, Dataset, Folder, Recipe, generate
from slateflow.trajectories.catalogue import CATALOGUE, Catalogue
from slateflow.trajectories.contract import check_rows
from slateflow.trajectories.exchange.importing import import_logs
from slateflow.trajectories.held_out import training_logs

RECIPE = Recipe(
    name="items",
    environment="interest-evolution",
    episodes=20,
    seed=1,
    policies={"random": 0.5, "greedy": 0.5},
    parameters={"step_limit": 5, "num_features": 10, "num_candidates": 4},
)


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """20 episodes of up to 5 steps: 4 candidates from 10 items, slates of 3."""
    return generate(RECIPE, Folder(str(tmp_path)))


def test_the_catalogue_is_an_arrow_file_that_the_manifest_names(dataset):
    file = Path(dataset.path) / CATALOGUE
    with pa.ipc.open_file(file) as reader:
        table = reader.read_all()
    assert table.schema.field("id").type == pa.int32()
    assert table.schema.field("features").type.list_size == 10
    assert table.to_pydict() == {"id": list(range(10)), "features": np.eye(10).tolist()}
    entry = json.loads((Path(dataset.path) / MANIFEST).read_text())["items"]
    assert entry == {
        "path": "_items.arrow",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }


def test_rows_name_items_and_the_methods_give_their_features(dataset):
    file = f"{dataset.path}/{dataset.parts[0].path}"
    items = np.array(pq.read_table(file, partitioning=None)["items"].to_pylist())
    rows = next(dataset.iter_parts())
    assert set(items.reshape(-1).tolist()) <= set(range(10))
    one_hot = np.array([[[float(item == of) for of in range(10)] for item in row] for row in items])
    np.testing.assert_array_equal(rows.candidate_features(), one_hot)
    np.testing.assert_array_equal(rows.candidate_features(slice(2, 4)), one_hot[2:4])
    shown = [[one_hot[row, place] for place in rows.slate[row]] for row in range(len(rows))]
    np.testing.assert_array_equal(rows.shown_features(), shown)
    clicked = [
        shown[row][place] if place >= 0 else np.zeros(10) for row, place in enumerate(rows.clicked)
    ]
    assert (rows.clicked < 0).any()
    np.testing.assert_array_equal(rows.clicked_features(), clicked)
    positions = np.array([[0, 3], [2, 1]])
    chosen = [[one_hot[row, place] for place in positions[row]] for row in (0, 1)]
    np.testing.assert_array_equal(rows.features_at(positions, slice(0, 2)), chosen)


def test_the_response_names_the_cluster_of_the_clicked_item(dataset):
    rows = dataset.read()
    for row in range(len(rows)):
        place = rows.clicked[row]
        item = rows.candidates[row, rows.slate[row, place]] if place >= 0 else -1
        assert rows.responses["cluster"][row] == item


@pytest.mark.parametrize("damage", ["lost", "flipped", "other"])
def test_a_damaged_catalogue_is_named_and_made_again(dataset, damage):
    file = Path(dataset.path) / CATALOGUE
    whole = file.read_bytes()
    if damage == "lost":
        file.unlink()
    elif damage == "flipped":
        for place in range(0, len(whole), 7):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            with pytest.raises(InputError, match=r"_items\.arrow: its digest does not match"):
                Dataset.open(dataset.path)
    else:
        file.write_bytes(Catalogue(np.eye(9, dtype=np.float32)).to_bytes())
    with pytest.raises(
        InputError, match=r"_items\.arrow: .*delete its _manifest\.json and run"
    ) as no:
        Dataset.open(dataset.path)
    assert "\n" not in str(no.value)
    (Path(dataset.path) / MANIFEST).unlink()
    again = generate(RECIPE, Folder(str(Path(dataset.path).parent)))
    assert again.digest == dataset.digest
    assert file.read_bytes() == whole


@pytest.mark.parametrize("data", [b"", b"ARROW1", b"no arrow file at all" * 9])
def test_bytes_that_are_no_catalogue_are_refused(data):
    with pytest.raises(InputError, match=r"^here: expected a catalogue of items, got") as refused:
        Catalogue.from_bytes(data, "here")
    assert "\n" not in str(refused.value)


def test_items_have_to_be_numbered_from_0():
    table = pa.table({"id": pa.array([1, 2], pa.int32()), "features": [[0.0], [1.0]]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(InputError, match="here: expected items numbered from 0"):
        Catalogue.from_bytes(sink.getvalue().to_pybytes(), "here")


@pytest.mark.parametrize(
    ("features", "columns"),
    [
        ([[7, 1, 0], [5, 0, 1]], 1),
        ([[7, 1, 0], [5, 0, 1], [0, 0, 0]], 1),  # an item that nothing is known of
        ([[1, 0], [0, 1]], 2),  # nothing else is known
        ([[7, 1], [5, 1]], 2),
        ([[7, 0, 1], [5, 1, 0]], 3),  # categories in another order
        ([[7, 0], [5, 0]], 2),
    ],
)
def test_ids_behind_the_columns_can_be_left_out(features, columns):
    catalogue = Catalogue(np.array(features, np.float32))
    plain = catalogue.without_ids
    assert plain.features.tolist() == [row[:columns] for row in features]
    assert (plain is catalogue) == (columns == len(features[0]))


def test_other_features_are_another_digest(dataset):
    features = np.eye(10, dtype=np.float32)
    other = replace(dataset, catalogue=Catalogue(features + np.float32(1)))
    same = replace(dataset, catalogue=Catalogue(features.copy()))
    assert (other.digest == dataset.digest, same.digest == dataset.digest) == (False, True)


@pytest.mark.parametrize("item", [-1, 10, 2**31 - 1])
def test_an_item_that_the_catalogue_lacks_is_named(dataset, item):
    rows = dataset.read()
    items = rows.candidates.copy()
    items[3, 2] = item
    rows = replace(rows, candidates=items)
    with pytest.raises(InputError, match="here: episode 0, step 3: items: expected items of the"):
        check_rows(rows, dataset.spec, "here")


def test_training_logs_have_the_catalogue(dataset, tmp_path):
    training = training_logs(dataset, Folder(str(tmp_path / "training"))).verify()
    assert (tmp_path / "training" / CATALOGUE).read_bytes() == (
        Path(dataset.path) / CATALOGUE
    ).read_bytes()
    assert training.read().candidate_features().shape[1:] == (4, 10)


def test_a_copy_is_imported_with_its_digest(dataset, tmp_path):
    imported = import_logs(Path(dataset.path), "copy", Folder(str(tmp_path)))
    assert imported.verify().digest == dataset.digest


def as_features(dataset: Dataset, folder: Path) -> Path:
    """The rows with features in place of item numbers, as other recommenders log them."""
    table = pq.read_table(f"{dataset.path}/{dataset.parts[0].path}", partitioning=None)
    one_hot = np.eye(10)[np.array(table["items"].to_pylist())].reshape(len(table), -1)
    index = table.schema.get_field_index("items")
    table = table.set_column(index, "candidates", pa.array(one_hot.tolist()))
    folder.mkdir()
    pq.write_table(table, folder / "logs.parquet")
    return folder / "logs.parquet"


def test_features_of_items_become_items(dataset, tmp_path):
    source = as_features(dataset, tmp_path / "logs")
    read = import_logs(source, "mine", Folder(str(tmp_path))).verify().read()
    np.testing.assert_array_equal(read.candidates, next(dataset.iter_parts()).candidates)


def test_features_of_no_item_are_refused(dataset, tmp_path):
    source = as_features(dataset, tmp_path / "logs")
    table = pq.read_table(source)
    values = table["candidates"].to_pylist()
    values[2][13] = 0.5
    index = table.schema.get_field_index("candidates")
    pq.write_table(table.set_column(index, "candidates", pa.array(values)), source)
    with pytest.raises(InputError, match="step 2: candidates: expected features of items"):
        import_logs(source, "mine", Folder(str(tmp_path)))
    assert not (tmp_path / "mine").exists()


def test_a_catalogue_beside_the_logs_has_to_be_the_worlds(dataset, tmp_path):
    source = tmp_path / "logs" / "policy=random"
    source.mkdir(parents=True)
    part = Path(dataset.path) / dataset.parts[0].path
    (source / "part.parquet").write_bytes(part.read_bytes())
    (tmp_path / "logs" / CATALOGUE).write_bytes((Path(dataset.path) / CATALOGUE).read_bytes())
    assert import_logs(tmp_path / "logs", "same", Folder(str(tmp_path))).rows > 0
    other = Catalogue(np.eye(10, dtype=np.float32) * 2).to_bytes()
    (tmp_path / "logs" / CATALOGUE).write_bytes(other)
    with pytest.raises(InputError, match=r"_items\.arrow: expected the 10 items of the world"):
        import_logs(tmp_path / "logs", "other", Folder(str(tmp_path)))


def test_worlds_with_fresh_candidates_have_no_catalogue():
    assert Catalogue.of_world(preset("modified-lts-20-2")) is None
    assert Catalogue.of_world(preset("interest-exploration")) is None


def test_a_world_whose_record_lacks_its_catalogue_is_named(monkeypatch):
    spec = preset("interest-evolution")
    without = replace(world_of(spec), catalogue=None)
    monkeypatch.setattr("slateflow.trajectories.catalogue.world_of", lambda spec: without)
    with pytest.raises(
        InputError, match="interest-evolution: expected features of 20 items, got 0"
    ):
        Catalogue.of_world(spec)


def test_rllibs_json_with_features_gives_the_items_back(dataset, tmp_path, monkeypatch):
    rows = dataset.read()
    vectors = np.concatenate(
        [rows.user, np.eye(10)[rows.candidates].reshape(len(rows), 40)], axis=1
    )
    batch = {
        "type": "SampleBatch",
        "eps_id": rows.episode.tolist(),
        "t": rows.step.tolist(),
        "obs": vectors.tolist(),
        "actions": rows.slate.tolist(),
        "rewards": rows.reward.tolist(),
        "action_prob": rows.propensity.tolist(),
        "clicked": rows.clicked.tolist(),
        **{name: values.tolist() for name, values in rows.responses.items()},
        "terminateds": rows.terminated.tolist(),
        "truncateds": rows.truncated.tolist(),
    }
    source = tmp_path / "logs.json"
    source.write_text(json.dumps(batch))
    monkeypatch.setattr(
        "slateflow.trajectories.exchange.importing.preset", lambda name: dataset.spec
    )
    read = import_logs(source, "mine", Folder(str(tmp_path)), "interest-evolution").read()
    for name, values in rows.columns().items():
        np.testing.assert_array_equal(read.columns()[name], values, err_msg=name)
    batch["obs"][1][-1] = 0.25
    source.write_text(json.dumps(batch))
    with pytest.raises(InputError, match=r"logs\.json, line 1: episode 0, step 1: candidates: exp"):
        import_logs(source, "other", Folder(str(tmp_path)), "interest-evolution")
