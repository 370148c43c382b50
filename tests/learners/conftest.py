"""Logs to learn from: generated, or made by a test step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
import pytest

from slateflow.environments import EnvironmentSpec, preset
from slateflow.learners.rllib.quiet import quiet_rllib
from slateflow.trajectories import Dataset, Folder, Recipe, generate
from slateflow.trajectories.files.part_files import PartFile
from slateflow.trajectories.schema import Trajectories, column_digest, to_table
from slateflow.validation import validated

MakeLogs = Callable[..., Dataset]


@pytest.fixture(scope="session")
def logs(tmp_path_factory) -> Dataset:
    """200 episodes of the default recipe."""
    recipe = Recipe("logs", "modified-lts-20-2", 200, 7, {"random": 0.5, "greedy": 0.5})
    return generate(recipe, Folder(str(tmp_path_factory.mktemp("logs"))))


SMALL = Recipe(
    "small",
    "modified-lts-10-1",
    60,
    3,
    {"random": 0.5, "greedy": 0.5},
    {"num_candidates": 4, "time_budget": 10},
)
"""Few candidates and short episodes, in two parts."""


@pytest.fixture(scope="session")
def default_logs(tmp_path_factory) -> Dataset:
    """The default recipe, all 2,000 episodes."""
    recipe = Recipe("default", "modified-lts-20-2", 2000, 7, {"random": 0.5, "greedy": 0.5})
    return generate(recipe, Folder(str(tmp_path_factory.mktemp("default"))))


@pytest.fixture(scope="session")
def small_logs(tmp_path_factory) -> Dataset:
    """The dataset of `SMALL`, which tests do not change."""
    return generate(SMALL, Folder(str(tmp_path_factory.mktemp("small"))))


@pytest.fixture(scope="session")
def make_logs(tmp_path_factory) -> MakeLogs:
    """Publish given steps of E episodes of T steps as a dataset, in `parts` files.

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


@validated
class MadeUpSpec(EnvironmentSpec):
    """A world without dynamics, for logs of any size."""

    world: ClassVar[str] = "made_up"
    response_columns: ClassVar[tuple[str, ...]] = ()
    user_chooses: ClassVar[bool] = False

    users: int = 0
    documents: int = 1
    steps: int = 1

    @property
    def user_size(self) -> int:
        return self.users

    @property
    def document_size(self) -> int:
        return self.documents

    @property
    def horizon(self) -> int:
        return self.steps


@pytest.fixture
def make_sessions(tmp_path) -> MakeLogs:
    """Publish sessions of any length as a dataset of a world without dynamics.

    user is a list of (T, U), candidates of (T, N, D), action, reward and clicked of (T,), an item
    for each session. Sessions that are shorter than the longest end by themselves.
    """

    def make(candidates, action, reward, user=None, clicked=None) -> Dataset:
        lengths = [len(one) for one in action]
        count, documents = candidates[0].shape[1:]
        user = [np.zeros((length, 0)) for length in lengths] if user is None else user
        clicked = [np.zeros(length) for length in lengths] if clicked is None else clicked
        spec = MadeUpSpec("made-up", count, 1, True, user[0].shape[1], documents, max(lengths))
        step = np.concatenate([np.arange(length) for length in lengths]).astype(np.int32)
        rows = sum(lengths)
        last = np.zeros(rows, bool)
        last[np.cumsum(lengths) - 1] = True
        logged = Trajectories(
            episode=np.repeat(np.arange(len(lengths)), lengths),
            step=step,
            user=np.concatenate(user).astype(np.float32),
            candidates=np.concatenate(candidates).astype(np.float32),
            slate=np.concatenate(action)[:, None].astype(np.int32),
            propensity=np.full(rows, 1 / count),
            clicked=np.concatenate(clicked).astype(np.int32),
            reward=np.concatenate(reward).astype(np.float32),
            responses={},
            terminated=last,
            truncated=np.zeros(rows, bool),
        )
        folder = Folder(str(tmp_path))
        path = "policy=random/part-00000.parquet"
        _write(folder, path, to_table(logged, spec, {}))
        part = PartFile(path, "random", 0, len(lengths), rows, column_digest(logged))
        return Dataset(folder, spec, {}, (part,)).publish()

    return make


def _write(folder: Folder, path: str, table) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    folder.write(path, memoryview(sink.getvalue()))


@pytest.fixture
def quiet() -> Iterator[None]:
    """Ignore RLlib's own deprecations."""
    with quiet_rllib():
        yield
