"""Our estimators against the Open Bandit Pipeline's and SCOPE-RL's, on the same logs.

Single decisions are handwritten digits as a bandit with known truth; see `test_digits.py`. Sessions
are those of a random policy in a world of long-term satisfaction, and the target is its greedy
policy. Our times include reading Parquet; the others have arrays in memory. OBP 0.5.7 requires a
Python before 3.11 and packages of its time, but it also works with current ones:

    python -m venv obp
    obp/bin/pip install scikit-learn "numpy<2" pandas scipy tqdm pyyaml matplotlib seaborn torch
    obp/bin/pip install --no-deps --ignore-requires-python obp pyieoe pingouin
    export SLATEFLOW_BENCHMARK_OBP=obp/bin/python

and likewise SCOPE-RL 0.2.1 with d3rlpy: `pip install scope-rl "numpy<2"` and
SLATEFLOW_BENCHMARK_SCOPE_RL. Without them the tables have only ours.
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

from slateflow.evaluation import episode_returns
from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.policies import Behaviour, RandomPolicy, behaviour_policy
from slateflow.trajectories import Folder, Recipe, generate
from tests.benchmarks.test_digits import Guesses, logged

OBP = os.environ.get("SLATEFLOW_BENCHMARK_OBP", "")
SCOPE_RL = os.environ.get("SLATEFLOW_BENCHMARK_SCOPE_RL", "")
LOGS = 10
NAMES = ("ips", "snips", "dm", "dr", "dr-os")
OTHERS = Path(__file__).with_name("estimators_of_others.py")
SEQUENCES = Path(__file__).with_name("sequences_of_others.py")
WORLD, SESSIONS, UPDATES = "modified-lts-10-1", 500, 20_000


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
        found = estimate_policies(dataset, {"forest": target}, held_out_only=False).policies[
            "forest"
        ]
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


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_estimators_against_those_of_scope_rl(tmp_path, capsys):
    dataset = generate(Recipe("logs", WORLD, SESSIONS, 0, {"random": 1.0}), Folder(str(tmp_path)))
    spec, rows = dataset.spec, dataset.read()
    greedy = behaviour_policy(Behaviour(scorer="greedy"), spec)
    truth = float(episode_returns(spec, greedy, 20_000, seed=1).mean())
    random = float(episode_returns(spec, RandomPolicy(spec.slate_size), 20_000, seed=1).mean())
    start = time.perf_counter()
    found = estimate_policies(dataset, {"greedy": greedy}, held_out_only=False).policies["greedy"]
    ours = {name: found.estimates[name].value for name in ("ips", "snips", "dm", "drl")}
    seconds = time.perf_counter() - start
    candidates = rows.candidate_features()[:, :, 0]
    best, _ = greedy.act(rows.observation(), np.random.default_rng(0))
    assert (best[:, 0] == candidates.argmax(axis=1)).all()
    observations = np.column_stack([rows.user, spec.horizon - rows.step, candidates])
    np.savez(
        tmp_path / "logs.npz",
        observations=observations.astype(np.float32),
        action=rows.slate[:, 0].astype(np.int64),
        best=best[:, 0],
        reward=rows.reward.astype(np.float64),
        pscore=np.full((len(rows), 1), 1 / spec.num_candidates),
        actions=spec.num_candidates,
        steps=spec.horizon,
    )
    theirs, told = {}, ""
    if SCOPE_RL:
        done = subprocess.run(
            [SCOPE_RL, str(SEQUENCES), str(tmp_path / "logs.npz"), str(UPDATES)],
            check=True, capture_output=True, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        other = json.loads(done.stdout.splitlines()[-1])
        theirs = other["values"]
        told = f"; SCOPE-RL {other['weighted']:.1f} for weights, {other['modelled']:.0f} for dm, dr"
    with capsys.disabled():
        print(
            f"\n{SESSIONS} sessions of random in {WORLD}: {random:.1f}; greedy earns {truth:.1f};"
            f" load {psutil.getloadavg()[0]:.1f}"
        )
        print("| estimator | ours | SCOPE-RL |\n|---|---|---|")
        for name in dict.fromkeys([*ours, *theirs]):
            one, two = (f"{v[name]:.1f}" if name in v else "" for v in (ours, theirs))
            print(f"| {name} | {one} | {two} |")
        print(f"seconds: {seconds:.1f}{told}")
