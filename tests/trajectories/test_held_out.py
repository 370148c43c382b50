"""The episodes that are held out from learners."""

from __future__ import annotations

import numpy as np

from slateflow.trajectories import Dataset, Folder, Recipe, generate
from slateflow.trajectories.files.hold_out import BY_PLACE
from slateflow.trajectories.held_out import training_logs


def logs(folder) -> Dataset:
    """1,207 episodes of 3 steps in parts whose sizes are not multiples of five."""
    parameters = {"num_candidates": 3, "time_budget": 3}
    shares = {"random": 0.45, "greedy": 0.55}
    return generate(Recipe("some", "modified-lts-10-1", 1207, 0, shares, parameters), folder)


def test_training_logs_are_the_episodes_that_are_not_held_out(tmp_path):
    dataset = logs(Folder(str(tmp_path)))
    assert len(dataset.parts) > 2
    training = training_logs(dataset, Folder(str(tmp_path / "training"))).verify()
    kept, rows = training.read(), dataset.read()
    wanted = [episode for episode in range(1207) if episode % 5 != 4]
    assert kept.episode.tolist() == [episode for episode in wanted for _ in range(3)]
    assert training.episodes == len(wanted)
    assert not set(kept.episode.tolist()) & set(rows.episode[BY_PLACE.mask(rows)].tolist())
    chosen = np.isin(rows.episode, wanted)
    for name in ("candidates", "slate", "propensity", "clicked", "reward", "terminated"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(rows, name)[chosen])


def test_training_logs_are_made_once(tmp_path):
    dataset, folder = logs(Folder(str(tmp_path))), Folder(str(tmp_path / "training"))
    made = training_logs(dataset, folder)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "training").rglob("*")}
    assert training_logs(dataset, folder).digest == made.digest
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "training").rglob("*")} == times
