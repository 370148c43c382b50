"""Advice to tell items apart by their ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.cli.main import main
from slateflow.evaluation.off_policy.items_differ import items_differ
from slateflow.trajectories import Dataset
from tests.trajectories.sources.shop import log, published, slates_table

ITEMS, USERS = 12, 4_000
ADVICE = "they earn more, or less, than their columns tell; to have learners tell them apart"


def shop(folder: Path, own: float, places: int, features: str = '"price"') -> Dataset:
    """Logs at random of items with a price, which users like, and as much again that nobody told.

    Users see the upper places more often.
    """
    rng = np.random.default_rng(places)
    price, quality = rng.random(ITEMS), own * np.tile([1.0, -1.0], ITEMS // 2)
    shown = rng.random((USERS, ITEMS)).argsort(axis=1)[:, :places]
    chance = (0.1 + 0.2 * price + quality)[shown] / (1 + np.arange(places))
    likes = rng.random(shown.shape) < chance
    clicked = np.where(likes.any(axis=1), likes.argmax(axis=1), -1)
    columns = slates_table(shown, clicked, ITEMS)
    if places == 1:
        del columns["clicked"]
        columns["item"] = shown[:, 0]
    log(folder, "log.parquet", columns)
    lines = [f"{item},{one:.3f}" for item, one in enumerate(price)]
    (folder / "items.csv").write_text("\n".join(["item,price", *lines]) + "\n")
    clicks = '[columns]\nclicked = "clicked"\n' if places > 1 else ""
    return published(folder, f'{clicks}[items]\nfile = "items.csv"\nfeatures = [{features}]\n')


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("own", [0.0, 0.08])
def test_items_that_differ_by_more_than_their_price_are_found(tmp_path, capsys, own, places):
    dataset = shop(tmp_path, own, places)
    assert items_differ(dataset) == (own > 0)
    assert main(["describe", dataset.path, "--page", str(tmp_path / "page.html")]) == 0
    assert (ADVICE in capsys.readouterr().out) == (own > 0)
    assert (ADVICE in (tmp_path / "page.html").read_text()) == (own > 0)


def test_items_that_have_their_id_are_not_asked(tmp_path):
    assert not items_differ(shop(tmp_path, 0.08, 1, '"price", "item"'))
