"""Rows streamed through Ray Data equal those of the in-memory reader."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from slateflow.learners import learner_config, train
from slateflow.learners.rllib.cluster import cluster
from slateflow.learners.rllib.quiet import quiet_rllib
from slateflow.trajectories import Dataset, Folder, Recipe, generate
from slateflow.trajectories.files.hold_out import BY_PLACE
from slateflow.trajectories.sources import publish
from slateflow.user_models.session_memory import NOTHING, SessionMemory
from tests.trajectories.sources.shop import log, published

with quiet_rllib():
    from slateflow.learners.rllib.input import InputOptions, read_tensors
    from slateflow.learners.rllib.stream import StreamIterator, exceeds_memory

ray_leaves_sockets = pytest.mark.filterwarnings("ignore")


def logs(folder, environment: str = "modified-lts-10-1") -> Dataset:
    """1,207 episodes of 4 steps, in parts of 500 and less."""
    parameters = {"num_candidates": 3, "time_budget": 4}
    shares = {"random": 0.45, "greedy": 0.55}
    return generate(Recipe("some", environment, 1207, 0, shares, parameters), Folder(str(folder)))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return logs(tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def ray():
    """Two processors."""
    with quiet_rllib(), cluster(1):
        yield


def drawn(iterator: StreamIterator, batch_size: int, epochs: int = 1) -> list[dict]:
    source = iterator.iter_torch_batches(batch_size=batch_size)
    return [batch for _ in range(epochs) for batch in source]


def in_order(batches: list) -> np.ndarray:
    """All columns of all rows as one array, sorted: (R, columns).

    Without next observations after an episode's end, which learners ignore.
    """
    columns = sorted(batches[0])
    for batch in batches:
        batch["default_policy/new_obs"][batch["default_policy/terminateds"]] = 0.0
    rows = np.concatenate(
        [
            np.column_stack([np.asarray(batch[name], dtype=np.float64) for name in columns])
            for batch in batches
        ]
    )
    return rows[np.lexsort(rows.T)]


@ray_leaves_sockets
@pytest.mark.slow
@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize(
    ("environment", "memory", "hold_out"),
    [
        ("modified-lts-10-1", NOTHING, False),
        ("lts-10-1", SessionMemory((0.7,)), True),
        ("lts-10-1", SessionMemory((0.7,), items=False), True),
    ],
)
def test_rows_and_targets_are_those_of_the_reader_in_memory(
    tmp_path, environment, memory, hold_out
):
    dataset = logs(tmp_path, environment)
    options = InputOptions(3, 0, memory=memory, hold_out=hold_out)
    held = read_tensors(dataset.path, options)
    rows = len(held["actions"])
    batches = drawn(StreamIterator(dataset.path, options), 17)
    assert all(len(batch["default_policy/actions"]) == 17 for batch in batches)
    assert len(batches) == rows // 17  # the rest is left out
    whole = drawn(StreamIterator(dataset.path, options), 10**6)
    assert len(whole) == 1
    wanted = {f"default_policy/{name}": column for name, column in held.items()}
    for name, column in whole[0].items():
        assert column.dtype == wanted[name].dtype, name
    np.testing.assert_allclose(in_order(whole), in_order([wanted]), rtol=1e-6, atol=1e-6)
    logged = dataset.read()
    assert rows == (np.count_nonzero(~BY_PLACE.mask(logged)) if hold_out else len(logged))


@ray_leaves_sockets
@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_the_order_is_that_of_the_seed_and_goes_on_where_it_stood(dataset):
    def actions(**settings) -> list:
        options = InputOptions(3, settings.pop("seed", 1))
        batches = drawn(StreamIterator(dataset.path, options, **settings), 100, epochs=2)
        return [batch["default_policy/obs"].numpy() for batch in batches]

    first = actions()
    assert len(first) == 2 * (1207 * 4 // 100)
    np.testing.assert_array_equal(first, actions())
    assert not np.array_equal(first, actions(seed=2))
    half = len(first) // 2
    assert not np.array_equal(first[:half], first[half:])  # each epoch has an order of its own
    np.testing.assert_array_equal(actions(drawn=half + 5), first[half + 5 :])


@ray_leaves_sockets
@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_learners_share_the_parts(dataset):
    options = InputOptions(3, 0)
    shares = [
        drawn(StreamIterator(dataset.path, options, shard, 2), 10**6)[0] for shard in range(2)
    ]
    whole = drawn(StreamIterator(dataset.path, options), 10**6)
    np.testing.assert_array_equal(in_order(shares), in_order(whole))


def own_memory() -> int:
    """Private memory of this process in bytes."""
    return psutil.Process().memory_full_info().uss


@pytest.mark.slow
@ray_leaves_sockets
@pytest.mark.usefixtures("ray")
def test_a_stream_takes_little_memory(tmp_path):
    """1.2 million rows: a pass needs memory for its buffers, whatever the number of rows."""
    recipe = Recipe("many", "modified-lts-20-2", 10_000, 0, {"random": 1.0})
    dataset = generate(recipe, Folder(str(tmp_path)))
    options = InputOptions(12, 0)
    epochs = StreamIterator(dataset.path, options).iter_torch_batches(batch_size=512)
    before, peak, rows = own_memory(), 0, 0
    for batch in epochs:
        peak = max(peak, own_memory())
        rows += len(batch["default_policy/actions"])
    assert rows == dataset.rows // 512 * 512
    held_before = own_memory()
    columns = read_tensors(dataset.path, options)
    held = own_memory() - held_before
    assert len(columns["actions"]) == dataset.rows
    assert peak - before < held / 2


@pytest.mark.slow
@ray_leaves_sockets
@pytest.mark.usefixtures("ray")
def test_the_same_learner_trains_from_the_stream(dataset):
    settings = {"updates": 100, "batch_size": 256, "width": 8}
    streamed = learner_config("bc", max_rows_in_ram=1000, **settings)
    scorer, report = train(dataset, streamed, seed=3)
    again, _ = train(dataset, streamed, seed=3)
    np.testing.assert_array_equal(again.head, scorer.head)
    held, in_memory = train(dataset, learner_config("bc", **settings), seed=3)
    assert not np.array_equal(held.head, scorer.head)  # another order
    curves = [one.curves["policy_loss"] for one in (report, in_memory)]
    assert curves[0] == pytest.approx(curves[1], rel=0.1)


def test_what_takes_more_than_half_of_the_free_memory_streams(dataset, monkeypatch):
    rows = dataset.rows
    assert not exceeds_memory(dataset, rows)
    assert exceeds_memory(dataset, rows - 1)
    observation = 4 * (1 + 3 + 1 + 3)  # bytes: user, memory, steps left, candidates
    for free, streamed in ((8 * rows * observation + 8, False), (8 * rows * observation - 8, True)):
        found = SimpleNamespace(available=free)
        monkeypatch.setattr("psutil.virtual_memory", lambda found=found: found)
        assert exceeds_memory(dataset, 0) == streamed


def test_parts_that_are_held_out_by_time_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "PART_ROWS", 10)
    count = 50
    frame = {
        "t": range(count),
        "item": [1, 2] * (count // 2),
        "propensity": [0.5] * count,
        "reward": np.arange(count) % 3.0,
    }
    log(tmp_path, "a.parquet", frame)
    dataset = published(tmp_path, 'held_out = "last"\n[columns]\ntime = "t"')
    assert len(dataset.parts) == 5
    everything = StreamIterator(dataset.path, InputOptions(1, 0)).parts()
    training = StreamIterator(dataset.path, InputOptions(1, 0, hold_out=True)).parts()
    assert [len(part.rows()) for part in everything] == [10] * 5
    assert [len(part.rows()) for part in training] == [10] * 4
