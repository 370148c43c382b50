"""Our bandits against MABWiser's and Vowpal Wabbit's, on the same logs in the same run.

Two artificial worlds, in which the best candidate depends on the user. All choices are made for the
same users and rated by their expected rewards: random is 0, the best choice 1. Our times include
reading Parquet; the others have their input in memory.

`uv run --isolated --no-project --python 3.11 --with mabwiser --with vowpalwabbit true` puts the
others into uv's cache; without them the table has only ours.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import special

from slateflow.environments import EnvironmentSpec, preset
from slateflow.learners import learner_config, train
from slateflow.trajectories import Dataset, Folder
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.files.part_files import PartFile
from slateflow.trajectories.schema import Trajectories, column_digest, to_table
from tests.benchmarks.isolated import isolated_python

ROWS, ASKED, OFFERED, PASSES, SEEDS = 20_000, 5_000, 10, 3, range(3)
OURS = ("linucb", "lints", "logistic")
OTHERS = Path(__file__).with_name("bandits_of_others.py")

Seconds = list[tuple[float, float]]
"""Seconds of each pass for learning, and for predicting."""


@dataclass(frozen=True)
class World:
    """An artificial world of clicks.

    Attributes:
        spec: Spec of its logs.
        items: Entries of the catalogue; 0 where every candidate is new.
        worth: From users (R, U) and candidates (R, N, D) to probabilities (R, N) of a click.
    """

    spec: EnvironmentSpec
    items: int
    worth: Callable[[np.ndarray, np.ndarray], np.ndarray]


TASTES = np.random.Generator(np.random.SFC64(7)).normal(size=(10, 10))
WORLDS = {
    "10 items, each liked by other users": World(
        preset("interest-evolution", num_features=10, num_candidates=OFFERED, slate_size=1),
        10,
        lambda user, items: special.expit(-2 + np.einsum("ru,ui,rni->rn", user, TASTES, items)),
    ),
    "candidates of one number, liked near the user's": World(
        preset("modified-lts-10-1", num_candidates=OFFERED),
        0,
        lambda user, candidates: special.expit(
            -1 + 2 * user - 12 * np.square(candidates[:, :, 0] - user)
        ),
    ),
}


def draw(world: World, rows: int, rng: np.random.Generator):
    """Users (R, U), and candidates (R, N, D) with their items (R, N), distinct."""
    if not world.items:
        return rng.random((rows, 1)), rng.random((rows, OFFERED, 1)), np.zeros((rows, OFFERED), int)
    items = rng.permuted(np.tile(np.arange(world.items), (rows, 1)), axis=1)[:, :OFFERED]
    return rng.uniform(-1, 1, (rows, 10)), np.eye(world.items)[items], items


def published(world: World, folder: Folder, columns: dict[str, np.ndarray]) -> Dataset:
    """The logged steps as a dataset, each a session of its own."""
    rows, spec = len(columns["action"]), world.spec
    reward = columns["reward"].astype(np.float32)
    offered = columns["offered"] if world.items else columns["candidates"]
    logged = Trajectories(
        episode=np.arange(rows),
        step=np.zeros(rows, np.int32),
        user=columns["user"].astype(np.float32),
        candidates=offered.astype(np.int32 if world.items else np.float32),
        slate=columns["action"][:, None].astype(np.int32),
        propensity=columns["propensity"],
        clicked=np.where(reward > 0, 0, -1).astype(np.int32),
        reward=reward,
        responses={name: np.zeros(rows, np.float32) for name in spec.response_columns},
        terminated=np.ones(rows, np.bool_),
        truncated=np.zeros(rows, np.bool_),
        catalogue=Catalogue.of_world(spec),
    )
    path, sink = "policy=random/part-00000.parquet", pa.BufferOutputStream()
    pq.write_table(to_table(logged, spec, {}), sink, write_page_checksum=True)
    folder.write(path, memoryview(sink.getvalue()))
    part = PartFile(path, "random", 0, rows, rows, column_digest(logged))
    return Dataset(folder, spec, {}, (part,)).publish()


def logged_columns(world: World, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Logs of random choices, and further users and candidates to ask for."""
    user, candidates, offered = draw(world, ROWS, rng)
    asked_user, asked, asked_item = draw(world, ASKED, rng)
    action, row = rng.integers(0, OFFERED, ROWS), np.arange(ROWS)
    reward = (rng.random(ROWS) < world.worth(user, candidates)[row, action]).astype(float)
    return {
        "user": user, "candidates": candidates, "offered": offered, "action": action,
        "item": offered[row, action], "reward": reward, "items": np.array(world.items),
        "propensity": np.full(ROWS, 1 / OFFERED), "asked_user": asked_user,
        "asked_candidates": asked, "asked_item": asked_item,
    }  # fmt: skip


def share(scores: np.ndarray, expected: np.ndarray) -> float:
    """Share of the way from random to the best choices that these scores (R, N) reach."""
    earned = expected[np.arange(len(scores)), scores.argmax(axis=1)].mean()
    return float((earned - expected.mean()) / (expected.max(axis=1) - expected.mean()).mean())


def table(title: str, reached: dict[str, list[float]], seconds: dict[str, Seconds]) -> list[str]:
    """The lines to print: shares that were reached, and speeds beside those of linucb."""
    medians = {name: np.median(pairs, axis=0) for name, pairs in seconds.items()}
    ours = medians["linucb"]
    lines = [
        "",
        f"{title}: {ROWS:,} logged rows, {ASKED:,} asked for, {OFFERED} candidates; medians of "
        f"{PASSES} passes of {len(SEEDS)} seeds; load {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} processors",
        "| bandit | reached, min | median | rows/s learnt | of linucb's | rows/s asked "
        "| of linucb's |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (learning, predicting) in medians.items():
        lines.append(
            f"| {name} | {min(reached[name]):.3f} | {np.median(reached[name]):.3f} "
            f"| {ROWS / learning:,.0f} | {ours[0] / learning:.3g} "
            f"| {ASKED / predicting:,.0f} | {ours[1] / predicting:.3g} |"
        )
    return lines


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("title", WORLDS)
def test_bandits_beside_others(title, tmp_path, capsys):
    world, command = WORLDS[title], isolated_python("mabwiser", "vowpalwabbit")
    reached: dict[str, list[float]] = {}
    seconds: dict[str, Seconds] = {}
    for seed in SEEDS:
        columns = logged_columns(world, np.random.Generator(np.random.SFC64(seed)))
        asked_user, asked = columns["asked_user"], columns["asked_candidates"]
        folder = tmp_path / str(seed)
        folder.mkdir()
        np.savez(folder / "logs.npz", **columns)
        expected = world.worth(asked_user, asked)
        dataset = published(world, Folder(str(folder / "logs")), columns)
        for learner in OURS:
            for _ in range(PASSES):
                scorer, report = train(dataset, learner_config(learner), seed)
                start = time.perf_counter()
                scores = scorer.scores(asked_user, np.zeros(ASKED, int), asked)
                took = (report.train_seconds, time.perf_counter() - start)
                seconds.setdefault(learner, []).append(took)
            reached.setdefault(learner, []).append(share(scores, expected))
        if command:
            subprocess.run([*command, str(OTHERS), str(folder), str(PASSES)], check=True)
        for path in sorted(folder.glob("[mv]*.npz")):
            with np.load(path) as found:
                seconds.setdefault(path.stem, []).extend(map(tuple, found["seconds"]))
                reached.setdefault(path.stem, []).append(share(found["scores"], expected))
    lines = table(title, reached, seconds)
    if not command:
        lines.append("MABWiser and Vowpal Wabbit are not in uv's cache; see this file's beginning")
    with capsys.disabled():
        print(*lines, sep="\n")
    assert all(len(values) == len(SEEDS) for values in reached.values())
