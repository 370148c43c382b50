"""Other libraries' readers return the logged rows."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import warnings
from pathlib import Path

import h5py
import minari
import numpy as np
import pyarrow.parquet as pq
import pytest

from slateflow.environments import preset
from slateflow.environments.slates import slate_numbers
from slateflow.errors import InputError
from slateflow.trajectories import Dataset, Folder, Recipe, generate
from slateflow.trajectories.exchange.export import FORMATS, export
from slateflow.trajectories.exchange.flat_rows import flat_rows, observation_box
from tests.slates import index_of

WORLDS = {
    "modified-lts-20-2": {"time_budget": 4},
    "lts-10-1": {"time_budget": 1},
    "interest-evolution": {"num_candidates": 5, "time_budget": 20.0},
    "interest-exploration": {"step_limit": 3},
}


@pytest.fixture(scope="module", params=WORLDS)
def dataset(request, tmp_path_factory) -> Dataset:
    """40 episodes; terminated or truncated, of one length or of several."""
    recipe = Recipe(
        "small", request.param, 40, 4, {"random": 0.5, "greedy": 0.5}, WORLDS[request.param]
    )
    return generate(recipe, Folder(str(tmp_path_factory.mktemp("data"))))


def expected(dataset: Dataset) -> list[dict]:
    """The episodes, by a plain loop over the rows."""
    rows, spec, episodes = dataset.read(), dataset.spec, []
    for row in range(len(rows)):
        if rows.step[row] == 0:
            episodes.append({name: [] for name in ("obs", "slates", "rewards", "logp", "clicked")})
        left = (spec.horizon - int(rows.step[row])) / spec.horizon
        vector = [*rows.user[row], left, *rows.candidate_features(np.array([row])).reshape(-1)]
        episodes[-1]["obs"].append(np.array(vector, dtype=np.float32))
        episodes[-1]["slates"].append(rows.slate[row])
        episodes[-1]["rewards"].append(rows.reward[row])
        episodes[-1]["logp"].append(np.log(rows.propensity[row]))
        episodes[-1]["clicked"].append(rows.clicked[row])
        episodes[-1]["terminated"] = bool(rows.terminated[row])
        episodes[-1]["truncated"] = bool(rows.truncated[row])
    for episode in episodes:
        end = episode["obs"][-1].copy()
        end[spec.user_size] = 0
        episode["obs"] = np.array([*episode["obs"], end])
        episode["numbers"] = [index_of(slate, spec.num_candidates) for slate in episode["slates"]]
    return episodes


def test_minari_reads_its_format(dataset, tmp_path):
    export(dataset, "minari", tmp_path / "out")
    read = minari.MinariDataset(tmp_path / "out" / "data")
    assert read.total_episodes == dataset.episodes
    assert read.total_steps == dataset.rows
    assert read.observation_space == observation_box(dataset.spec)
    for episode, wanted in zip(read.iterate_episodes(), expected(dataset), strict=True):
        np.testing.assert_array_equal(episode.observations, wanted["obs"])
        np.testing.assert_array_equal(episode.actions, wanted["slates"])
        np.testing.assert_array_equal(episode.rewards, wanted["rewards"])
        assert episode.terminations.tolist()[-1] is wanted["terminated"]
        assert episode.truncations.tolist()[-1] is wanted["truncated"]
        assert not (episode.terminations | episode.truncations)[:-1].any()
        assert all(read.observation_space.contains(one) for one in episode.observations)
        assert all(read.action_space.contains(action) for action in episode.actions)
        np.testing.assert_allclose(np.log(episode.infos["propensity"][1:]), wanted["logp"])
        assert episode.infos["clicked"].tolist() == [-1, *wanted["clicked"]]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_folder_is_named_from_where_one_stands(dataset, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    export(dataset, kind, Path("made", "here"))
    assert (tmp_path / "made" / "here" / "slateflow.json").is_file()
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["here"]


def test_minari_finds_the_dataset_by_its_name(dataset, tmp_path, monkeypatch):
    name = f"slateflow/{dataset.spec.name}-v0"
    (tmp_path / "slateflow").mkdir()
    export(dataset, "minari", tmp_path / name)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert minari.load_dataset(name).total_steps == dataset.rows


def test_the_layout_for_d3rlpy_is_that_of_its_dumps(dataset, tmp_path):
    export(dataset, "d3rlpy", tmp_path / "out")
    with h5py.File(tmp_path / "out" / "dataset.h5") as file:
        assert file["version"][()] == b"2.1"
        columns = [b"observations", b"actions", b"rewards", b"terminated"]
        assert file["columns"][()].tolist() == columns
        assert file["num_episodes"][()] == dataset.episodes
        assert len(file) == 3 + 4 * dataset.episodes
        for number, wanted in enumerate(expected(dataset)):
            np.testing.assert_array_equal(file[f"observations_{number}"], wanted["obs"][:-1])
            assert file[f"actions_{number}"][:, 0].tolist() == wanted["numbers"]
            assert file[f"rewards_{number}"][:, 0].tolist() == wanted["rewards"]
            assert file[f"terminated_{number}"][()] == wanted["terminated"]


D3RLPY = """
import json, sys
import d3rlpy
with open(sys.argv[1], "rb") as file:
    buffer = d3rlpy.dataset.ReplayBuffer.load(file, d3rlpy.dataset.InfiniteBuffer())
first = buffer.episodes[0]
total = sum(float(episode.rewards.sum()) for episode in buffer.episodes)
info = buffer.dataset_info
dqn = d3rlpy.algos.DiscreteBCConfig(batch_size=8).create()
dqn.fit(buffer, n_steps=2, n_steps_per_epoch=2, show_progress=False,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory())
answer = [buffer.size(), buffer.transition_count, total, info.action_space.name, info.action_size,
          first.actions[:, 0].tolist()]
print("ANSWER", json.dumps(answer))
"""


@pytest.mark.slow
def test_d3rlpy_itself_reads_and_trains_on_it(tmp_path):
    """In an isolated environment with the old gym; only if uv has it in its cache."""
    command = ["uv", "run", "--isolated", "--offline", "--no-project", "--python", "3.11"]
    command += ["--with", "d3rlpy", "python"]
    if (
        shutil.which("uv") is None
        or subprocess.run(
            [*command, "-c", "import d3rlpy"], cwd=tmp_path, capture_output=True, check=False
        ).returncode
    ):
        pytest.skip(
            "d3rlpy is not in uv's cache: uv run --isolated --no-project --with d3rlpy true"
        )
    recipe = Recipe("small", "modified-lts-10-1", 20, 4, {"random": 1}, {"time_budget": 6})
    dataset = generate(recipe, Folder(str(tmp_path)))
    export(dataset, "d3rlpy", tmp_path / "out")
    done = subprocess.run(
        [*command, "-c", D3RLPY, str(tmp_path / "out" / "dataset.h5")],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("ANSWER")]
    episodes, transitions, total, space, actions, first = json.loads(line.removeprefix("ANSWER"))
    rows = dataset.read()
    assert (episodes, transitions) == (20, dataset.rows)
    assert total == pytest.approx(float(rows.reward.sum(dtype=np.float64)), rel=1e-6)
    assert space == "DISCRETE"
    assert actions == int(rows.slate.max()) + 1
    assert first == rows.slate[:6, 0].tolist()


def test_a_row_for_rllib_is_a_whole_episode(dataset, tmp_path):
    export(dataset, "rllib", tmp_path / "out")
    files = sorted((tmp_path / "out").glob("*.parquet"))
    assert len(files) == len(dataset.parts)
    read = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert [row["eps_id"][0] for row in read] == list(range(dataset.episodes))
    for row, wanted in zip(read, expected(dataset), strict=True):
        assert len(set(row["eps_id"])) == 1
        assert row["t"] == list(range(len(wanted["rewards"])))
        np.testing.assert_array_equal(np.array(row["obs"], np.float32), wanted["obs"][:-1])
        np.testing.assert_array_equal(np.array(row["new_obs"], np.float32), wanted["obs"][1:])
        assert row["actions"] == wanted["numbers"]
        assert row["rewards"] == wanted["rewards"]
        np.testing.assert_allclose(row["action_logp"], wanted["logp"], rtol=1e-6)


def rllib_config(dataset: Dataset, out: Path):
    from gymnasium.spaces import Discrete
    from ray.rllib.algorithms.bc import BCConfig

    from slateflow.trajectories.exchange.flat_rows import slate_count

    return (
        BCConfig()
        .environment(
            observation_space=observation_box(dataset.spec),
            action_space=Discrete(slate_count(dataset.spec)),
        )
        .training(train_batch_size_per_learner=dataset.rows)
        .learners(num_learners=0)
        .offline_data(
            input_=[str(out)],
            input_read_sample_batches=True,
            map_batches_kwargs={"concurrency": 1},
            dataset_num_iters_per_learner=1,
        )
    )


def check_batches(dataset: Dataset, batches, columns: list[str]) -> None:
    """RLlib samples steps of whole episodes with replacement: all were logged, most are drawn."""
    (flat,) = flat_rows(dataset)
    logged = {
        "obs": flat.observations,
        "new_obs": flat.next_observations,
        "actions": slate_numbers(flat.rows.slate, dataset.spec.num_candidates),
        "rewards": flat.rows.reward,
        "terminateds": flat.rows.terminated,
        "action_logp": np.log(flat.rows.propensity).astype(np.float32),
    }

    def steps(values: dict) -> list[tuple[bytes, ...]]:
        arrays = [np.asarray(values[name]).astype(logged[name].dtype) for name in columns]
        return [tuple(one.tobytes() for one in step) for step in zip(*arrays, strict=True)]

    read = [
        step
        for batch in batches
        for step in steps({name: batch[f"default_policy/{name}"] for name in columns})
    ]
    assert len(read) >= dataset.rows
    assert set(read) <= set(steps(logged))
    assert len(set(read)) > 0.5 * dataset.rows


@pytest.fixture
def rllib_dataset(tmp_path) -> Dataset:
    """One part with 30 episodes."""
    recipe = Recipe("small", "modified-lts-10-1", 30, 4, {"random": 1}, {"time_budget": 4})
    return generate(recipe, Folder(str(tmp_path)))


@pytest.mark.integration
def test_rllibs_prelearner_makes_the_steps_that_were_logged(rllib_dataset, tmp_path):
    from slateflow.learners.rllib.quiet import quiet_rllib

    out = export(rllib_dataset, "rllib", tmp_path / "out")
    with quiet_rllib():
        from ray.rllib.connectors.common import AddObservationsFromEpisodesToBatch
        from ray.rllib.connectors.learner import AddNextObservationsFromEpisodesToTrainBatch
        from ray.rllib.offline.offline_prelearner import OfflinePreLearner

        config = rllib_config(rllib_dataset, out)
        spaces = (config.observation_space, config.action_space)
        named = {"__env__": spaces, "default_policy": spaces}
        config.rl_module(rl_module_spec=config.get_multi_rl_module_spec(spaces=named))
        reader = OfflinePreLearner(config=config, spaces=spaces)
        reader._learner_connector.insert_after(
            AddObservationsFromEpisodesToBatch, AddNextObservationsFromEpisodesToTrainBatch()
        )
        (file,) = out.glob("*.parquet")
        frame = pq.read_table(file).to_pandas()
        batch = reader({name: frame[name].to_numpy() for name in frame})
    columns = ["obs", "new_obs", "actions", "rewards", "terminateds"]
    check_batches(rllib_dataset, [batch], columns)


@pytest.fixture
def local_ray(monkeypatch):
    """Ray in this machine's memory."""
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    from slateflow.learners.rllib.quiet import quiet_rllib

    with quiet_rllib(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray leaves sockets and files to the garbage collector
        import ray

        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
            logging_level="ERROR",
        )  # fmt: skip
        ray.data.DataContext.get_current().enable_progress_bars = False
        try:
            yield
        finally:
            ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_rllib_reads_it_through_ray_data(rllib_dataset, tmp_path):
    out = export(rllib_dataset, "rllib", tmp_path / "out")
    algorithm = rllib_config(rllib_dataset, out).build_algo()
    try:
        (source,) = algorithm.offline_data.sample(
            rllib_dataset.rows, return_iterator=True, num_shards=0
        )
        batches = list(source.iter_batches(batch_size=None))
    finally:
        algorithm.stop()
    check_batches(rllib_dataset, batches, ["obs", "actions", "rewards"])


@pytest.mark.parametrize(("candidates", "size"), [(4, 1), (4, 2), (5, 3), (3, 3)])
def test_numbers_of_slates_are_places_among_the_permutations(candidates, size):
    slates = np.array(list(itertools.permutations(range(candidates), size)), dtype=np.int32)
    assert slate_numbers(slates, candidates).tolist() == list(range(len(slates)))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_folder_that_is_there_is_not_touched(small, kind, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"out: expected a folder that does not exist yet"):
        export(small, kind, tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]


@pytest.mark.parametrize("kind", FORMATS)
def test_of_a_damaged_dataset_nothing_is_written(copied, small, kind, tmp_path):
    part = copied / small.parts[3].path
    part.write_bytes(part.read_bytes()[:-9])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"policy=greedy/part-00000\.parquet: expected a Parquet"):
        export(Dataset.open(str(copied)), kind, tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", FORMATS)
def test_a_folder_below_a_file_is_named(small, kind, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=r"cannot write .*/file/out: Not a directory"):
        export(small, kind, tmp_path / "file" / "out")


def test_an_unknown_format_is_refused(small, tmp_path):
    with pytest.raises(InputError, match="unknown format 'csv': expected one of rllib, minari"):
        export(small, "csv", tmp_path / "out")


@pytest.mark.parametrize("kind", ["rllib", "d3rlpy"])
def test_too_many_slates_for_numbers_are_refused(kind, tmp_path):
    spec = preset("lts-20-2", num_candidates=100, slate_size=4)
    dataset = Dataset(Folder(str(tmp_path / "none")), spec, {}, ())
    with pytest.raises(InputError, match=r"expected at most 1,000,000 .* got 94,109,400 .*minari"):
        export(dataset, kind, tmp_path / "out")


def test_where_it_came_from_stands_beside_it(small, tmp_path):
    out = export(small, "d3rlpy", tmp_path / "out")
    document = json.loads((out / "slateflow.json").read_text())
    assert document["digest"] == small.digest
    assert document["recipe"] == small.recipe
