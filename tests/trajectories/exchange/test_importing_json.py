"""RLlib's JSON of other programs: imported unchanged, or refused with file, line and column."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from slateflow.errors import InputError
from slateflow.trajectories import Dataset, Folder
from slateflow.trajectories.exchange.importing import import_logs
from tests.slates import index_of

WORLD = "modified-lts-10-1"
NAN = float("nan")


def batches(logged: Dataset, layout: str, slates: bool) -> list[dict]:
    """The logs in the form of RLlib's JSON writer: fragments of 7 steps, by a plain loop."""
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
