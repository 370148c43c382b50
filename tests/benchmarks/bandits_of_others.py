"""MABWiser and Vowpal Wabbit on the benchmark's logs; runs in an environment of its own.

Reads `logs.npz` from a folder, and writes `<name>.npz` there: scores (T, N) of the requested
candidates, and the seconds of each pass of learning and of predicting. The times exclude writing
lines of text for Vowpal Wabbit.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def measure(
    folder: Path, name: str, passes: int, make: Callable, learn: Callable, predict: Callable
) -> None:
    """Time a fresh model's learning and predicting, pass by pass."""
    seconds = []
    for _ in range(passes):
        model = make()
        start = time.perf_counter()
        learn(model)
        learnt = time.perf_counter()
        scores = predict(model)
        seconds.append((learnt - start, time.perf_counter() - learnt))
    np.savez(folder / f"{name}.npz", scores=scores, seconds=seconds)


def mabwiser(folder: Path, logs: dict[str, np.ndarray], passes: int) -> None:
    """One ridge regression for each item, on the user's features."""
    from mabwiser.mab import MAB, LearningPolicy

    arms = list(range(int(logs["items"])))
    policies = {
        "mabwiser-linucb": LearningPolicy.LinUCB(alpha=0.0, l2_lambda=1.0),
        "mabwiser-lints": LearningPolicy.LinTS(alpha=1.0, l2_lambda=1.0),
    }
    for name, policy in policies.items():

        def predict(mab: MAB) -> np.ndarray:
            expected = mab.predict_expectations(logs["asked_user"])
            table = np.array([[one[arm] for arm in arms] for one in expected])
            return np.take_along_axis(table, logs["asked_item"], axis=1)

        measure(
            folder,
            name,
            passes,
            lambda policy=policy: MAB(arms, policy, seed=0),
            lambda mab: mab.fit(logs["item"], logs["reward"], logs["user"]),
            predict,
        )


VOWPAL_WABBIT = {
    "": "",
    "-coin": "--coin",
    "-constant-rate": "--learning_rate 0.1 --power_t 0",
    "-doubly-robust": "--cb_type dr",
}
"""Settings beside the defaults, by suffix of the name: step sizes by coin betting, a constant step
size, and the other estimate of costs."""


def vowpal_wabbit(folder: Path, logs: dict[str, np.ndarray], passes: int) -> None:
    """`cb_adf` with the products of user and candidate, and of each with itself."""
    from vowpalwabbit import Workspace

    def numbers(features: np.ndarray) -> str:
        return " ".join(f"{i}:{value:.6g}" for i, value in enumerate(features) if value)

    def example(user, candidates, label: Callable[[int], str]) -> str:
        lines = [f"shared |u {numbers(user)}"]
        lines += [f"{label(n)}|a {numbers(one)}" for n, one in enumerate(candidates)]
        return "\n".join(lines) + "\n"

    def labelled(i: int) -> Callable[[int], str]:
        cost, share = -logs["reward"][i], logs["propensity"][i]
        return lambda n: f"0:{cost:g}:{share:g} " if n == logs["action"][i] else ""

    rows, asked = range(len(logs["user"])), range(len(logs["asked_user"]))
    texts = [example(logs["user"][i], logs["candidates"][i], labelled(i)) for i in rows]
    questions = [
        example(logs["asked_user"][i], logs["asked_candidates"][i], lambda n: "") for i in asked
    ]

    def predict(vw: Workspace) -> np.ndarray:
        scores = np.zeros(logs["asked_candidates"].shape[:2])
        for i, question in enumerate(questions):
            for action, share in enumerate(vw.predict(question)):
                scores[i, action] = share
        return scores

    def learn(vw: Workspace) -> None:
        for text in texts:
            vw.learn(text)

    # All probability on the best action, so that shares rank; by default it explores
    common = "--cb_explore_adf --epsilon 0 --interactions ua --interactions aa --interactions uu"
    for added, setting in VOWPAL_WABBIT.items():
        measure(
            folder,
            f"vowpal-wabbit{added}",
            passes,
            lambda setting=setting: Workspace(f"{common} {setting} --quiet"),
            learn,
            predict,
        )


if __name__ == "__main__":
    where, count = Path(sys.argv[1]), int(sys.argv[2])
    with np.load(where / "logs.npz") as stored:
        everything = {name: stored[name] for name in stored.files}
    if everything["items"]:
        mabwiser(where, everything, count)
    vowpal_wabbit(where, everything, count)
