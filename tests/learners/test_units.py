"""Columns in any unit and of any origin: pounds or pence, ages or years of birth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slateflow.learners import learner_config, train
from slateflow.trajectories import Dataset
from tests.trajectories.sources.shop import first_liked, log, published, slates_table

ITEMS, ROWS = 12, 3_000
UNITS = {
    "pounds and years": (1.0, 1.0),
    "pence and days": (100.0, 365.25),
    "millions": (1e-6, 1e-2),
    "as small as can be": (1e-15, 1e-15),
}


def shop(
    folder: Path,
    places: int,
    money: float,
    time: float,
    origin: tuple[float, float] = (0, 0),
    pay: float = 1.0,
) -> Dataset:
    """Purchases depend on income times price, and on age.

    Columns are in units of money and time; `origin` is added to incomes and ages, and to prices. A
    purchase earns `pay`.
    """
    rng = np.random.default_rng(3)
    price, income, age = rng.uniform(5, 100, ITEMS), *rng.uniform((2e4, 18), (8e4, 80), (ROWS, 2)).T
    taste = (income[:, None] / 5e4 - 1) * (price / 50 - 1) - (age[:, None] / 49 - 1) * (price / 50)
    shown = rng.random((ROWS, ITEMS)).argsort(axis=1)[:, :places]
    likes = rng.random(shown.shape) < 1 / (1 + np.exp(1 - 2 * np.take_along_axis(taste, shown, 1)))
    bought = likes.any(axis=1)
    of_user, of_item = origin
    table: dict[str, Any] = {"income": income * money + of_user, "age": age * time + of_user}
    text = '[columns]\nuser = ["income", "age"]\n'
    if places == 1:
        table |= {"item": shown[:, 0], "propensity": np.full(ROWS, 1 / ITEMS)}
    else:
        text += 'clicked = "clicked"\n'
        table |= {"item": shown.tolist(), "clicked": np.where(bought, likes.argmax(axis=1), -1)}
        table["propensity"] = np.full(ROWS, 1 / (ITEMS * (ITEMS - 1) * (ITEMS - 2)))
    log(folder, "log.parquet", table | {"reward": bought * pay})
    items = pd.DataFrame({"id": np.arange(ITEMS), "price": price * money + of_item})
    items.to_parquet(folder / "items.parquet")
    text += '[items]\nfile = "items.parquet"\nid = "id"\nfeatures = ["price"]\n'
    return published(folder, text)


LEARNERS = [("slateq", 3), ("linucb", 3), ("logistic", 3), ("logistic", 1), ("fitted-q", 1)]


def chosen(folder: Path, learner: str, places: int, *world: Any) -> np.ndarray:
    """(500, places) items that users see, in the order of their numbers."""
    folder.mkdir()
    dataset = shop(folder, places, *world)
    rows = dataset.read().where(slice(500))
    scorer, _ = train(dataset, learner_config(learner))
    scores = scorer.scores(rows.user, rows.step, rows.candidate_features())
    return np.sort(scores.argsort(axis=1)[:, -places:])


@pytest.mark.parametrize(("learner", "places"), LEARNERS)
def test_units_do_not_matter(tmp_path, learner, places):
    """Users see the same items in any unit; SlateQ once failed on pounds."""
    first, *others = (
        chosen(tmp_path / name, learner, places, *units) for name, units in UNITS.items()
    )
    assert (first != first[0]).any()  # choices depend on the user
    for other in others:
        assert (other == first).all(axis=1).mean() > 0.98


@pytest.mark.parametrize("origin", [(700.0, 2.0), (1e5, 300.0)])
@pytest.mark.parametrize(("learner", "places"), [*LEARNERS, ("linucb", 1), ("lints", 3)])
def test_origins_do_not_matter(tmp_path, learner, places, origin):
    """Users see the same items where columns are far from zero; LinUCB once ignored the user.

    The second origin is 5,000 standard deviations from ages, and 10,000 from prices.
    """
    first = chosen(tmp_path / "near", learner, places, 1e-3, 1.0)
    far = chosen(tmp_path / "far", learner, places, 1e-3, 1.0, origin)
    assert (first != first[0]).any()
    assert (far == first).all(axis=1).mean() > 0.9


@pytest.mark.parametrize(("learner", "places"), [*LEARNERS, ("lints", 1), ("lints", 3)])
def test_the_unit_of_rewards_does_not_matter(tmp_path, learner, places):
    """Users see the same items in any currency; the noise of LinTS once was in an absolute unit."""
    first, *others = (
        chosen(tmp_path / str(pay), learner, places, 1.0, 1.0, (0, 0), pay)
        for pay in (1.0, 2.0**-30, 2.0**30)
    )
    assert (first != first[0]).any()
    for other in others:
        assert (other == first).all(axis=1).mean() > 0.98


def test_codes_do_not_matter(tmp_path):
    """Users of two kinds, and new items: SlateQ shows the same, whatever their codes."""
    rng, rows, items = np.random.default_rng(0), 300, 8
    kind, new, age = rng.integers(0, 2, rows), np.arange(items) % 2, rng.normal(size=rows)
    price = rng.normal(size=items)
    odds = np.where(kind[:, None] == new, 1, -1) + 0.6 * age[:, None] * price - 1.2
    shown = rng.random((rows, items)).argsort(axis=1)[:, :3]
    likes = rng.random(shown.shape) < 1 / (1 + np.exp(-np.take_along_axis(odds, shown, axis=1)))
    table = slates_table(shown, first_liked(likes), items) | {"age": age}
    text = '[columns]\nuser = ["kind", "age"]\nclicked = "clicked"\n'
    text += '[items]\nfile = "items.parquet"\nid = "id"\nfeatures = ["new", "price"]\n'
    found = []
    for low, high in ((0, 1), (1, 2), (10, 20), (-1, 1)):
        folder = tmp_path / f"{low}, {high}"
        log(folder, "log.parquet", table | {"kind": np.where(kind, high, low)})
        columns = {"id": np.arange(items), "new": np.where(new, high, low), "price": price}
        pd.DataFrame(columns).to_parquet(folder / "items.parquet")
        dataset = published(folder, text)
        known = dataset.read()
        scorer, _ = train(dataset, learner_config("slateq"))
        found.append(scorer.scores(known.user, known.step, known.candidate_features()))
    best = [np.sort(scores.argsort(axis=1)[:, -3:]) for scores in found]
    assert (best[0] != best[0][0]).any()
    for other in best[1:]:
        np.testing.assert_array_equal(other, best[0])
