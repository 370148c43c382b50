"""`format = "rllib"`: files of RLlib's JSON writer as a source of own logs."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from slateflow.errors import InputError
from slateflow.learners import learner_config, train
from slateflow.trajectories import Folder, generate
from tests.trajectories.sources.shop import log, published, recipe

FORMAT = 'format = "rllib"\n'


def batch(**changes) -> dict:
    """Two episodes, with two steps and one, and three possible actions."""
    columns = {
        "obs": [[0.5, 1], [0.25, 0], [1.0, 2]],
        "actions": [2, 0, 1],
        "rewards": [1.0, 0.0, -2.5],
        "eps_id": [11, 11, 900],
        "t": [0, 1, 0],
        "action_prob": [0.5, 0.25, 1.0],
        "new_obs": "ignored, as all else is",
    }
    changed = columns | changes
    return {"type": "SampleBatch"} | {key: one for key, one in changed.items() if one is not None}


def test_observations_are_the_user_and_actions_are_items(tmp_path):
    log(tmp_path, "a.json", "\n\n" + json.dumps(batch()))
    dataset = published(tmp_path, FORMAT)
    rows = dataset.read()
    assert dataset.encoding.items == ("0", "1", "2")
    assert rows.user.shape == (3, 2)
    shown = np.array(dataset.encoding.items)[rows.candidates[np.arange(3), rows.slate[:, 0]]]
    found = {
        (user[0], user[1], item, reward, propensity, step)
        for user, item, reward, propensity, step in zip(
            rows.user.tolist(), shown.tolist(), rows.reward.tolist(),
            rows.propensity.tolist(), rows.step.tolist(), strict=True,
        )
    }  # fmt: skip
    assert found == {
        (0.5, 1.0, "2", 1.0, 0.5, 0),
        (0.25, 0.0, "0", 0.0, 0.25, 1),
        (1.0, 2.0, "1", -2.5, 1.0, 0),
    }
    assert len(set(rows.episode.tolist())) == 2


def test_logarithms_batches_of_agents_and_any_cut_into_lines_say_the_same(tmp_path):
    whole = batch()
    log(tmp_path / "one", "a.json", json.dumps(whole))
    logarithms = [math.log(one) for one in whole["action_prob"]]
    lines = [
        {"type": "SampleBatch"}
        | {key: [values[row]] for key, values in whole.items() if isinstance(values, list)}
        | {"action_prob": None, "action_logp": [logarithms[row]]}
        for row in range(3)
    ]
    for line in lines:
        del line["action_prob"]
    lines[1] = {"type": "MultiAgentBatch", "count": 1, "policy_batches": {"default": lines[1]}}
    log(tmp_path / "two", "a.json", "\n".join(json.dumps(line) for line in lines))
    one, two = (published(tmp_path / name, FORMAT) for name in ("one", "two"))
    for name, values in one.read().columns().items():
        np.testing.assert_allclose(two.read().columns()[name], values, rtol=1e-15)


def test_an_action_in_a_list_of_its_own_is_a_number(tmp_path):
    log(tmp_path, "a.json", json.dumps(batch(actions=[[2], [0], [1]])))
    assert published(tmp_path, FORMAT).encoding.items == ("0", "1", "2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action_prob": None}, "line 1: expected a column action_logp or action_prob, got type"),
        ({"eps_id": None}, "line 1: expected a column eps_id, got type"),
        ({"obs": "BCJNGGhAk"}, "line 1: obs: expected numbers, got a compressed column; write it"),
        ({"obs": [[1], [1, 2], [3]]}, "line 1: obs: expected numbers, or lists of numbers of one"),
        ({"obs": [["a"]] * 3}, "of one length, got ['a']"),
        ({"rewards": [1, None, 3]}, "line 1: rewards: expected numbers, or lists of numbers of"),
        ({"obs": [[["a"]]] * 3}, "numbers of one length, got [['a']] at the first; fl"),
        ({"actions": [0.5, 1, 2]}, "line 1: actions: expected whole numbers, got [0.5, 1, 2]"),
        ({"actions": [None, 1, 2]}, "line 1: actions: expected whole numbers, got [None, 1, 2]"),
        (
            {"actions": [[2, 0], [0, 1], [1, 2]]},
            "line 1: actions: expected a whole number a step, got [2, 0] at the first; write "
            "slates as a table, which has a column for the click",
        ),
        (
            {"actions": [[2, 0], [1], [1, 2]]},
            "line 1: actions: expected a whole number a step, got lists of several lengths; write",
        ),
        ({"actions": [[[2], [0]]] * 3}, "line 1: actions: expected a whole number a step, got [["),
        ({"actions": [[]] * 3}, "line 1: actions: expected a whole number a step, got [] at"),
        ({"actions": {"first": [2, 0, 1]}}, "a step, got {'first': [2, 0, 1]}; write a list with"),
        ({"rewards": 3}, "numbers of one length, got 3; write a list with a value a step"),
        ({"rewards": [1.0, 2.0]}, "line 1: expected columns of one length, got"),
        ({"rewards": [1.0, float("nan"), 0]}, "row 2: rewards: expected a finite number, got nan"),
        ({"action_prob": [0.5, 0.0, 1]}, "row 2: action_prob: expected a probability in (0, 1]"),
        ({"t": [0, 0, 0]}, "row 2: t: expected"),
        ({"type": "Episode"}, "line 1: expected type SampleBatch, got 'Episode'"),
    ],
)
def test_what_is_no_such_log_is_one_line(tmp_path, changes, message):
    path = log(tmp_path, "a.json", json.dumps(batch(**changes)))
    with pytest.raises(InputError) as caught:
        generate(recipe(tmp_path, FORMAT), Folder(str(tmp_path / "data")))
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    data = tmp_path / "data"
    assert not data.exists() or not list(data.iterdir())


@pytest.mark.integration
def test_what_rllibs_own_writer_writes_is_learnt_from(tmp_path):
    """On the left action 0 pays, on the right action 1."""
    from slateflow.learners.rllib.quiet import quiet_rllib

    rng = np.random.default_rng(0)
    obs, actions = rng.uniform(-1, 1, (2000, 1)).astype(np.float32), rng.integers(0, 2, 2000)
    rewards = ((obs[:, 0] > 0) == actions).astype(float)
    with quiet_rllib():
        from ray.rllib.offline.json_writer import JsonWriter
        from ray.rllib.policy.sample_batch import SampleBatch

        writer = JsonWriter(str(tmp_path / "logs"), compress_columns=[])
        for part in np.split(np.arange(2000), 4):
            columns = {
                "obs": obs[part], "actions": actions[part], "rewards": rewards[part],
                "eps_id": part // 5, "t": part % 5, "action_prob": np.full(len(part), 0.5),
            }  # fmt: skip
            writer.write(SampleBatch(columns))
        writer.cur_file.close()
    dataset = published(tmp_path, FORMAT)
    assert dataset.rows == 2000
    scorer, _ = train(dataset, learner_config("linucb"), seed=0)
    asked = np.array([[-0.8], [0.8]])
    scores = scorer.scores(asked, np.zeros(2, int), np.broadcast_to(np.eye(2), (2, 2, 2)))
    assert scores.argmax(axis=1).tolist() == [0, 1]
