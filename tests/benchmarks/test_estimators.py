"""Our estimators for single decisions against the Open Bandit Pipeline's, on the same logs.

Handwritten digits as a bandit, whose truth is known; see `test_digits.py`. Ours read Parquet within
their time, the others find arrays in memory. OBP 0.5.7 asks for a Python before 3.11 and for
packages of its time; it computes with those of today, too:

    python -m venv obp
    obp/bin/pip install scikit-learn "numpy<2" pandas scipy tqdm pyyaml matplotlib seaborn torch
    obp/bin/pip install --no-deps --ignore-requires-python obp pyieoe pingouin
    export SLATEFLOW_BENCHMARK_OBP=obp/bin/python

Without it the table has ours alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from slateflow.evaluation.off_policy.estimates import estimate_policies
from tests.benchmarks.test_digits import Guesses, logged

OBP = os.environ.get("SLATEFLOW_BENCHMARK_OBP", "")
LOGS = 10
NAMES = ("ips", "snips", "dm", "dr", "dr-os")
OTHERS = Path(__file__).with_name("estimators_of_others.py")


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_estimators_against_those_of_obp(tmp_path, capsys):
    pictures, digits = load_digits(return_X_y=True)
    halves = train_test_split(pictures / 16, digits, test_size=0.7, random_state=0)
    learnt, pictures, known, digits = halves
    logging = Guesses(LogisticRegression(max_iter=2000).fit(learnt, known), 0.8)
    target = Guesses(RandomForestClassifier(random_state=0).fit(learnt, known), 0.9)
    truth = float(target.probabilities(pictures)[np.arange(len(digits)), digits].mean())
    ours, seconds, files = [], [], []
    for seed in range(LOGS):
        dataset = logged(tmp_path / str(seed), logging, pictures, digits, seed)
        start = time.perf_counter()
        found = estimate_policies(dataset, {"forest": target}, False).policies["forest"]
        ours.append({name: found.estimates[name].value for name in NAMES})
        seconds.append(time.perf_counter() - start)
        rows = dataset.read()
        context, action = rows.user.astype(np.float64), rows.slate[:, 0]
        files.append(str(tmp_path / f"{seed}.npz"))
        np.savez(
            files[-1],
            context=context,
            action=action.astype(np.int64),
            reward=rows.reward.astype(np.float64),
            pscore=rows.propensity,
            target=target.probabilities(context),
        )
    theirs = []
    if OBP:
        done = subprocess.run(
            [OBP, str(OTHERS), *files],
            check=True, capture_output=True, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        theirs = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    with capsys.disabled():
        print(f"\n{LOGS} logs of {len(digits):,} guesses, load {psutil.getloadavg()[0]:.1f}")
        print("| estimator | ours, error | OBP, error | they differ by at most |")
        print("|---|---|---|---|")
        for name in NAMES:
            mine = np.array([one[name] for one in ours])
            line = f"| {name} | {np.abs(mine / truth - 1).mean():.4f} |"
            if theirs:
                other = np.array([one["values"][name] for one in theirs])
                error, apart = np.abs(other / truth - 1).mean(), np.abs(other - mine).max()
                line += f" {error:.4f} | {apart:.1g} |"
            print(line)
        print(f"seconds a log: {np.median(seconds):.2f}", end="")
        print(f", OBP {np.median([one['seconds'] for one in theirs]):.2f}" if theirs else "")
