"""A month of nights: the cost of a night with 29 known days, and of one without.

`SLATEFLOW_BENCHMARK_ROWS` is the number of rows per day, such as 1000000.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
ROWS = int(os.environ.get("SLATEFLOW_BENCHMARK_ROWS", "50000").split(",")[0])
DAYS, ITEMS, OFFERED, START = 30, 34, 10, 1_790_000_000
OWN_LOGS = """
source = "logs"
days = {days}
[columns]
user = ["age", "country"]
candidates = "offered"
episode = "session"
time = "t"
"""
SIMULATED = f"""
environment = "modified-lts-20-2"
episodes = {max(1, ROWS // 120)}
seed = 100
nights = {{days}}
[policies]
random = 0.5
greedy = 0.5
"""

NIGHT = """
import hashlib, json, sys, time
from pathlib import Path
from slateflow.learners import learner_config, learners_for, train
from slateflow.trajectories import Folder, generate, read_recipe
from slateflow.trajectories.held_out import training_logs
folder, data, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
moments = [time.perf_counter()]
recipe = read_recipe(folder, "month").varied(seed=seed)
dataset = generate(recipe, Folder(str(data)), workers=2)
moments.append(time.perf_counter())
name = dataset.path.rpartition("/")[2]
training = dataset
if not dataset.spec.simulated:
    training = training_logs(dataset, Folder(str(data / ".training" / name)))
moments.append(time.perf_counter())
heads = []
for learner in ("linucb", "logistic"):
    if learner in learners_for(dataset.spec):
        scorer, _ = train(training, learner_config(learner), 0, checkpoints=data / "checkpoints")
        heads.append(scorer.head.tobytes())
    moments.append(time.perf_counter())
seconds = [after - before for before, after in zip(moments, moments[1:])]
status = Path("/proc/self/status").read_text()  # getrusage has what the parent had, too
peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
weights = hashlib.sha256(b"".join(heads)).hexdigest()
print(json.dumps([dataset.rows, seconds, peak, dataset.digest, weights]))
"""


def write_day(folder: Path, day: int) -> None:
    """A day's sessions of five rows."""
    rng = np.random.default_rng(day)
    offered = np.argsort(rng.random((ROWS, ITEMS)), axis=1)[:, :OFFERED]
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 80, ROWS),
            "country": rng.choice(["at", "de", "fr"], ROWS),
            "session": day * ROWS + rng.integers(0, ROWS // 5, ROWS),
            "t": day * 2**40 + rng.permutation(ROWS),
            "offered": list(offered),
            "item": offered[:, 0],
            "propensity": 1 / OFFERED,
            "reward": rng.random(ROWS) < 0.05 + 0.01 * (offered[:, 0] % 5),
        }
    ).astype({"reward": np.int64})
    path = folder / "logs" / f"{day:03d}.parquet"
    frame.to_parquet(path)
    os.utime(path, (START + 86_400 * day,) * 2)


def night(
    folder: Path, recipe: str, number: int, data: str, days: int = DAYS
) -> tuple[int, list[float], float, str, str]:
    """Rows, seconds of each step, peak memory in MiB, digest and weights of a night."""
    (folder / "month.toml").write_text(recipe.format(days=days))
    done = subprocess.run(
        [sys.executable, "-c", NIGHT, str(folder), str(folder / data), str(100 + number)],
        check=True, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    return tuple(json.loads(done.stdout))


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("logs", ["own logs", "simulated"])
def test_a_month_of_nights(logs, tmp_path, capsys):
    """Print the nights, and the savings by known days."""
    recipe = OWN_LOGS if logs == "own logs" else SIMULATED
    (tmp_path / "logs").mkdir()
    for day in range(DAYS):
        if logs == "own logs":
            write_day(tmp_path, day)
    nights = {"night 1, 30 days from nothing": night(tmp_path, recipe, 1, "data")}
    if logs == "own logs":
        write_day(tmp_path, DAYS)
    nights["night 2, 29 days known"] = kept = night(tmp_path, recipe, 2, "data")
    nights["night 2 from nothing"] = fresh = night(tmp_path, recipe, 2, "fresh")
    nights["one day alone"] = alone = night(tmp_path, recipe, 2, "alone", days=1)
    assert kept[3:] == fresh[3:]
    with capsys.disabled():
        print(f"\n{logs}, {DAYS} days of {ROWS:,} rows; seconds")
        print("| | rows | generate | training logs | linucb | logistic | all | peak, MiB |")
        print("|---|---|---|---|---|---|---|---|")
        for name, (rows, seconds, peak, _, _) in nights.items():
            cells = [f"{each:.1f}" for each in (*seconds, sum(seconds))]
            print(f"| {name} | {rows:,} | {' | '.join(cells)} | {peak:,.0f} |")
        for name, other in (("from nothing", fresh), ("one day alone", alone)):
            generated, trained = kept[1][0] / other[1][0], sum(kept[1][2:]) / sum(other[1][2:])
            whole = sum(kept[1]) / sum(other[1])
            print(
                f"29 days known, as a share of {name}: generate {generated:.2f}, "
                f"train {trained:.2f}, all {whole:.2f}"
            )
