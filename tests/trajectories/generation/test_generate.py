"""Generation: equal rows for any number of workers, and after any interruption."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from slateflow.errors import InputError
from slateflow.trajectories import MANIFEST, Dataset, Folder, Recipe, generate


def stamps(folder: str | Path) -> dict[str, int]:
    """Times at which files were written, in nanoseconds."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


PARTS = [
    ("random", "policy=random/part-00000.parquet", 0, 500),
    ("random", "policy=random/part-00001.parquet", 1, 500),
    ("random", "policy=random/part-00002.parquet", 2, 40),
    ("greedy", "policy=greedy/part-00000.parquet", 3, 260),
]


def test_parts_are_blocks_of_500_episodes_and_nothing_else_lies_there(small):
    parts = [(part.policy, part.path, part.seed_block, part.episodes) for part in small.parts]
    assert parts == PARTS
    assert [part.rows for part in small.parts] == [2_000, 2_000, 160, 1_040]
    assert (small.episodes, small.rows) == (1_300, 5_200)
    assert set(stamps(small.path)) == {MANIFEST, *(path for _, path, _, _ in PARTS)}


@pytest.mark.parametrize(
    ("preset", "parameters", "column"),
    [
        ("lts-10-1", {"choc_mean": 900.0}, "reward"),
        ("interest-exploration", {"topic_quality_mean": [800.0, 0.2]}, "candidates"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_numbers_that_no_column_can_hold_are_refused(tmp_path, preset, parameters, column):
    recipe = Recipe("wild", preset, 20, 0, {"random": 1.0}, parameters)
    with pytest.raises(InputError, match=rf"recipe wild: .* by which {column} are finite numbers"):
        generate(recipe, Folder(str(tmp_path)))
    assert not list(tmp_path.rglob("*.parquet"))
    assert not list(tmp_path.rglob(MANIFEST))


def test_the_manifest_is_written_last(small):
    written = stamps(small.path)
    assert max(written, key=lambda name: written[name]) == MANIFEST


def test_the_manifest_says_how_the_dataset_was_made(small, recipe):
    document = json.loads(Path(small.path, MANIFEST).read_text(encoding="utf-8"))
    assert document["schema_version"] == 2
    assert document["held_out"] == {"every": 5}
    assert "items" not in document
    assert document["recipe"] == recipe.to_dict()
    assert document["environment"] == recipe.spec.to_dict()
    assert (document["episodes"], document["rows"]) == (1_300, 5_200)
    assert document["digest"] == small.digest
    assert [part["path"] for part in document["parts"]] == [path for _, path, _, _ in PARTS]


@pytest.mark.integration
def test_four_workers_give_the_digest_of_one(small, recipe, tmp_path):
    done: list[tuple[int, int]] = []
    four = generate(
        recipe,
        Folder(str(tmp_path)),
        workers=4,
        progress=lambda finished, total: done.append((finished, total)),
    )
    assert four.digest == small.digest
    assert four.parts == small.parts
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_the_digest_does_not_know_the_compression(copied, small, compression):
    sizes = []
    for part in small.parts:
        file = copied / part.path
        sizes.append(file.stat().st_size)
        pq.write_table(pq.read_table(file, partitioning=None), file, compression=compression)
        assert file.stat().st_size != sizes[-1]
    assert Dataset.open(str(copied)).verify().digest == small.digest


def test_other_seeds_worlds_and_sizes_have_other_digests(small, recipe, tmp_path):
    less = replace(recipe, episodes=10)
    variants = [
        less,
        replace(less, seed=8),
        replace(less, parameters={"time_budget": 4, "sensitivity": 0.05}),
        replace(less, policies={"random": 0.5, "greedy": 0.5}),
        replace(less, policies={"random": 0.8, "opposite": 0.2}),
    ]
    digests = {
        generate(replace(variant, name=str(number)), Folder(str(tmp_path))).digest
        for number, variant in enumerate(variants)
    }
    assert len(digests | {small.digest}) == len(variants) + 1


def test_the_name_of_a_recipe_is_not_part_of_its_data(small, recipe, tmp_path):
    assert generate(replace(recipe, name="other"), Folder(str(tmp_path))).digest == small.digest


def test_a_finished_dataset_is_taken_as_it_is(copied, small, recipe):
    before = stamps(copied)
    calls: list[int] = []
    again = generate(
        recipe, Folder(str(copied.parent)), progress=lambda done, total: calls.append(done)
    )
    assert again.digest == small.digest
    assert stamps(copied) == before
    assert calls == []


@pytest.mark.parametrize("lost", [path for _, path, _, _ in PARTS])
def test_an_interrupted_run_is_taken_up(copied, small, recipe, lost):
    (copied / MANIFEST).unlink()
    (copied / lost).unlink()
    before = stamps(copied)
    again = generate(recipe, Folder(str(copied.parent)))
    assert again.digest == small.digest
    assert again.verify().parts == small.parts
    after = stamps(copied)
    assert {
        name: after[name] for name in before
    } == before  # files that were there were not rewritten
    assert set(after) == {*before, lost, MANIFEST}


@pytest.mark.parametrize(
    "damage",
    [
        "truncated",
        "emptied",
        "garbled",
        "flipped",
    ],
)
def test_a_damaged_part_of_an_interrupted_run_is_made_again(copied, small, recipe, damage):
    (copied / MANIFEST).unlink()
    file = copied / PARTS[1][1]
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x10
    damaged = {
        "truncated": whole[:-200],
        "garbled": b"PAR1" + bytes(500) + b"PAR1",
        "emptied": b"",
        "flipped": flipped,
    }
    file.write_bytes(damaged[damage])
    assert generate(recipe, Folder(str(copied.parent))).verify().digest == small.digest
    assert file.read_bytes() == whole


def test_parts_of_another_recipe_are_not_taken_up(copied, small, recipe):
    (copied / MANIFEST).unlink()
    changed = replace(recipe, seed=8)
    again = generate(changed, Folder(str(copied.parent)))
    assert (
        again.digest == generate(replace(changed, name="fresh"), Folder(str(copied.parent))).digest
    )
    assert again.digest != small.digest


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 8}, "seed"),
        ({"episodes": 1_301}, "episodes"),
        ({"policies": {"random": 1.0}}, "policies"),
        ({"parameters": {"time_budget": 5}}, "parameters"),
        ({"seed": 8, "episodes": 9}, "episodes, seed"),
    ],
)
def test_a_dataset_of_another_recipe_is_not_overwritten(copied, recipe, changes, named):
    before = stamps(copied)
    with pytest.raises(InputError, match=f"found one with other {named}; .* rename"):
        generate(replace(recipe, **changes), Folder(str(copied.parent)))
    assert stamps(copied) == before


def test_a_folder_that_cannot_be_written_is_named(recipe, tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    folder = Folder(str(tmp_path / "file" / "data"))
    with pytest.raises(InputError, match=r"cannot write .*/file/data/small: Not a") as refused:
        generate(recipe, folder)
    assert "make the folder writable or choose another" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("policy", "mean", "sem"), [("random", 1157.81, 0.04), ("greedy", 1163.66, 0.03)]
)
def test_logged_returns_are_the_published_ones(policy, mean, sem, tmp_path):
    logged = generate(Recipe("r", "modified-lts-20-2", 400, 1, {policy: 1}), Folder(str(tmp_path)))
    frame = pd.read_parquet(logged.path, columns=["episode", "reward"])
    returns = frame.groupby("episode")["reward"].sum()
    assert len(returns) == 400
    own_sem = returns.std() / math.sqrt(400)
    assert abs(returns.mean() - mean) < 4 * math.hypot(sem, own_sem)


def test_parts_have_users_of_their_own(small):
    rows = small.read()
    starts = rows.user[rows.step == 0, 0]
    assert len(np.unique(starts)) > 0.99 * len(starts)


def test_a_share_too_small_for_an_episode_makes_no_part(tmp_path):
    recipe = Recipe("r", "lts-10-1", 3, 0, {"random": 0.95, "greedy": 0.05})
    dataset = generate(recipe, Folder(str(tmp_path)))
    assert [part.policy for part in dataset.parts] == ["random"]
    assert dataset.episodes == 3


MIXED = {
    "random": 0.25,
    "epsilon-greedy": {"share": 0.25, "epsilon": 0.2},
    "soft": {"share": 0.5, "temperature": 0.3, "scorer": "opposite"},
}


def test_policies_with_settings_log_their_propensities(tmp_path):
    recipe = Recipe("mixed", "modified-lts-20-2", 40, 1, MIXED, {"time_budget": 6})
    dataset = generate(recipe, Folder(str(tmp_path)))
    assert [part.policy for part in dataset.parts] == list(MIXED)
    frame = pd.read_parquet(dataset.path)
    assert set(frame["policy"]) == set(MIXED)
    for _, row in frame.iterrows():
        scores, (first, second) = row["candidates"].astype(float), row["slate"]
        best = np.argsort(-scores, kind="stable")[:2].tolist()
        expected = 1 / 380
        if row["policy"] == "epsilon-greedy":
            expected = 0.2 / 380 + 0.8 * ([first, second] == best)
        if row["policy"] == "soft":
            weights = np.exp(-scores / 0.3)
            rest = weights.sum() - weights[first]
            expected = weights[first] / weights.sum() * weights[second] / rest
        assert row["propensity"] == pytest.approx(expected, rel=1e-9)


def test_parts_of_the_same_policy_with_other_settings_are_not_taken_up(tmp_path):
    recipe = Recipe("mixed", "lts-10-1", 4, 1, {"soft": {"share": 1, "temperature": 0.3}})
    dataset = generate(recipe, Folder(str(tmp_path)))
    Path(dataset.path, MANIFEST).unlink()
    changed = replace(recipe, policies={"soft": {"share": 1, "temperature": 0.4}})
    again = generate(changed, Folder(str(tmp_path)))
    assert again.digest != dataset.digest
