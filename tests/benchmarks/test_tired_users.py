"""Verdicts and learners where users tire of seen items, without a column that shows it.

`SLATEFLOW_BENCHMARK_LOGS` draws more logs, `SLATEFLOW_BENCHMARK_SESSIONS` is their size.
"""

from __future__ import annotations

import os
from functools import partial

import pytest

from slateflow.evaluation.off_policy.double_learning import Target
from slateflow.learners import learner_config, train
from slateflow.policies import ScoringPolicy
from tests.benchmarks.held_intervals import Judged, judged, of_logs, print_held
from tests.evaluation.off_policy.tired_shop import Learnt, TiredShop

LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "20"))
SESSIONS = int(os.environ.get("SLATEFLOW_BENCHMARK_SESSIONS", "5000"))
LEARNERS = ("linucb", "fitted-q")
PLAYED = 400_000


def verdicts(shop: TiredShop, targets: dict[str, Target], seed: int) -> Judged:
    """Verdicts of a log."""
    return judged(lambda folder: shop.logs(folder, SESSIONS, seed), targets)


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("tiredness", [0.0, 0.3, 0.7, 1.5])
def test_users_who_tire(tiredness, tmp_path, capsys):
    """Print how often there are verdicts, how often they hold, and learners' scores."""
    shop = TiredShop(tiredness)
    logged = shop.logs(tmp_path, SESSIONS, 1_000)
    targets: dict[str, Target] = {"all alike": shop.random(), **shop.policies()}
    truth = {name: shop.value(policy, PLAYED) for name, policy in targets.items()}
    for learner in LEARNERS:
        scorer = train(logged, learner_config(learner))[0]
        targets[learner] = ScoringPolicy(scorer)
        truth[learner] = shop.value(Learnt(scorer, PLAYED), PLAYED)
    found = of_logs(partial(verdicts, shop, targets), range(LOGS))
    with capsys.disabled():
        print(f"\ntired by {tiredness}: {LOGS} logs of {SESSIONS:,} sessions of the random policy")
        print_held(found, truth, digits=2)
