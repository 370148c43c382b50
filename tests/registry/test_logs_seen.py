"""The part of daily growing logs that a registered version has seen."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from slateflow.trajectories import MANIFEST, Dataset, Folder, Recipe, generate
from slateflow.trajectories.exchange.importing import import_logs
from slateflow.trajectories.sources.logged_rows import LoggedRows
from tasks.experiment import held_in
from tasks.store.logs_seen import seen_by
from tests.trajectories.sources.shop import log, published


def version(dataset: Dataset):
    """A version whose tags state training on the dataset."""
    tags = {"dataset_digest": dataset.digest, "recipe": json.dumps(dataset.recipe)}
    return SimpleNamespace(tags=tags)


def day(first: int, rows: int = 400):
    """Decisions of users with consecutive numbers from `first`."""
    drawn = np.random.default_rng(first).integers(0, 2, rows)
    return {
        "number": np.arange(first, first + rows),
        "item": np.array(["rum", "tea"])[drawn],
        "propensity": 0.5,
        "reward": drawn,
    }


def numbers(rows) -> set[int]:
    return set(rows.user[:, 0].astype(int).tolist())


def test_a_version_of_monday_has_not_seen_what_tuesdays_logs_hold_out(tmp_path):
    text = '[columns]\nuser = ["number"]\n'
    log(tmp_path, "monday.parquet", day(0))
    monday = published(tmp_path, text)
    trained = held_in(monday)
    log(tmp_path, "tuesday.parquet", day(1_000))
    both = published(tmp_path, text)
    assert both.digest != monday.digest
    assert seen_by(version(trained), monday) == "all but the held-out"
    assert seen_by(version(trained), both) == "all but the held-out"
    assert seen_by(version(monday), monday) == seen_by(version(monday), both) == "all"
    everything = numbers(both.read())
    held_out = everything - numbers(held_in(both).read())
    assert 0.1 * len(everything) < len(held_out) < 0.3 * len(everything)
    assert not held_out & numbers(trained.read())
    other = version(trained)
    other.tags["recipe"] = json.dumps({**trained.recipe, "source": "elsewhere"})
    assert seen_by(other, both) == "nothing"


@pytest.mark.parametrize(
    ("changed", "seen"),
    [
        ({}, "all"),
        ({"seed": 3}, "nothing"),
        ({"episodes": 60}, "all"),
        ({"policies": {"random": 0.5, "greedy": 0.5}}, "nothing"),
        ({"seed": 6, "nights": 3}, "all"),  # of seeds 4, 5 and 6
    ],
)
def test_simulated_logs_are_told_by_their_seeds(tmp_path, changed, seen):
    settings = {"episodes": 50, "seed": 5, "policies": {"random": 1.0}}
    trained = generate(Recipe("r", "lts-10-1", **settings), Folder(str(tmp_path)))
    other = Recipe("other", "lts-10-1", **{**settings, **changed})
    assert seen_by(version(trained), generate(other, Folder(str(tmp_path)))) == seen


def test_an_import_of_a_log_that_has_grown_has_what_was_imported_before(tmp_path):
    logged = generate(Recipe("r", "lts-10-1", 5, 5, {"random": 1.0}), Folder(str(tmp_path)))
    table = pq.read_table(Path(logged.path, logged.parts[0].path), partitioning=None)

    def imported(name, episodes):
        kept = table.filter(pc.less(table["episode"], episodes))
        pq.write_table(kept, tmp_path / f"{name}.parquet")
        return import_logs(tmp_path / f"{name}.parquet", name, Folder(str(tmp_path / "data")))

    trained = imported("mine", 3)
    Folder(trained.path).clear(first=MANIFEST)
    assert seen_by(version(trained), imported("mine", 5)) == "all"
    assert seen_by(version(trained), imported("theirs", 5)) == "nothing"


def test_nights_that_come_keep_what_is_held_out(tmp_path):
    recipe = Recipe("r", "lts-10-1", 50, 5, {"random": 1.0}, nights=2)
    trained = held_in(generate(recipe, Folder(str(tmp_path))))
    tomorrow = generate(recipe.varied(seed=6), Folder(str(tmp_path)))
    assert seen_by(version(trained), tomorrow) == "all but the held-out"
    later = generate(recipe.varied(seed=7), Folder(str(tmp_path)))
    assert seen_by(version(trained), later) == "nothing"


def test_a_copy_of_logs_without_times_has_been_seen(tmp_path):
    """Of customers of two kinds, whose rows are the same by chance on other days."""
    text, found = '[columns]\nuser = ["kind"]\n', []
    for name, seed in [("one.csv", 0), ("copy.parquet", 0), ("other.parquet", 1)]:
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        rng = np.random.default_rng(seed)
        shown = rng.integers(0, 12, 2_000)
        rows = pd.DataFrame({"kind": rng.integers(0, 2, 2_000), "item": shown})
        rows = rows.assign(propensity=1 / 12, reward=rng.integers(0, 2, 2_000))
        log(folder, name, rows.to_csv(index=False) if name == "one.csv" else rows)
        found.append(LoggedRows.of(published(folder, text)))
    one, copy, other = found
    assert one.among(copy)
    assert not one.among(other)


def timed(first: int):
    """Decisions a minute from each other."""
    return {**day(first), "at": np.datetime64("2026-11-30", "m") + np.arange(first, first + 400)}


@pytest.mark.parametrize(
    ("rows", "seen"),
    [
        (timed(0), "all"),
        (timed(300), "all"),  # a quarter of them are Monday's
        (timed(1_000), "nothing"),
        (day(0), "nothing"),  # without the times they are other rows
    ],
)
def test_the_same_logs_in_another_folder_have_been_seen(tmp_path, rows, seen):
    text = '[columns]\nuser = ["number"]\n'
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    log(tmp_path / "one", "monday.parquet", timed(0))
    trained = published(tmp_path / "one", text + 'time = "at"\n')
    carried = LoggedRows.from_dict(json.loads(json.dumps(LoggedRows.of(trained).to_dict())))
    log(tmp_path / "other", "copy.parquet", rows)
    text += 'time = "at"\n' * ("at" in rows)
    logs = published(tmp_path / "other", text)
    elsewhere = version(held_in(trained))
    recipe = json.loads(elsewhere.tags["recipe"])
    elsewhere.tags["recipe"] = json.dumps({**recipe, "source": "moved"})
    assert seen_by(elsewhere, logs) == "nothing"
    assert seen_by(elsewhere, logs, carried) == seen


@pytest.mark.parametrize(
    ("changed", "seen"),
    [
        ({"source": "./logs/../logs"}, "all but the held-out"),
        ({"held_out": "last"}, "all"),
        ({"columns": {"user": ["number"], "visitor": "number"}}, "all"),
    ],
)
def test_another_rule_holds_out_what_was_learnt_from(tmp_path, changed, seen):
    text = '[columns]\nuser = ["number"]\n'
    log(tmp_path, "monday.parquet", day(0))
    trained = version(held_in(published(tmp_path, text)))
    log(tmp_path, "tuesday.parquet", day(1_000))
    recipe = json.loads(trained.tags["recipe"])
    trained.tags["recipe"] = json.dumps({**recipe, **changed})
    assert seen_by(trained, published(tmp_path, text)) == seen
