"""Logs from elsewhere: taken as they are, or refused with file, episode and step."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slateflow.errors import InputError
from slateflow.trajectories import Dataset, Folder, Recipe, generate
from slateflow.trajectories.exchange.importing import import_logs
from tests.slates import index_of

WORLD = "modified-lts-10-1"


@pytest.fixture(scope="module")
def logged(tmp_path_factory) -> Dataset:
    """30 episodes of 4 steps: 4 candidates, slates of 2, by two policies."""
    recipe = Recipe(
        "logged", "modified-lts-20-2", 30, 4, {"random": 0.5, "greedy": 0.5},
        {"time_budget": 4, "num_candidates": 4},
    )  # fmt: skip
    return generate(recipe, Folder(str(tmp_path_factory.mktemp("data"))))


@pytest.fixture
def frame() -> pd.DataFrame:
    """Two episodes of 2 and 3 steps, as pandas holds them: lists, doubles, nothing fixed."""
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


def batches(logged: Dataset, layout: str, slates: bool) -> list[dict]:
    """The logs as RLlib's JSON writer has them: fragments of 7 steps, by a plain loop."""
    rows, spec = logged.read(), logged.spec
    lines = []
    for start in range(0, len(rows), 7):
        part = range(start, min(start + 7, len(rows)))
        candidates = [rows.candidates[row].reshape(-1).tolist() for row in part]
        users = [rows.user[row].tolist() for row in part]
        obs = {
            "object": {"user": users, "candidates": candidates},
            "flat": [user + one for user, one in zip(users, candidates, strict=True)],
            "export": [[*user, 0.5, *one] for user, one in zip(users, candidates, strict=True)],
        }[layout]
        numbers = [index_of(rows.slate[row], spec.num_candidates) for row in part]
        lines.append(
            {
                "type": "SampleBatch",
                "eps_id": [int(rows.episode[row]) + 10**9 for row in part],
                "t": [int(rows.step[row]) for row in part],
                "obs": obs,
                "actions": [rows.slate[row].tolist() for row in part] if slates else numbers,
                "rewards": [float(rows.reward[row]) for row in part],
                "action_logp": [math.log(rows.propensity[row]) for row in part],
                "terminateds": [bool(rows.terminated[row]) for row in part],
                "truncateds": [bool(rows.truncated[row]) for row in part],
            }
        )
    return lines


def write_lines(path: Path, lines: list) -> Path:
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return path


@pytest.mark.parametrize("layout", ["object", "flat", "export"])
@pytest.mark.parametrize("slates", [True, False])
def test_rllibs_json_gives_the_rows_back(logged, tmp_path, layout, slates):
    lines = batches(logged, layout, slates)
    (tmp_path / "json").mkdir()
    for number in range(2):  # two files; an episode may not go over into another file
        half = lines if number == 0 else []
        write_lines(tmp_path / "json" / f"output-{number}.json", half)
    spec = logged.spec
    from slateflow.environments import worlds

    small = {**worlds.presets(), "modified-lts-20-2": spec}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worlds, "presets", lambda: small)
        dataset = import_logs(tmp_path / "json", "old", Folder(str(tmp_path)), "modified-lts-20-2")
    read, expected = dataset.verify().read(), logged.read()
    for name, values in expected.columns().items():
        if name == "propensity":
            np.testing.assert_allclose(read.propensity, values, rtol=1e-12)
        else:
            np.testing.assert_array_equal(read.columns()[name], values, err_msg=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line.pop("action_logp"), "expected a column action_logp or action_prob"),
        (lambda line: line.pop("obs"), "expected a column obs, got type, eps_id"),
        (lambda line: line.update(obs="BCJNGGhAAAAA"), "obs: expected numbers, got a compressed"),
        (lambda line: line.update(type="Episode"), "expected type SampleBatch, got 'Episode'"),
        (
            lambda line: line.update(actions=[3, 0.5] + [3] * 5),
            r"actions, row 2: expected whole numbers \(int64\), got 0.5",
        ),
        (
            lambda line: line.update(actions=[[3], [0.5]] + [[3]] * 5),
            r"actions, row 2: expected whole numbers \(int64\), got 0.5",
        ),
        (
            lambda line: line.update(actions=[[2**32]] * 7),
            "actions: expected positions from 0 to 9, got 4294967296 to 4294967296",
        ),
        (
            lambda line: line.update(actions=[2**64] * 7),
            "actions: expected lists of whole numbers of one length, got",
        ),
        (lambda line: line.update(actions=[0] * 6), "actions: expected 7 slates of 1"),
        (
            lambda line: line.update(actions=[99] * 7),
            "actions: expected numbers of slates from 0 to 9, got 99 to 99",
        ),
        (
            lambda line: line.update(rewards=[1.0]),
            r"rewards: expected numbers of shape \(7,\), got \[1.0\]",
        ),
        (
            lambda line: line.update(obs=[[0.5] * 11, [0.5] * 10] + [[0.5] * 11] * 5),
            r"obs: expected lists of numbers of one length, got \[\[0.5",
        ),
        (
            lambda line: line.update(t=[0, [1], 2, 3, 4, 5, 6]),
            r"t: expected whole numbers of shape \(7,\), got \[0, \[1\], 2",
        ),
        (
            lambda line: line.update(t=[0, 1.9, 2, 3, 4, 5, 6]),
            r"t, row 2: expected whole numbers \(int32\), got 1.9",
        ),
        (
            lambda line: line.update(t=[0, 1, 2**32 + 2, 3, 4, 5, 6]),
            r"t, row 3: expected whole numbers \(int32\), got 4294967298",
        ),
        (
            lambda line: line.update(clicked=[0.9] * 7),
            r"clicked, row 1: expected whole numbers \(int32\), got 0.9",
        ),
        (
            lambda line: line.update(clicked=[0, NAN] + [0] * 5),
            r"clicked, row 2: expected whole numbers \(int32\), got nan",
        ),
        (
            lambda line: line.update(clicked=[False] * 7),
            r"clicked: expected whole numbers of shape \(7,\), got \[false",
        ),
        (
            lambda line: line.update(dones=[""] * 6 + ["no"]),
            r"terminateds: expected booleans of shape \(7,\), got \[\"\"",
        ),
        (
            lambda line: line.update(dones=[0] * 6 + [0.5]),
            r"terminateds, row 7: expected booleans \(bool\), got 0.5",
        ),
        (
            lambda line: line.update(rewards=["1"] * 7),
            r"rewards: expected numbers of shape \(7,\), got \[\"1\"",
        ),
        (
            lambda line: line.update(type="MultiAgentBatch", policy_batches=[{}]),
            "expected a SampleBatch, got",
        ),
        (lambda line: line.update(obs=[[1, 2]] * 7), "obs: expected 7 vectors of 11 or 12 numbers"),
        (lambda line: line.update(rewards=[NAN] * 7), "reward: expected finite numbers, got nan"),
        (lambda line: line.update(action_logp=[1] * 7), r"propensity: expected a prob.* got 2\.71"),
        (lambda line: line.update(t=list(range(1, 8))), "step: expected steps from 0"),
        (lambda line: line.update(terminateds=[0] * 7), "terminated or truncated: expected true"),
    ],
)
def test_json_that_will_not_do_is_refused(tmp_path, change, message):
    line = {
        "type": "SampleBatch",
        "eps_id": [5] * 7,
        "t": list(range(7)),
        "obs": [[0.5] * 11] * 7,
        "actions": [3] * 7,
        "rewards": [1.0] * 7,
        "action_logp": [math.log(0.1)] * 7,
        "dones": [False] * 6 + [True],
    }
    source = write_lines(tmp_path / "good.json", [line])
    assert import_logs(source, "good", Folder(str(tmp_path)), WORLD).rows == 7
    change(line)
    source = write_lines(tmp_path / "bad.json", [line])
    with pytest.raises(InputError, match=rf"^{tmp_path}/bad\.json.*{message}") as refused:
        import_logs(source, "bad", Folder(str(tmp_path)), WORLD)
    assert "\n" not in str(refused.value)


def test_text_that_is_no_json_is_named_with_its_line(tmp_path):
    (tmp_path / "bad.json").write_text("\n{nonsense\n")
    with pytest.raises(InputError, match=r"bad\.json, line 2: expected a SampleBatch, got Expect"):
        import_logs(tmp_path / "bad.json", "bad", Folder(str(tmp_path)), WORLD)
    with pytest.raises(InputError, match="expected --environment for JSON files, got none"):
        import_logs(tmp_path / "bad.json", "bad", Folder(str(tmp_path)))


def test_text_that_is_not_utf_8_leaves_nothing(tmp_path):
    line = {
        "type": "SampleBatch", "eps_id": [5], "t": [0], "obs": [[0.5] * 11], "actions": [3],
        "rewards": [1.0], "action_prob": [0.1], "dones": [1],
    }  # fmt: skip
    (tmp_path / "json").mkdir()
    write_lines(tmp_path / "json" / "a.json", [line])
    (tmp_path / "json" / "b.json").write_bytes(b"\xff\xfe{}\n")
    data = tmp_path / "data"
    with pytest.raises(InputError, match=r"b\.json: expected lines of JSON, got 'utf-8'"):
        import_logs(tmp_path / "json", "mine", Folder(str(data)), WORLD)
    assert not (data / "mine").exists()  # the part of the first file was written before
    (tmp_path / "json" / "b.json").unlink()
    dataset = import_logs(tmp_path / "json", "mine", Folder(str(data)), WORLD)
    assert dataset.read().terminated.tolist() == [True]


def test_what_rllibs_own_json_writer_writes_is_read(tmp_path):
    from slateflow.learners.rllib.quiet import quiet_rllib

    with quiet_rllib():
        from ray.rllib.offline.json_writer import JsonWriter
        from ray.rllib.policy.sample_batch import SampleBatch

        writer = JsonWriter(str(tmp_path / "json"), compress_columns=[])
        obs = np.random.default_rng(1).random((6, 11)).astype(np.float32)
        writer.write(
            SampleBatch(
                {
                    "obs": obs,
                    "actions": np.array([3, 4, 5, 6, 7, 8]),
                    "rewards": np.arange(6.0),
                    "eps_id": np.array([11, 11, 11, 12, 12, 12]),
                    "t": np.array([0, 1, 2, 0, 1, 2]),
                    "action_prob": np.full(6, 0.1),
                    "terminateds": np.array([0, 0, 0, 0, 0, 1], dtype=bool),
                    "truncateds": np.array([0, 0, 1, 0, 0, 0], dtype=bool),
                }
            )
        )
        writer.cur_file.close()
    rows = import_logs(tmp_path / "json", "old", Folder(str(tmp_path)), WORLD).read()
    assert rows.episode.tolist() == [0, 0, 0, 1, 1, 1]
    assert rows.slate.tolist() == [[3], [4], [5], [6], [7], [8]]
    np.testing.assert_array_equal(rows.user, obs[:, :1])
    np.testing.assert_array_equal(rows.candidates[:, :, 0], obs[:, 1:])
    assert rows.truncated.tolist() == [False, False, True, False, False, False]
    assert rows.propensity.tolist() == [0.1] * 6


def test_nullable_columns_without_a_null_are_as_good_as_any(frame, tmp_path):
    table = pa.Table.from_pandas(frame, preserve_index=False)
    assert all(field.nullable for field in table.schema)
    pq.write_table(table, tmp_path / "logs.parquet")
    dataset = import_logs(tmp_path / "logs.parquet", "mine", Folder(str(tmp_path)), WORLD)
    schema = pq.read_schema(f"{dataset.path}/{dataset.parts[0].path}")
    assert not any(field.nullable for field in schema)
