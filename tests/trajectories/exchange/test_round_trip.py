"""Written rows are read unchanged, for any world, values and layout of the file."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slateflow.environments import EnvironmentSpec, preset
from slateflow.trajectories import Dataset, Folder, PartFile, Recipe, Trajectories, generate
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.files.part_files import read_part, write_part
from slateflow.trajectories.generation.plan import plan
from slateflow.trajectories.generation.simulate import simulate
from slateflow.trajectories.schema import arrow_schema, column_digest, from_table, no_rows, to_table


@dataclass(frozen=True)
class AnyWorld(EnvironmentSpec):
    """A world of any shape; ours do not have users without responses."""

    world = "any"
    response_columns = ()

    users: int = 0
    features: int = 1

    @property
    def user_size(self) -> int:
        return self.users

    @property
    def document_size(self) -> int:
        return self.features

    @property
    def horizon(self) -> int:
        return 3


def arrays(dtype, shape) -> st.SearchStrategy:
    return hnp.arrays(dtype, shape, elements=hnp.from_dtype(np.dtype(dtype), allow_nan=False))


@st.composite
def logs(draw) -> tuple[EnvironmentSpec, Trajectories]:
    """A world and episodes of one to three steps in it, perhaps without any."""
    candidates = draw(st.integers(1, 5))
    size = draw(st.integers(1, candidates))
    users, features = draw(st.integers(0, 3)), draw(st.integers(1, 3))
    names = draw(st.sets(st.sampled_from(["watch_time", "liked", "quality"])))
    world = type("World", (AnyWorld,), {"response_columns": tuple(sorted(names))})
    spec = world("any", candidates, size, users=users, features=features)
    lengths = draw(st.lists(st.integers(1, 3), max_size=5))
    rows = sum(lengths)
    slates = [draw(st.permutations(range(candidates)))[:size] for _ in range(rows)]
    last = np.array(
        [step == length - 1 for length in lengths for step in range(length)], dtype=bool
    )
    cut = draw(arrays(np.bool_, rows))
    return spec, Trajectories(
        episode=np.repeat(np.arange(len(lengths), dtype=np.int64) * 2**40, lengths),
        step=np.array([step for length in lengths for step in range(length)], dtype=np.int32),
        user=draw(arrays(np.float32, (rows, users))),
        candidates=draw(arrays(np.float32, (rows, candidates, features))),
        slate=np.array(slates, dtype=np.int32).reshape(rows, size),
        propensity=draw(hnp.arrays(np.float64, rows, elements=st.floats(0, 1, exclude_min=True))),
        clicked=draw(hnp.arrays(np.int32, rows, elements=st.integers(-1, size - 1))),
        reward=draw(arrays(np.float32, rows)),
        responses={name: draw(arrays(np.float32, rows)) for name in spec.response_columns},
        terminated=last & ~cut,
        truncated=last & cut,
    )


def assert_same(read: Trajectories, written: Trajectories) -> None:
    """Compare bit by bit: −0.0 is not 0.0."""
    columns = read.columns()
    assert list(columns) == list(written.columns())
    for name, values in written.columns().items():
        assert columns[name].dtype == values.dtype, name
        assert columns[name].shape == values.shape, name
        assert columns[name].tobytes() == values.tobytes(), name
    assert column_digest(read) == column_digest(written)


@given(
    logs(),
    st.integers(1, 20),
    st.sampled_from(["none", "snappy", "lz4", "gzip", "zstd"]),
    st.booleans(),
    st.sampled_from(["1.0", "2.0"]),
)
@settings(max_examples=150)
def test_any_layout_of_the_file_gives_the_rows_back(logged, group, compression, dictionary, pages):
    spec, rows = logged
    file = io.BytesIO()
    pq.write_table(
        to_table(rows, spec, {}),
        file,
        row_group_size=group,
        compression=compression,
        use_dictionary=dictionary,
        data_page_version=pages,
    )
    assert_same(from_table(pq.read_table(file), spec), rows)


@given(logs())
@settings(max_examples=100)
def test_our_own_layout_gives_the_rows_back(tmp_path_factory, logged):
    spec, rows = logged
    folder = Folder(str(tmp_path_factory.getbasetemp() / "round-trip"))
    digest = write_part(folder, "part.parquet", rows, spec, {"seed": 1})
    assert digest == column_digest(rows)
    assert_same(read_part(folder, "part.parquet", spec, "try again"), rows)


@given(logs(), st.data())
@settings(max_examples=100)
def test_another_value_anywhere_is_another_digest(logged, data):
    _, rows = logged
    columns = {name: values for name, values in rows.columns().items() if values.size}
    if not columns:
        return
    values = columns[data.draw(st.sampled_from(sorted(columns)))]
    before = column_digest(rows)
    flat = values.reshape(-1).view(np.uint8)
    place = data.draw(st.integers(0, len(flat) - 1))
    flat[place] ^= 1
    assert column_digest(rows) != before
    flat[place] ^= 1
    assert column_digest(rows) == before


@pytest.mark.parametrize("name", ["modified-lts-10-1", "interest-evolution"])
def test_the_digest_is_over_the_bytes_that_the_contract_names(name, tmp_path):
    recipe = Recipe("d", name, 5, 3, {"random": 1.0})
    (rows,) = simulate(recipe.spec, plan(recipe), 3)
    hashed, columns = hashlib.sha256(), rows.columns()
    for field in arrow_schema(recipe.spec):
        dtype = field.type.value_type if hasattr(field.type, "list_size") else field.type
        hashed.update(field.name.encode())
        hashed.update(np.array(columns[field.name], dtype.to_pandas_dtype()).tobytes())
    digest = write_part(Folder(str(tmp_path)), "part.parquet", rows, recipe.spec, {})
    assert digest == hashed.hexdigest()


@pytest.mark.parametrize("name", ["lts-10-1", "modified-lts-20-2", "interest-evolution"])
@pytest.mark.parametrize("parts", [0, 1, 2])
def test_datasets_without_a_step_are_datasets(name, parts, tmp_path):
    spec, folder = preset(name), Folder(str(tmp_path / "empty"))
    catalogue = Catalogue.of_world(spec)
    nothing = no_rows(spec, catalogue)
    assert nothing.columns().keys() >= {"items" if spec.items else "candidates"}
    paths = [f"policy=random/part-{number:05d}.parquet" for number in range(parts)]
    written = tuple(
        PartFile(path, "random", 0, 0, 0, write_part(folder, path, nothing, spec, {}))
        for path in paths
    )
    dataset = Dataset(folder, spec, {}, written).publish()
    again = Dataset.open(dataset.path).check().verify()
    assert (again.digest, again.rows, again.episodes) == (dataset.digest, 0, 0)
    assert_same(again.read(), nothing)


@pytest.mark.parametrize("name", ["modified-lts-10-1", "lts-20-2"])
def test_episodes_of_one_step_are_episodes(name, tmp_path):
    recipe = Recipe("one", name, 7, 3, {"random": 0.5, "greedy": 0.5}, {"time_budget": 1})
    dataset = generate(recipe, Folder(str(tmp_path)))
    rows = Dataset.open(dataset.path).verify().read()
    assert rows.episode.tolist() == list(range(7))
    assert rows.step.tolist() == [0] * 7
    assert (rows.terminated | rows.truncated).all()
    assert Path(dataset.path).is_dir()
