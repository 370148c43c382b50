"""Logs to learn from: generated ones, and ones that a test makes up step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from slateflow.environments import preset
from slateflow.learners.rllib.quiet import quiet_rllib
from slateflow.trajectories import Dataset, Folder, Recipe, generate
from slateflow.trajectories.files.part_files import PartFile
from slateflow.trajectories.schema import Trajectories, column_digest, to_table

MakeLogs = Callable[..., Dataset]


@pytest.fixture(scope="session")
def logs(tmp_path_factory) -> Dataset:
    """200 episodes of the default recipe."""
    recipe = Recipe("logs", "modified-lts-20-2", 200, 7, {"random": 0.5, "greedy": 0.5})
    return generate(recipe, Folder(str(tmp_path_factory.mktemp("logs"))))


@pytest.fixture(scope="session")
def default_logs(tmp_path_factory) -> Dataset:
    """The default recipe, all 2,000 episodes."""
    recipe = Recipe("default", "modified-lts-20-2", 2000, 7, {"random": 0.5, "greedy": 0.5})
    return generate(recipe, Folder(str(tmp_path_factory.mktemp("default"))))


@pytest.fixture(scope="session")
def small_logs(tmp_path_factory) -> Dataset:
    """Few candidates and short episodes, in two parts."""
    recipe = Recipe(
        "small",
        "modified-lts-10-1",
        60,
        3,
        {"random": 0.5, "greedy": 0.5},
        {"num_candidates": 4, "time_budget": 10},
    )
    return generate(recipe, Folder(str(tmp_path_factory.mktemp("small"))))


@pytest.fixture(scope="session")
def make_logs(tmp_path_factory) -> MakeLogs:
    """Publish made-up steps of E episodes of T steps as a dataset, in `parts` files.

    user is (E, T), candidates (E, T, N), action and reward (E, T); all slates hold one document.
    """

    def make(user, candidates, action, reward, clicked=None, parts: int = 1) -> Dataset:
        episodes, steps = np.shape(action)
        count = np.shape(candidates)[2]
        spec = preset("modified-lts-10-1", num_candidates=count, time_budget=steps)
        folder = Folder(str(tmp_path_factory.mktemp("made")))
        clicked = np.zeros((episodes, steps)) if clicked is None else clicked
        written = []
        for number, chosen in enumerate(np.array_split(np.arange(episodes), parts)):
            rows = len(chosen) * steps
            step = np.tile(np.arange(steps, dtype=np.int32), len(chosen))
            watched = np.asarray(reward)[chosen].reshape(rows).astype(np.float32)
            logged = Trajectories(
                episode=np.repeat(chosen, steps),
                step=step,
                user=np.asarray(user)[chosen].reshape(rows, 1).astype(np.float32),
                candidates=np.asarray(candidates)[chosen]
                .reshape(rows, count, 1)
                .astype(np.float32),
                slate=np.asarray(action)[chosen].reshape(rows, 1).astype(np.int32),
                propensity=np.full(rows, 1 / count),
                clicked=np.asarray(clicked)[chosen].reshape(rows).astype(np.int32),
                reward=watched,
                responses={"watch_time": watched},
                terminated=step == steps - 1,
                truncated=np.zeros(rows, dtype=np.bool_),
            )
            path = f"policy=random/part-{number:05d}.parquet"
            _write(folder, path, to_table(logged, spec, {}))
            written.append(
                PartFile(path, "random", number, len(chosen), rows, column_digest(logged))
            )
        return Dataset(folder, spec, {}, tuple(written)).publish()

    return make


def _write(folder: Folder, path: str, table) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    folder.write(path, memoryview(sink.getvalue()))


@pytest.fixture
def quiet() -> Iterator[None]:
    """RLlib's own deprecations are not ours to answer for."""
    with quiet_rllib():
        yield
