"""Logs of other programs: imported unchanged, or refused with file, episode and step."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slateflow.errors import InputError
from slateflow.trajectories import Dataset, Folder, Recipe, generate
from slateflow.trajectories.exchange.importing import import_logs

WORLD = "modified-lts-10-1"


@pytest.fixture
def frame() -> pd.DataFrame:
    """Two episodes of 2 and 3 steps in pandas' types: lists and doubles, without fixed sizes."""
    rng = np.random.default_rng(0)
    last = [False, True, False, False, True]
    return pd.DataFrame(
        {
            "episode": [7, 7, 3, 3, 3],
            "step": [0, 1, 0, 1, 2],
            "user": [[value] for value in rng.random(5)],
            "candidates": rng.random((5, 6)).tolist(),
            "slate": [[0, 1], [5, 2], [3, 4], [1, 0], [2, 5]],
            "propensity": [1 / 30, 0.5, 1.0, 1e-9, 0.25],
            "clicked": [0, 0, 1, -1, 0],
            "reward": rng.normal(9, 1, 5),
            "watch_time": rng.normal(9, 1, 5),
            "terminated": last,
            "truncated": [False] * 5,
        }
    )


def written(frame: pd.DataFrame, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)
    return path


def test_our_own_files_come_back_with_their_digest(logged, tmp_path):
    imported = import_logs(Path(logged.path), "copy", Folder(str(tmp_path)))
    assert imported.digest == logged.digest
    assert imported.spec == logged.spec
    assert [part.policy for part in imported.parts] == ["random", "greedy"]
    assert imported.recipe == {
        "imported": logged.path,
        "environment": "modified-lts-20-2",
        "parameters": {"num_candidates": 4, "time_budget": 4},
    }
    assert Dataset.open(imported.path).verify().rows == logged.rows


def test_what_pandas_writes_is_taken_in_the_size_it_has(frame, tmp_path):
    source = written(frame, tmp_path / "logs.parquet")
    dataset = import_logs(source, "mine", Folder(str(tmp_path)), WORLD)
    assert (dataset.spec.num_candidates, dataset.spec.slate_size) == (6, 2)
    assert dataset.recipe["parameters"] == {"num_candidates": 6, "slate_size": 2}
    assert [(part.policy, part.episodes, part.rows) for part in dataset.parts] == [("logged", 2, 5)]
    rows = Dataset.open(dataset.path).verify().read()
    for name in ("episode", "step", "clicked", "propensity", "terminated"):
        assert getattr(rows, name).tolist() == frame[name].tolist()
    assert rows.slate.tolist() == frame["slate"].tolist()
    np.testing.assert_array_equal(rows.reward, frame["reward"].to_numpy(np.float32))
    np.testing.assert_array_equal(
        rows.candidates[:, :, 0], np.stack(frame["candidates"]).astype(np.float32)
    )


def test_partitions_name_the_policies(frame, tmp_path):
    for policy, shift in (("mine", 0), ("theirs", 100)):
        shifted = frame.assign(episode=frame["episode"] + shift)
        written(shifted, tmp_path / "logs" / f"policy={policy}" / "x.parquet")
    (tmp_path / "logs" / "_SUCCESS").write_bytes(b"")
    dataset = import_logs(tmp_path / "logs", "both", Folder(str(tmp_path)), WORLD)
    assert [part.path for part in dataset.parts] == [
        "policy=mine/part-00000.parquet",
        "policy=theirs/part-00000.parquet",
    ]
    assert dataset.episodes == 4


def test_parts_of_another_world_are_refused(tmp_path):
    for number, parameters in enumerate(({}, {"sensitivity": 0.5})):
        recipe = Recipe(f"r{number}", WORLD, 3, number, {"random": 1}, parameters)
        made = generate(recipe, Folder(str(tmp_path)))
        (tmp_path / "logs").mkdir(exist_ok=True)
        shutil.copy(Path(made.path, made.parts[0].path), tmp_path / "logs" / f"{number}.parquet")
    message = r"1\.parquet: .* the same world as .*0\.parquet, .* with other sensitivity; "
    with pytest.raises(InputError, match=message):
        import_logs(tmp_path / "logs", "both", Folder(str(tmp_path)))
    assert not (tmp_path / "both" / "_manifest.json").exists()


def test_large_files_become_parts_that_end_with_an_episode(tmp_path, monkeypatch):
    monkeypatch.setattr("slateflow.trajectories.exchange.importing.PART_ROWS", 100)
    recipe = Recipe("logged", WORLD, 400, 4, {"random": 1}, {"time_budget": 3})
    whole = generate(recipe, Folder(str(tmp_path)))
    table = pq.read_table(f"{whole.path}/{whole.parts[0].path}", partitioning=None)
    pq.write_table(table, tmp_path / "one.parquet", row_group_size=70)
    dataset = import_logs(tmp_path / "one.parquet", "parts", Folder(str(tmp_path)))
    assert len(dataset.parts) > 3
    assert all(part.rows % 3 == 0 for part in dataset.parts)
    read, expected = dataset.verify().read(), whole.read()
    for name, values in expected.columns().items():
        np.testing.assert_array_equal(read.columns()[name], values)


def changed(column: str, row: int, value):
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        values = frame[column].astype(object).tolist()
        values[row] = value
        return frame.assign(**{column: values})

    return change


NAN = float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("propensity", 1, 0.0), "episode 7, step 1: propensity: expected a .* got 0.0"),
        (changed("propensity", 3, 1.001), r"episode 3, step 1: propensity: .* got 1.001"),
        (changed("propensity", 0, -0.5), "episode 7, step 0: propensity: .* got -0.5"),
        (
            changed("propensity", 2, NAN),
            "episode 3, step 0: propensity: expected a value, got None",
        ),
        (changed("slate", 4, [2, 2]), r"episode 3, step 2: slate: expected distinct .* \[2, 2\]"),
        (changed("slate", 0, [0, 6]), r"episode 7, step 0: slate: expected positions from 0 to 5"),
        (changed("slate", 0, [-1, 1]), r"episode 7, step 0: slate: expected positions .*\[-1, 1\]"),
        (changed("slate", 3, [1]), r"episode 3, step 1: slate: expected a list of 2, got \[1\]"),
        (changed("candidates", 2, [0.5]), r"episode 3, step 0: candidates: expected a list of 6"),
        (changed("candidates", 2, None), "episode 3, step 0: candidates: expected a list of 6"),
        (
            changed("candidates", 2, [0.1, math.inf, 0.1, 0.1, 0.1, 0.1]),
            "episode 3, step 0: candidates: expected finite numbers, got .*inf",
        ),
        (
            changed("candidates", 2, [0.1, None, 0.1, 0.1, 0.1, 0.1]),
            "episode 3, step 0: candidates: expected 6 values",
        ),
        (changed("user", 1, [math.inf]), "episode 7, step 1: user: expected finite numbers"),
        (changed("reward", 1, math.inf), "episode 7, step 1: reward: expected finite numbers"),
        (changed("watch_time", 4, -math.inf), "episode 3, step 2: watch_time: expected finite"),
        (changed("step", 1, 2), "episode 7, step 2: step: expected steps from 0 without a gap"),
        (changed("step", 2, 1), "episode 3, step 1: step: expected steps from 0 without a gap"),
        (changed("step", 3, 0), "episode 3, step 0: step: expected steps from 0 without a gap"),
        (changed("episode", 4, 7), "episode 7, step 2: episode: expected its rows side by side"),
        (changed("clicked", 0, 2), "episode 7, step 0: clicked: expected a place from 0 to 1"),
        (changed("clicked", 0, -2), "episode 7, step 0: clicked: expected a place from 0 to 1"),
        (changed("terminated", 1, False), "episode 7, step 1: terminated or truncated: expected"),
        (changed("terminated", 3, True), "episode 3, step 1: terminated or truncated: expected"),
        (changed("truncated", 0, True), "episode 7, step 0: terminated or truncated: expected"),
        (changed("clicked", 0, None), "episode 7, step 0: clicked: expected a value, got None"),
        (lambda f: f.assign(reward="much"), "reward: expected float, got .*string"),
        (lambda f: f.assign(clicked=0.5), "clicked: expected int32, got double"),
        (lambda f: f.drop(columns="reward"), "expected the columns .* got none named reward"),
        (lambda f: f.assign(mood=1), "got others named mood; add or drop them"),
    ],
)
def test_what_breaks_the_contract_is_refused_where_it_is(frame, tmp_path, change, message):
    source = written(change(frame), tmp_path / "logs.parquet")
    with pytest.raises(InputError, match=f"^{source}: (.*{message})") as refused:
        import_logs(source, "bad", Folder(str(tmp_path / "data")), WORLD)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "data" / "bad").exists()


def test_more_steps_than_the_world_has_are_refused(frame, tmp_path):
    rows = pd.concat([frame.iloc[[0]].assign(step=step, terminated=False) for step in range(121)])
    rows.iloc[-1, rows.columns.get_loc("terminated")] = True
    source = written(rows, tmp_path / "long.parquet")
    with pytest.raises(InputError, match="episode 7, step 120: step: expected at most 120 steps"):
        import_logs(source, "long", Folder(str(tmp_path)), WORLD)


def test_an_episode_in_two_files_is_refused(frame, tmp_path):
    for name in ("a", "b"):
        written(frame, tmp_path / "logs" / f"{name}.parquet")
    with pytest.raises(InputError, match=r"b\.parquet: episode 3, step 0: episode: expected a num"):
        import_logs(tmp_path / "logs", "twice", Folder(str(tmp_path)), WORLD)
    assert not (tmp_path / "twice").exists()  # the part of the first file was written before


@pytest.mark.parametrize("kept", [0, 10, -5])
def test_a_truncated_file_is_named(frame, tmp_path, kept):
    source = written(frame, tmp_path / "logs.parquet")
    source.write_bytes(source.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"logs\.parquet: expected a Parquet file, got"):
        import_logs(source, "cut", Folder(str(tmp_path)), WORLD)


def test_sources_and_names_that_will_not_do(frame, logged, tmp_path):
    data = Folder(str(tmp_path))
    source = written(frame, tmp_path / "logs.parquet")
    for arguments, message in [
        ((tmp_path / "none", "x"), "none: expected a file or folder of logs, found none"),
        ((source, "a/b"), "name: expected letters"),
        ((source, ".x"), "name: expected letters"),
        ((source, "x"), "expected --environment, because the file does not name"),
        ((source, "x", data, "mars"), "unknown environment 'mars'"),
        ((Path(logged.path), "x", data, WORLD), f"expected logs of {WORLD}, got some of modified"),
    ]:
        path, name, *rest = arguments
        folder, environment = (*rest, data, None)[:2] if not rest else (rest[0], rest[1])
        with pytest.raises(InputError, match=message):
            import_logs(path, name, folder, environment)
    import_logs(source, "taken", data, WORLD)
    with pytest.raises(InputError, match="taken: expected a name without a dataset, found one"):
        import_logs(source, "taken", data, WORLD)
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "notes.csv").write_text("a,b")
    with pytest.raises(InputError, match=r"notes\.csv: expected logs in \.parquet, \.json"):
        import_logs(tmp_path / "mixed", "x", data, WORLD)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: expected \.parquet, \.json or \.jsonl files"):
        import_logs(tmp_path / "empty", "x", data, WORLD)


def test_nullable_columns_without_a_null_are_as_good_as_any(frame, tmp_path):
    table = pa.Table.from_pandas(frame, preserve_index=False)
    assert all(field.nullable for field in table.schema)
    pq.write_table(table, tmp_path / "logs.parquet")
    dataset = import_logs(tmp_path / "logs.parquet", "mine", Folder(str(tmp_path)), WORLD)
    schema = pq.read_schema(f"{dataset.path}/{dataset.parts[0].path}")
    assert not any(field.nullable for field in schema)
