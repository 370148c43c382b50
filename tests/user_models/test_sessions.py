"""Logged sessions: a scorer's slates, the past, and blocks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from slateflow.environments import batched_environment
from slateflow.learners import learner_config, train
from slateflow.policies import ScoringPolicy
from slateflow.policies.play import play
from slateflow.trajectories import Dataset, Folder, Recipe, generate, schema
from slateflow.user_models.choices import SlateFeatures
from slateflow.user_models.sessions import Sessions


def of_slates(dataset: Dataset) -> SlateFeatures:
    return SlateFeatures(dataset.spec.features_match)


def test_slates_of_a_logged_session_are_those_that_were_played(tmp_path, monkeypatch):
    recipe = Recipe("r", "interest-exploration", 40, 3, {"random": 1.0}, {"step_limit": 40})
    dataset = generate(recipe, Folder(str(tmp_path)))
    scorer, _ = train(dataset, learner_config("slateq", classes=2, ridge=0.1), seed=0)
    steps = list(play(batched_environment(dataset.spec, 9), ScoringPolicy(scorer), seed=4))

    def column(values) -> np.ndarray:
        """(T, B, …) as rows by user, then step."""
        stacked = np.swapaxes(np.stack(values), 0, 1)
        return stacked.reshape(-1, *stacked.shape[2:])

    rows = dataset.read().where(np.arange(dataset.rows) < 9 * len(steps))
    played = dataclasses.replace(
        rows,
        episode=np.repeat(np.arange(9), len(steps)),
        candidates=column([step.observation["candidates"] for step in steps]),
        slate=column([step.slates for step in steps]),
        clicked=column([step.responses["clicked"] for step in steps]),
        reward=column([step.rewards for step in steps]).astype(np.float32),
    )
    sessions = Sessions.from_rows(played, dataset.spec, of_slates(dataset))
    np.testing.assert_array_equal(sessions.slates(scorer), played.slate)
    assert len([*played.blocks()]) == 1
    monkeypatch.setattr(schema, "BLOCK_NUMBERS", 2 * played.candidates[0].size)
    assert len([*played.blocks()]) == -(-len(played) // 2)  # two rows fit into memory
    np.testing.assert_array_equal(sessions.slates(scorer), played.slate)
    forgetful = dataclasses.replace(played, clicked=np.full_like(played.clicked, -1))
    assert (
        Sessions.from_rows(forgetful, dataset.spec, of_slates(dataset)).slates(scorer)
        != played.slate
    ).any()


def test_the_past_knows_how_much_was_liked_of_what_was_clicked(tmp_path):
    recipe = Recipe("r", "interest-evolution", 6, 3, {"random": 1.0})
    dataset = generate(recipe, Folder(str(tmp_path)))
    rows = dataset.read()
    past = Sessions.from_rows(rows, dataset.spec, of_slates(dataset), affinities=True).past[:, -1]
    liked = 0.0
    for row in range(len(rows)):
        liked *= rows.step[row] > 0
        assert past[row] == pytest.approx(liked, abs=1e-4)
        if rows.clicked[row] >= 0:
            document = int(rows.clicked_features()[row].argmax())
            liked += float(rows.user[row, document])


def test_blocks_hold_whole_sessions(monkeypatch, tmp_path):
    monkeypatch.setattr("slateflow.user_models.sessions.BLOCK_ROWS", 250)
    dataset = generate(
        Recipe("r", "interest-evolution", 30, 3, {"random": 1.0}), Folder(str(tmp_path))
    )
    sessions = Sessions.from_rows(dataset.read(), dataset.spec, of_slates(dataset))
    blocks = list(sessions.blocks())
    assert np.concatenate(blocks).tolist() == list(range(dataset.rows))
    assert len(blocks) > 5
    assert all(block[0] in sessions.rows.starts for block in blocks)


def test_the_past_bends_in_columns_that_differ(tmp_path):
    recipe = Recipe("r", "interest-evolution", 6, 3, {"random": 1.0})
    dataset = generate(recipe, Folder(str(tmp_path)))
    rows = dataset.read()
    plain = Sessions.from_rows(rows, dataset.spec, of_slates(dataset))
    bent = plain.with_past_bends()
    assert not plain.past[:, 3].any()  # nobody likes anything
    assert (plain.past[:, 2] == plain.past[:, 5]).all()  # rewards are minutes watched
    kept = plain.past[:, [0, 1, 2, 4]]
    size = np.sqrt((kept**2).sum(axis=0) / len(rows))
    assert bent.past == pytest.approx(kept / size)
    added = bent.design.shape[1] - plain.design.shape[1]
    assert added == 10 - 2 * (1 + rows.user.shape[1])
    row, last = 40, bent.design[40, -10:]
    steps, clicks, rewards, quality = kept[row] / size
    of_steps = [steps * one for one in (steps, clicks, rewards, quality)]
    of_clicks = [clicks * one for one in (clicks, rewards, quality)]
    of_rewards = [rewards * rewards, rewards * quality]
    assert last.tolist() == pytest.approx([*of_steps, *of_clicks, *of_rewards, quality**2])
