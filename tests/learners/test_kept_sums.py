"""Sums of finished days: kept, found again, and without a trace in the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slateflow.learners import bandits, learner_config, train
from slateflow.trajectories import Dataset, Folder, generate, read_recipe
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.sources import publish
from slateflow.trajectories.sources.example import Shop
from slateflow.user_models.bilinear import LinearStatistics
from slateflow.user_models.kept_sums import SUMS

COLUMNS = """
days = 4
[columns]
user = ["country", "device", "age"]
item = "item_id"
propensity = "pscore"
reward = "click"
[items]
file = "items.csv"
id = "item_id"
"""


@pytest.fixture
def nights(tmp_path, monkeypatch) -> list[Dataset]:
    """Three nights with four days each, of some parts."""
    monkeypatch.setattr(publish, "PART_ROWS", 150)
    (tmp_path / "logs").mkdir()
    (tmp_path / "shop.toml").write_text(f'source = "logs"\n{COLUMNS}')
    (tmp_path / "items.csv").write_text("item_id\n" + "\n".join(map(str, range(34))))
    datasets = []
    for day in range(6):
        Shop.opened().log(400, day).to_parquet(tmp_path / "logs" / f"{day}.parquet")
        if day >= 3:
            made = generate(read_recipe(tmp_path, "shop"), Folder(str(tmp_path / "data")))
            datasets.append(made)
    return datasets


@pytest.mark.parametrize("learner", ["linucb", "lints"])
def test_only_new_days_are_read_and_the_weights_are_the_same_to_the_last_bit(
    nights, read, tmp_path, learner
):
    for number, dataset in enumerate(nights):
        read.clear()
        kept, _ = train(dataset, learner_config(learner), 1, checkpoints=tmp_path / "kept")
        new = [p.path for p in dataset.parts if number == 0 or p.day == dataset.days[-1].key]
        assert [part.path for part in read] == new
        fresh, _ = train(dataset, learner_config(learner), 1)
        np.testing.assert_array_equal(kept.head, fresh.head)
    assert len(list((tmp_path / "kept" / SUMS).iterdir())) == 6


def test_the_sums_are_those_of_all_rows(nights, tmp_path):
    for dataset in nights:
        kept = bandits.KeptDays.of(dataset, tmp_path / "sums", "code")
        found = bandits.dataset_statistics(dataset, kept)
        whole = LinearStatistics.from_rows(dataset.read(), dataset.spec)
        np.testing.assert_allclose(found.gram, whole.gram, rtol=1e-12)
        np.testing.assert_allclose(found.moment, whole.moment, rtol=1e-12)
        assert (found.rows, found.reward_squares) == (whole.rows, whole.reward_squares)


def test_other_code_items_or_sizes_know_no_sums(nights, read, tmp_path):
    first, second = nights[:2]
    bandits.dataset_statistics(first, bandits.KeptDays.of(first, tmp_path, "code"))
    read.clear()
    bandits.dataset_statistics(first, bandits.KeptDays.of(first, tmp_path, "other"))
    assert len(read) == len(first.parts)
    read.clear()
    other = replace(second, catalogue=Catalogue(second.catalogue.features + 1))
    bandits.dataset_statistics(other, bandits.KeptDays.of(other, tmp_path, "code"))
    assert len(read) == len(second.parts)


@pytest.mark.parametrize("damage", [b"", b"half", None])
def test_damaged_sums_are_made_again(nights, read, tmp_path, damage):
    dataset = nights[0]
    kept = bandits.KeptDays.of(dataset, tmp_path / "sums", "code")
    found = bandits.dataset_statistics(dataset, kept)
    path = min((tmp_path / "sums").iterdir())
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes(flipped if damage is None else damage)
    read.clear()
    again = bandits.dataset_statistics(dataset, kept)
    np.testing.assert_array_equal(again.gram, found.gram)
    assert 0 < len(read) < len(dataset.parts)
    assert Path(path).read_bytes() == whole


def test_datasets_without_days_keep_nothing(small_logs, tmp_path):
    train(small_logs, learner_config("linucb"), 0, checkpoints=tmp_path)
    assert list(tmp_path.iterdir()) == []
