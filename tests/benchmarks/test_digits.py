"""Handwritten digits, and smaller data, as bandits: the truth is known exactly.

A picture is a user, a guess is an item, and a right guess pays 1 (Dudík, Langford and Li 2011,
section 5.1). The log has guesses of a logistic regression, a fifth of them random; the value of a
random forest is estimated. The Open Bandit Pipeline's example has the same set-up; its published
relative errors are shown beside ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from slateflow.environments import Observation
from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.learners import learner_config, train
from slateflow.policies import ScoringPolicy
from slateflow.trajectories import Dataset
from slateflow.trajectories.held_out import training_logs
from tests.evaluation.off_policy.shop import ByFirstPlace
from tests.trajectories.sources.shop import log, published

PUBLISHED = {"ips": 0.030, "snips": 0.023, "dr": 0.0162, "dr-os": 0.0159}
LOGS = 20
LEARNERS = ("linucb", "logistic", "fitted-q")
SMALL = {"iris": load_iris, "wine": load_wine, "cancer": load_breast_cancer}


class Guesses(ByFirstPlace):
    """A classifier's guess with probability `sure`, otherwise any of the kinds."""

    def __init__(self, classifier: Any, sure: float) -> None:
        self.classifier, self.sure = classifier, sure

    def first_place(self, observation: Observation) -> NDArray[np.float64]:
        """Probabilities (B, M)."""
        return self.probabilities(observation["user"])

    def probabilities(self, pictures: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities (B, M) for pictures (B, F)."""
        guess = self.classifier.predict(np.asarray(pictures, np.float64))
        kinds = len(self.classifier.classes_)
        return self.sure * np.eye(kinds)[guess] + (1 - self.sure) / kinds


def logged(folder: Path, logging: Guesses, pictures: Any, digits: Any, seed: int) -> Dataset:
    """Guesses of the logging policy, as a dataset."""
    rng, probability = np.random.default_rng(seed), logging.probabilities(pictures)
    guess = (rng.random(len(digits))[:, None] > np.cumsum(probability, axis=1)).sum(axis=1)
    columns = {
        "picture": list(pictures),
        "item": guess,
        "propensity": probability[np.arange(len(digits)), guess],
        "reward": (guess == digits).astype(int),
    }
    folder.mkdir()
    log(folder, "log.parquet", columns)
    return published(folder, '[columns]\nuser = ["picture"]\n')


def right_guesses(dataset: Dataset, kinds: NDArray[Any]) -> dict[str, float]:
    """Share of right held-out guesses by learner, trained on the others."""
    rows = dataset.read()
    unseen = kinds[dataset.hold_out.mask(rows)]
    training = training_logs(dataset, dataset.folder / "training")
    asked = rows.where(dataset.hold_out.mask(rows)).observation()
    found = {}
    for learner in LEARNERS:
        shown = ScoringPolicy(train(training, learner_config(learner))[0]).first_place(asked)
        found[learner] = float(shown[np.arange(len(unseen)), unseen].mean())
    return found


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_digits_as_a_bandit(tmp_path, capsys):
    """Print relative errors of the estimators, and rewards of policies learnt from the logs."""
    pictures, digits = load_digits(return_X_y=True)
    pictures = pictures / 16
    halves = train_test_split(pictures, digits, test_size=0.7, random_state=0)
    learnt, pictures, known, digits = halves
    logging = Guesses(LogisticRegression(max_iter=2000).fit(learnt, known), 0.8)
    target = Guesses(RandomForestClassifier(random_state=0).fit(learnt, known), 0.9)
    truth = float(target.probabilities(pictures)[np.arange(len(digits)), digits].mean())
    errors: dict[str, list[float]] = {}
    held = 0
    earned: dict[str, list[float]] = {}
    for seed in range(LOGS):
        dataset = logged(tmp_path / str(seed), logging, pictures, digits, seed)
        one = estimate_policies(dataset, {"forest": target}, held_out_only=False).policies["forest"]
        for name, estimate in one.estimates.items():
            errors.setdefault(name, []).append(abs(estimate.value - truth) / truth)
        low, high = one.contributions.interval()
        held += low <= truth <= high
        if seed < 3:
            for learner, right in right_guesses(dataset, digits).items():
                earned.setdefault(learner, []).append(right)
    with capsys.disabled():
        print(f"\n{LOGS} logs of {len(digits):,} guesses; the forest earns {truth:.4f}")
        print("estimator  relative error, mean   published")
        for name, values in errors.items():
            print(f"{name:9} {np.mean(values):18.4f} {PUBLISHED.get(name, np.nan):14.4f}")
        print(f"the interval of dr holds the truth in {held} of {LOGS}")
        logs_earn = float(logging.probabilities(pictures)[np.arange(len(digits)), digits].mean())
        print(f"rewards on held-out pictures; logging policy {logs_earn:.3f}, random 0.100")
        print(pd.DataFrame(earned).round(3).to_string(index=False))


@pytest.mark.benchmark
@pytest.mark.parametrize("sure", [0.0, 0.8])
@pytest.mark.parametrize("name", SMALL)
def test_a_hundred_decisions(name, sure, tmp_path, capsys):
    """Print the share of right guesses of policies learnt from few, and of a classifier."""
    measured, kinds = SMALL[name](return_X_y=True)
    measured = (measured - measured.mean(axis=0)) / measured.std(axis=0)
    told, measured, known, kinds = train_test_split(measured, kinds, test_size=0.7, random_state=0)
    logging = Guesses(LogisticRegression(max_iter=2000).fit(told, known), sure)
    earned = pd.DataFrame(
        right_guesses(logged(tmp_path / str(seed), logging, measured, kinds, seed), kinds)
        for seed in range(10)
    )
    logs_earn = float(logging.probabilities(measured)[np.arange(len(kinds)), kinds].mean())
    with capsys.disabled():
        print(f"\n{name}: 10 logs of {len(kinds)} guesses, of which {logs_earn:.2f} are right")
        print(earned.agg(["min", "median"]).round(2).to_string())
