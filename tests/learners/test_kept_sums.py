"""Sums of finished days: kept, found again, and without effect on the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slateflow.learners import learner_config, train
from slateflow.trajectories import Dataset, Folder, generate, read_recipe
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.sources import publish
from slateflow.trajectories.sources.example import Shop
from slateflow.user_models import clicks_of_days
from slateflow.user_models.bilinear import LinearStatistics, Sums, dataset_statistics
from slateflow.user_models.kept_sums import SUMS, KeptDays

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
    """Three nights with four days each, in several parts."""
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


@pytest.mark.parametrize(
    ("learner", "settings"), [("linucb", {}), ("lints", {}), ("logistic", {"ridge": 1.0})]
)
def test_only_new_days_are_read_and_the_weights_are_the_same_to_the_last_bit(
    nights, read, tmp_path, monkeypatch, learner, settings
):
    monkeypatch.setattr(clicks_of_days, "DAY_ROWS", 0)
    monkeypatch.setattr(clicks_of_days, "MOST_CHANGE", np.inf)  # days of 400 rows are too few
    config = learner_config(learner, **settings)
    for number, dataset in enumerate(nights):
        read.clear()
        kept, _ = train(dataset, config, 1, checkpoints=tmp_path / "kept")
        new = [p.path for p in dataset.parts if number == 0 or p.day == dataset.days[-1].key]
        paths = [part.path for part in read]
        assert list(dict.fromkeys(paths)) == new
        if learner != "logistic":  # which passes over a new day several times
            assert paths == new
        fresh, _ = train(dataset, config, 1)
        np.testing.assert_array_equal(kept.head, fresh.head)
    files = 12 if learner == "logistic" else 6  # facts of the rewards, and the regression
    assert len(list((tmp_path / "kept" / SUMS).iterdir())) == files


def odds(scorer, dataset: Dataset):
    """Log-odds (1000, 34) of all items for some users."""
    rows = dataset.read()
    some = np.arange(1000)
    return scorer.scores(rows.user[some], rows.step[some], rows.candidate_features(some))


def test_clicks_of_days_are_near_those_of_the_month(tmp_path, monkeypatch, read):
    """Four days of 20,000 visits: the mean squared difference is at most `MOST_CHANGE`."""
    (tmp_path / "logs").mkdir()
    columns = COLUMNS.replace('"country", "device", "age"', '"country"')
    (tmp_path / "shop.toml").write_text(f'source = "logs"\n{columns}')
    (tmp_path / "items.csv").write_text("item_id\n" + "\n".join(map(str, range(34))))
    for day in range(4):
        Shop.opened().log(20_000, day).to_parquet(tmp_path / "logs" / f"{day}.parquet")
    dataset = generate(read_recipe(tmp_path, "shop"), Folder(str(tmp_path / "data")))
    month = odds(train(dataset, learner_config("logistic"))[0], dataset)
    monkeypatch.setattr(clicks_of_days, "DAY_ROWS", 0)

    def passes(near: float):
        monkeypatch.setattr(clicks_of_days, "MOST_CHANGE", near)
        read.clear()
        scorer, _ = train(dataset, learner_config("logistic"), checkpoints=tmp_path / "kept")
        return len(read), odds(scorer, dataset)

    first, days = passes(0.1)
    assert np.square(days - month).mean() < 0.01
    assert (days.argmax(axis=1) == month.argmax(axis=1)).mean() > 0.95
    again, same = passes(0.1)
    assert again == 0
    np.testing.assert_array_equal(days, same)
    # Days that are not near are read as one, starting at the weights so far
    some, whole = passes(1e-4)
    assert 0 < some < first
    np.testing.assert_allclose(whole, month, atol=0.02)  # the prior is chosen on the way


def test_the_sums_are_those_of_all_rows(nights, tmp_path):
    for dataset in nights:
        kept = KeptDays.of(Sums, dataset, tmp_path, "code")
        found = dataset_statistics(dataset, kept)
        whole = LinearStatistics.from_rows(dataset.read(), dataset.spec)
        np.testing.assert_allclose(found.gram, whole.gram, rtol=1e-12)
        np.testing.assert_allclose(found.moment, whole.moment, rtol=1e-12)
        assert (found.rows, found.reward_squares) == (whole.rows, whole.reward_squares)


def test_other_code_items_or_sizes_know_no_sums(nights, read, tmp_path):
    first, second = nights[:2]
    dataset_statistics(first, KeptDays.of(Sums, first, tmp_path, "code"))
    read.clear()
    dataset_statistics(first, KeptDays.of(Sums, first, tmp_path, "other"))
    assert len(read) == len(first.parts)
    read.clear()
    other = replace(second, catalogue=Catalogue(second.catalogue.features + 1))
    dataset_statistics(other, KeptDays.of(Sums, other, tmp_path, "code"))
    assert len(read) == len(second.parts)


@pytest.mark.parametrize("damage", [b"", b"half", None])
def test_damaged_sums_are_made_again(nights, read, tmp_path, damage):
    dataset = nights[0]
    kept = KeptDays.of(Sums, dataset, tmp_path, "code")
    found = dataset_statistics(dataset, kept)
    path = min((tmp_path / SUMS).iterdir())
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes(flipped if damage is None else damage)
    read.clear()
    again = dataset_statistics(dataset, kept)
    np.testing.assert_array_equal(again.gram, found.gram)
    assert 0 < len(read) < len(dataset.parts)
    assert Path(path).read_bytes() == whole


def test_datasets_without_days_keep_nothing(small_logs, tmp_path):
    train(small_logs, learner_config("linucb"), 0, checkpoints=tmp_path)
    assert list(tmp_path.iterdir()) == []
