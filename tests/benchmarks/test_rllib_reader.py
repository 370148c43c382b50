"""Our reader of datasets against RLlib's own, on the same rows in the same run.

RLlib's builds an episode object for every row. The comparison has only its loop over the rows, in
this process, with rows that have been read and decoded: less than its users wait for. One pass as
they run it, through Ray Data and its actors, is timed, too.
"""

from __future__ import annotations

import time
import warnings

import gymnasium as gym
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slateflow.learners.rllib.quiet import quiet_rllib
from slateflow.trajectories import Dataset, Folder, Recipe, generate

WINDOW, BATCH, PASSES = 12, 512, 3


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    """The default recipe, 240,000 steps."""
    recipe = Recipe("rows", "modified-lts-20-2", 2000, 0, {"random": 0.5, "greedy": 0.5})
    return generate(recipe, Folder(str(tmp_path_factory.mktemp("rows"))))


@pytest.fixture
def local_ray(monkeypatch):
    """Ray in this machine's memory, with no more than RLlib's reader needs."""
    # Ray would start every worker like this process, `uv run` and all.
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    with quiet_rllib(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray leaves sockets and files to the garbage collector
        import ray

        ray.init(
            address="local",
            num_cpus=4,  # a count: a read and an actor wait for one of their own
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
        try:
            yield
        finally:
            ray.shutdown()


def our_reader(dataset: Dataset, scale) -> int:
    """Read an epoch of minibatches from Parquet; returns the number of rows.

    With a scale of None the model of the rewards is fitted, too, which RLlib's reader lacks.
    """
    from slateflow.learners.rllib.input import ColumnIterator, InputOptions, train_columns

    columns = train_columns(Dataset.open(dataset.path).read(), dataset.spec, WINDOW, scale)
    source = ColumnIterator(columns, InputOptions(WINDOW, seed=0))
    return sum(
        len(batch["default_policy/actions"])
        for batch in source.iter_torch_batches(batch_size=BATCH)
    )


def rllib_config(dataset: Dataset, path: str):
    """BC over rows in RLlib's own schema, with its default reader."""
    from ray.rllib.algorithms.bc import BCConfig
    from ray.rllib.connectors.learner import AddNextObservationsFromEpisodesToTrainBatch

    from slateflow.learners.features import flat_observation_space

    return (
        BCConfig()
        .environment(
            observation_space=flat_observation_space(dataset.spec),
            action_space=gym.spaces.Discrete(dataset.spec.num_candidates),
        )
        .training(
            train_batch_size_per_learner=BATCH,
            learner_connector=lambda *_: [AddNextObservationsFromEpisodesToTrainBatch()],
        )
        .learners(num_learners=0)
        .offline_data(
            input_=[path],
            # By default two actors, which would leave the files no processor of these two.
            map_batches_kwargs={"concurrency": 1},
            # Every pass reads the rows; otherwise processed ones would stay in memory.
            materialize_data=False,
            materialize_mapped_data=False,
            dataset_num_iters_per_learner=1,
        )
    )


def rate(run) -> float:
    """Rows per second of this process's processor time, the median of the passes."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a training
    rates = []
    for _ in range(PASSES):
        start = time.process_time()
        handed_out = run()
        rates.append(handed_out / (time.process_time() - start))
    torch.set_num_threads(threads)
    return float(np.median(rates))


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("local_ray")
def test_reading_rows_for_rllib(dataset, tmp_path, capsys):
    from ray.rllib.offline.offline_prelearner import OfflinePreLearner

    from slateflow.learners.rllib.input import train_columns
    from slateflow.user_models.reward_model import RewardScale

    ours = train_columns(dataset.read(), dataset.spec, WINDOW)
    rows = {name: ours[name].numpy() for name in ("obs", "new_obs", "actions", "rewards")}
    rows |= {"terminateds": ours["terminateds"].numpy(), "truncateds": np.zeros(dataset.rows, bool)}
    table = {name: list(v) if v.ndim == 2 else v for name, v in rows.items()}
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")

    # As RLlib runs it.
    algorithm = rllib_config(dataset, str(tmp_path)).build_algo()
    start = time.perf_counter()
    (source,) = algorithm.offline_data.sample(BATCH, return_iterator=True, num_shards=0)
    theirs = list(source.iter_batches(batch_size=None))
    through_ray = time.perf_counter() - start
    for name, values in rows.items():
        read = np.concatenate([np.asarray(batch[f"default_policy/{name}"]) for batch in theirs])
        np.testing.assert_array_equal(read, values)

    # The loop over the rows alone, which have been read and decoded before.
    config = algorithm.config.copy(copy_frozen=False)
    config.rl_module(rl_module_spec=algorithm.offline_data.module_spec)
    reader = OfflinePreLearner(
        config=config, spaces=(config.observation_space, config.action_space)
    )
    algorithm.stop()

    def loop() -> int:
        for first in range(0, dataset.rows, BATCH):
            reader({name: values[first : first + BATCH] for name, values in rows.items()})
        return dataset.rows

    scale = RewardScale.from_rows(dataset.read())
    ours_rate = rate(lambda: our_reader(dataset, scale))
    modelling = rate(lambda: our_reader(dataset, None))
    loop_rate = rate(loop)
    lines = [
        f"{dataset.rows:,} rows to minibatches of {BATCH}; rows per second of the processor,",
        f"medians of {PASSES} passes",
        f"ours, from Parquet                     {ours_rate:10,.0f}",
        f"ours, with a reward model fitted, too  {modelling:10,.0f}",
        f"RLlib's, its loop over the rows alone  {loop_rate:10,.0f}",
        f"ratio                                  {ours_rate / loop_rate:10,.0f}",
        f"RLlib's, one pass through Ray Data with the start of its actors: {through_ray:.1f} s",
    ]
    with capsys.disabled():
        print("", *lines, sep="\n")
