"""Verdicts and learners from slates whose items influence each other.

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
from tests.evaluation.off_policy.alike_shop import EFFECTS, PLACES, POLICIES, AlikeShop

LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "20"))
ROWS = int(os.environ.get("SLATEFLOW_BENCHMARK_ROWS", "10000"))
LEARNERS = ("slateq", "logistic", "linucb")


def verdicts(shop: AlikeShop, seed: int) -> Judged:
    """Verdicts of a log."""
    targets = {"random": RandomPolicy(PLACES), **POLICIES}
    return judged(lambda folder: shop.slates(folder, ROWS, seed), targets)


def scores(shop: AlikeShop, seed: int) -> dict[str, float]:
    """Scores of learners from a log: 0 is random and 1 the best."""
    with TemporaryDirectory() as folder:
        dataset = shop.slates(Path(folder), ROWS, seed)
        learnt = {one: train(dataset, learner_config(one), seed)[0] for one in LEARNERS}
        return {learner: shop.score(scorer, dataset) for learner, scorer in learnt.items()}


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("effect", EFFECTS)
def test_alike_items(effect, capsys):
    """Print how often there are verdicts that hold, and scores from the first five logs."""
    shop = AlikeShop(effect)
    found = of_logs(partial(verdicts, shop), range(LOGS))
    learnt = of_logs(partial(scores, shop), range(min(LOGS, 5)))
    with capsys.disabled():
        print(f"\nothers of the kind bore: {effect}; {LOGS} logs of {ROWS:,} slates")
        print_held(found, shop.values(), digits=3)
        print("learner    score, min and median")
        for learner in LEARNERS:
            every = [one[learner] for one in learnt]
            print(f"{learner:10} {min(every):.3f} {np.median(every):.3f}")
