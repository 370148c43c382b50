"""Scores of learners with the ids of items beside their columns, where items differ beyond these.

`SLATEFLOW_BENCHMARK_SEED` draws other shops, `SLATEFLOW_BENCHMARK_SHOPS` has numbers of shops, as
in `3,21`, or how many, as in `60`, and `SLATEFLOW_BENCHMARK_LEARNERS` has other learners.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from slateflow.learners import learner_config, train
from slateflow.policies import RandomPolicy, ScoringPolicy
from slateflow.trajectories import Folder
from slateflow.trajectories.held_out import training_logs
from slateflow.trajectories.item_effects import items_differ
from tests.benchmarks.held_intervals import of_logs
from tests.benchmarks.random_shops import RandomShop
from tests.benchmarks.shop_settings import SEED, learners_of, shop_numbers


def _scores(shop: RandomShop, folder: Path) -> tuple[bool, dict[str, float]]:
    """Result of the test whether items differ beyond their columns, and scores of learners."""
    dataset = shop.logs(folder / "logs", seed=1)
    stage = shop.stage(folder / "stage", dataset)
    training = training_logs(dataset, Folder(f"{folder}/training/shop"))
    random, best = stage.value(RandomPolicy(shop.places)), stage.value(None)
    scores = {}
    for learner in learners_of(bool(shop.habit)):
        scorer, _ = train(training, learner_config(learner))
        scores[learner] = (stage.value(ScoringPolicy(scorer)) - random) / (best - random)
    return items_differ(dataset), scores


def told(slates: bool, number: int) -> tuple[RandomShop, list[dict[str, float]]]:
    """A shop whose recipe has columns alone; scores with these, and with ids where used."""
    shop, found = RandomShop(number, SEED, slates), []
    if shop.described == "columns":
        with tempfile.TemporaryDirectory() as folder:
            shop.tell_apart = "never"
            differ, scores = _scores(shop, Path(folder) / "columns")
            found, shop.tell_apart = [scores], "auto"
            if differ:
                found.append(_scores(shop, Path(folder) / "both")[1])
    return shop, found


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("slates", [False, True], ids=["items", "slates"])
def test_ids_beside_columns(slates, capsys):
    """Print scores of shops described by columns, and with ids where items differ beyond them."""
    found = of_logs(partial(told, slates), shop_numbers())
    apart = [(shop, *scores) for shop, scores in found if len(scores) > 1]
    with capsys.disabled():
        by_columns = sum(bool(scores) for _, scores in found)
        print(f"\nitems differ in {len(apart)} of {by_columns} shops that columns describe")
        for shop, columns, ids in apart:
            print(f"{shop}")
            print("    " + ", ".join(f"{one} {columns[one]:.3f} to {ids[one]:.3f}" for one in ids))
        print("learner    by columns: min, median   with the ids: min, median")
        for learner in learners_of(slates):
            each = np.array([[one[learner] for one in scores] for _, *scores in apart]).T
            columns, ids = (f"{one.min():6.3f}, {np.median(one):.3f}" for one in each)
            print(f"{learner:10} {columns:>23} {ids:>27}")
