"""Steps on a Ray cluster: its processors against as many processes of this machine.

The nodes are on this machine, with a processor each; there is no network time.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slateflow.learners import learner_config, train
from slateflow.ray_cluster import connected, map_tasks
from slateflow.trajectories import Folder, Recipe, generate
from tests import errands
from tests.benchmarks.cores import one_core
from tests.ray_nodes import ray_nodes

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(7200),
    pytest.mark.filterwarnings("ignore"),  # sockets and files that Ray leaves open
]
SHARES = {"random": 0.5, "greedy": 0.5}
EPISODES = int(os.environ.get("SLATEFLOW_BENCHMARK_EPISODES", "50000"))
ITEMS = Recipe("items", "modified-lts-20-2", EPISODES, 0, SHARES)
SLATES = Recipe("slates", "interest-evolution", EPISODES // 7, 0, SHARES)


LEARNERS = {
    "linucb": (ITEMS, "weights"),
    "fitted-q": (ITEMS, "head"),
    "slateq": (SLATES, "item_values"),
}


def steps(folder: Path, workers: int) -> dict[str, tuple[float, Any]]:
    """Seconds of every step, and its result, digest or weights, which has to be the same."""
    store = Folder(str(folder))
    slates = generate(SLATES, store, workers=workers)
    start = time.perf_counter()
    items = generate(ITEMS, store, workers=workers)
    found: dict[str, tuple[float, Any]] = {
        f"generate, {items.rows:,} rows": (time.perf_counter() - start, items.digest)
    }
    for learner, (recipe, weights) in LEARNERS.items():
        dataset = items if recipe is ITEMS else slates
        start = time.perf_counter()
        scorer, _ = train(dataset, learner_config(learner), 0)
        seconds = time.perf_counter() - start
        found[f"{learner}, {dataset.rows:,} rows"] = (seconds, getattr(scorer, weights))
    return found


def test_a_cluster_beside_this_machine(tmp_path, capsys):
    sides: dict[str, dict[str, tuple[float, Any]]] = {}
    with one_core():
        sides["one process"] = steps(tmp_path / "one", 1)
    sides["two processes"] = steps(tmp_path / "two", 2)
    for nodes in (1, 2):
        with ray_nodes(nodes) as cluster, connected(cluster.address):
            list(map_tasks(errands.share, [()] * nodes))  # nodes start their processes
            sides[f"cluster of {nodes}"] = steps(tmp_path / f"nodes{nodes}", 1)
    first = sides["one process"]
    for side in sides.values():
        for name, (_, result) in side.items():
            if isinstance(result, str):
                assert result == first[name][1]
            else:
                np.testing.assert_allclose(result, first[name][1], rtol=1e-4)
    with capsys.disabled():
        print(f"\n| load {os.getloadavg()[0]:.1f}; seconds | {' | '.join(sides)} | 2 against 2 |")
        print("|---" * (len(sides) + 2) + "|")
        for name in first:
            took = [side[name][0] for side in sides.values()]
            cells = " | ".join(f"{seconds:.1f}" for seconds in took)
            print(f"| {name} | {cells} | {took[3] / took[1]:.2f} |")
