"""Verdicts and learners from slates of items with a price, and sometimes further differences.

`SLATEFLOW_BENCHMARK_LOGS` draws more logs, `SLATEFLOW_BENCHMARK_ROWS` is their size.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from slateflow.learners import learner_config, train
from slateflow.policies import RandomPolicy
from tests.benchmarks.held_intervals import Judged, judged, of_logs, print_held
from tests.evaluation.off_policy.priced_shop import BUDGETS, KINDS, LOOKS, PricedShop

LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "20"))
ROWS = int(os.environ.get("SLATEFLOW_BENCHMARK_ROWS", "15000"))
LEARNERS = ("slateq", "logistic", "linucb")
FEATURES = ('"price"', '"price", "id"')


def verdicts(shop: PricedShop, seed: int) -> Judged:
    """Verdicts of a log."""
    targets = {"random": RandomPolicy(len(LOOKS)), **shop.policies()}
    return judged(lambda folder: shop.slates(folder, ROWS, seed), targets)


def scores(shop: PricedShop, seed: int) -> dict[str, float]:
    """Scores of learners from a log: 0 is random and 1 the best."""
    random, best, found = shop.value_of_random(), shop.value(shop.policies()["the best"]), {}
    with TemporaryDirectory() as folder:
        dataset = shop.slates(Path(folder), ROWS, seed)
        assert dataset.catalogue is not None
        items = dataset.catalogue.features
        offered = np.broadcast_to(items, (len(BUDGETS), *items.shape))
        for learner in LEARNERS:
            scorer, _ = train(dataset, learner_config(learner), seed)
            rated = scorer.scores(BUDGETS[:, None], np.zeros(len(BUDGETS), np.int32), offered)
            shown = np.argsort(-rated, axis=1, kind="stable")[:, : len(LOOKS)]
            found[learner] = (shop.value_of(shown) - random) / (best - random)
    return found


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("kind", KINDS)
def test_priced_items(kind, capsys):
    """Print how often verdicts are given and hold, and what is learnt from the first five logs."""
    shop = PricedShop(kind)
    truth = {"random": shop.value_of_random()}
    truth |= {name: shop.value(policy) for name, policy in shop.policies().items()}
    found = of_logs(partial(verdicts, shop), range(LOGS))
    learnt = [
        of_logs(partial(scores, PricedShop(kind, features)), range(min(LOGS, 5)))
        for features in FEATURES
    ]
    with capsys.disabled():
        print(f"\n{kind}: {LOGS} logs of {ROWS:,} slates")
        print_held(found, truth, digits=3)
        print("learner    score, min and median, by price, and by price and id")
        for learner in LEARNERS:
            every = [[one[learner] for one in logs] for logs in learnt]
            figures = (f"{min(values):.3f} {np.median(values):.3f}" for values in every)
            print(f"{learner:10} " + "   ".join(figures))
