"""Items that earn more, or less, than their columns predict have their ids as features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.cli.main import main
from slateflow.learners import learner_config, train
from slateflow.trajectories import Dataset, Folder, generate
from slateflow.trajectories.item_effects import items_differ, told_apart
from tests.trajectories.sources.shop import log, published, recipe, slates_table

TOLD_APART = "distinguished by their ids, too, because they earn more, or less, than their columns"
ADVICE = "they earn more, or less, than their columns predict; for learners to distinguish them"
ITEMS, USERS = 12, 4_000
IDS = tuple(f"item={item}" for item in range(ITEMS))
TELL_PRICE = '[items]\nfile = "items.csv"\nfeatures = ["price"]\n'


def prices(seed: int) -> np.ndarray:
    """(ITEMS,) prices of the shop with a seed."""
    return np.random.default_rng(seed).random(ITEMS)


def write_log(
    folder: Path, own: float, places: int, name: str = "log.parquet", users: int = USERS, **more
) -> None:
    """Random logs of items that users like by a price, and with ±`own` beyond it.

    Users see the upper places more often. Further columns are written unchanged.
    """
    rng = np.random.default_rng(places)
    price, quality = rng.random(ITEMS), own * np.tile([1.0, -1.0], ITEMS // 2)
    shown = rng.random((users, ITEMS)).argsort(axis=1)[:, :places]
    chance = (0.1 + 0.2 * price + quality)[shown] / (1 + np.arange(places))
    likes = rng.random(shown.shape) < chance
    clicked = np.where(likes.any(axis=1), likes.argmax(axis=1), -1)
    columns = slates_table(shown, clicked, ITEMS)
    if places == 1:
        del columns["clicked"]
        columns["item"] = shown[:, 0]
    log(folder, name, columns | more)
    lines = [f"{item},{one:.3f}" for item, one in enumerate(price)]
    (folder / "items.csv").write_text("\n".join(["item,price", *lines]) + "\n")


def shop(folder: Path, own: float, places: int, text: str = TELL_PRICE, **more) -> Dataset:
    """The dataset of such logs."""
    write_log(folder, own, places, **more)
    return published(folder, ('[columns]\nclicked = "clicked"\n' if places > 1 else "") + text)


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("own", [0.0, 0.08])
def test_items_that_differ_by_more_than_their_price_have_their_ids(tmp_path, capsys, own, places):
    dataset = shop(tmp_path, own, places)
    assert dataset.spec.item_features == (("price", *IDS) if own else ("price",))
    ids = np.eye(ITEMS) if own else np.zeros((ITEMS, 0))
    np.testing.assert_allclose(
        dataset.catalogue.features, np.column_stack([prices(places), ids]), atol=5e-4
    )
    assert told_apart(dataset) == (own > 0)
    assert not items_differ(dataset)  # beyond what is known of them now
    assert main(["describe", dataset.path, "--page", str(tmp_path / "page.html")]) == 0
    assert (TOLD_APART in capsys.readouterr().out) == (own > 0)
    assert (TOLD_APART in (tmp_path / "page.html").read_text()) == (own > 0)


def test_learners_find_the_item_that_earns_most(tmp_path):
    dataset = shop(tmp_path, 0.08, 1)
    scorer, _ = train(dataset, learner_config("linucb"))
    offered = dataset.catalogue.features[None].astype(np.float64)
    scores = scorer.scores(np.zeros((1, 0)), np.zeros(1, np.int64), offered)[0]
    earns = 0.1 + 0.2 * prices(1) + 0.08 * np.tile([1.0, -1.0], ITEMS // 2)
    assert scores.argmax() == earns.argmax() != prices(1).argmax()


def test_ids_that_the_recipe_names_are_there_once(tmp_path):
    text = TELL_PRICE.replace('"price"', '"price", "item"')
    dataset = shop(tmp_path, 0.08, 1, text)
    assert dataset.spec.item_features == ("price", *IDS)
    assert not told_apart(dataset)


def test_where_the_recipe_wants_no_ids_they_are_advised(tmp_path, capsys):
    dataset = shop(tmp_path, 0.08, 1, f'{TELL_PRICE}tell_apart = "never"\n')
    assert dataset.spec.item_features == ("price",)
    assert items_differ(dataset)
    assert main(["describe", dataset.path]) == 0
    assert ADVICE in capsys.readouterr().out


def test_where_users_have_many_columns_ids_are_advised(tmp_path, capsys):
    wide = list(np.random.default_rng(0).random((USERS, 90)))
    dataset = shop(tmp_path, 0.08, 1, f'[columns]\nuser = ["wide"]\n{TELL_PRICE}', wide=wide)
    assert dataset.spec.item_features == ("price",)
    assert items_differ(dataset)
    assert main(["describe", dataset.path]) == 0
    assert ADVICE in capsys.readouterr().out


def test_sessions_that_are_held_out_are_not_asked(tmp_path):
    early = USERS * 4 // 5
    write_log(tmp_path, 0.0, 1, users=early, time=np.arange(early))
    late = np.arange(USERS - early) + early
    write_log(tmp_path, 0.3, 1, "later.parquet", users=USERS - early, time=late)
    text = f'held_out = "last"\n[columns]\ntime = "time"\n{TELL_PRICE}'
    assert not told_apart(published(tmp_path, text))


def test_the_digest_does_not_depend_on_the_nights(tmp_path):
    write_log(tmp_path, 0.08, 1, "1.parquet", users=40)
    first = published(tmp_path, TELL_PRICE)
    write_log(tmp_path, 0.08, 1, "2.parquet")
    second = published(tmp_path, TELL_PRICE)
    assert (told_apart(first), told_apart(second)) == (False, True)
    anew = generate(recipe(tmp_path, TELL_PRICE), Folder(str(tmp_path / "anew")))
    assert anew.digest == second.digest
