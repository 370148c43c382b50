"""A dataset as files of other libraries, with observations and actions as in `flat_rows`."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from slateflow.errors import InputError, refused, unknown
from slateflow.trajectories.exchange.flat_rows import (
    FlatRows,
    flat_rows,
    observation_box,
    slate_count,
)
from slateflow.trajectories.files.dataset import Dataset

D3RLPY_FILE = "dataset.h5"
_D3RLPY_VERSION = "2.1"
_D3RLPY_COLUMNS = ("observations", "actions", "rewards", "terminated")


def export(dataset: Dataset, kind: str, out: Path) -> Path:
    """Write the dataset for another library, one part in memory at a time.

    The folder appears once it is complete. An existing folder is not touched.

    Args:
        dataset: The dataset to write.
        kind: One of `FORMATS`.
        out: Folder to create.

    Raises:
        InputError: The format is unknown or its library missing, `out` exists or cannot be
            written, or the dataset is damaged.
    """
    if kind not in FORMATS:
        raise unknown("format", kind, list(FORMATS))
    with _appearing(out) as folder:
        FORMATS[kind](dataset, folder)
        source = {"dataset": dataset.path, "digest": dataset.digest, "format": kind}
        (folder / "slateflow.json").write_text(json.dumps({**source, "recipe": dataset.recipe}))
    return out


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    if out.exists():
        raise InputError(
            f"{out}: expected a folder that does not exist yet, found one; name another"
        )
    temporary = out.absolute().with_name(f".{out.name}.{uuid4().hex}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(out)
    except OSError as error:
        raise InputError(
            f"cannot write {out}: {error.strerror or error}; make room there or choose another "
            "folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _to_rllib(dataset: Dataset, folder: Path) -> None:
    """Parquet in which a row is a whole episode, RLlib's `SampleBatch`.

    RLlib reads it with `config.offline_data(input_=[OUT], input_read_sample_batches=True)`. RLlib
    also reads rows of single steps, but takes each for an episode, which makes its value targets
    wrong, and packed episodes, which need a package that Ray does not install.
    """
    slate_count(dataset.spec)
    for number, flat in enumerate(flat_rows(dataset)):
        rows, offsets = flat.rows, pa.array(flat.first, pa.int32())

        def by_episode(values: Any, offsets: pa.Array = offsets) -> pa.Array:
            return pa.ListArray.from_arrays(offsets, values)

        columns = {
            "eps_id": by_episode(pa.array(rows.episode)),
            "t": by_episode(pa.array(rows.step)),
            "obs": by_episode(_vectors(flat.observations)),
            "new_obs": by_episode(_vectors(flat.next_observations)),
            "actions": by_episode(pa.array(flat.actions)),
            "rewards": by_episode(pa.array(rows.reward)),
            "terminateds": by_episode(pa.array(rows.terminated)),
            "truncateds": by_episode(pa.array(rows.truncated)),
            "action_logp": by_episode(pa.array(np.log(rows.propensity).astype(np.float32))),
        }
        pq.write_table(pa.table(columns), folder / f"episodes-{number:05d}.parquet")


def _vectors(values: np.ndarray[Any, Any]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * values.shape[1])
    return pa.ListArray.from_arrays(offsets, flat)


def _to_d3rlpy(dataset: Dataset, folder: Path) -> None:
    """HDF5 as d3rlpy 2 dumps a replay buffer.

    `d3rlpy.dataset.ReplayBuffer.load(open("OUT/dataset.h5", "rb"), InfiniteBuffer())` reads it.
    An episode that was cut off has `terminated` false, which d3rlpy reads as a timeout.
    """
    h5py = _library("h5py")
    slate_count(dataset.spec)
    with h5py.File(folder / D3RLPY_FILE, "w") as file:
        count = 0
        for flat in flat_rows(dataset):
            for span in flat.spans:
                episode = (
                    flat.observations[span],
                    flat.actions[span, None],
                    flat.rows.reward[span, None],
                    flat.rows.terminated[span][-1],
                )
                for name, values in zip(_D3RLPY_COLUMNS, episode, strict=True):
                    file.create_dataset(f"{name}_{count}", data=values)
                count += 1
        file.create_dataset("columns", data=list(_D3RLPY_COLUMNS))
        file.create_dataset("num_episodes", data=count)
        file.create_dataset("version", data=_D3RLPY_VERSION)


def _to_minari(dataset: Dataset, folder: Path) -> None:
    """A Minari dataset, written by Minari: `minari.MinariDataset("OUT/data")` reads it.

    Actions are slates (`MultiDiscrete`). The user's response is in the infos. These have an entry
    before the first step, in which propensity and responses are NaN and `clicked` is −1.
    """
    minari = _library("minari")
    import gymnasium as gym
    from minari.dataset.minari_storage import MinariStorage

    spec = dataset.spec
    storage = MinariStorage.new(
        folder / "data",
        observation_space=observation_box(spec),
        action_space=gym.spaces.MultiDiscrete([spec.num_candidates] * spec.slate_size),
        data_format="hdf5",
    )
    count = 0
    for flat in flat_rows(dataset):
        storage.update_episodes(_minari_episodes(flat, count))
        count += len(flat.first) - 1
    storage.update_metadata(
        {
            "minari_version": minari.__version__,
            "dataset_id": f"slateflow/{spec.name}-v0",
            "algorithm_name": ", ".join(dict.fromkeys(part.policy for part in dataset.parts)),
            "description": f"Slateflow dataset {dataset.digest}",
        }
    )


def _minari_episodes(flat: FlatRows, first: int) -> Iterator[Any]:
    from minari.data_collector.episode_buffer import EpisodeBuffer

    rows = flat.rows
    logged: dict[str, Any] = {"propensity": rows.propensity, **rows.responses}
    for number, span in enumerate(flat.spans):
        end = flat.next_observations[span][-1:]
        infos: dict[str, Any] = {
            name: np.concatenate([[np.nan], values[span]]) for name, values in logged.items()
        }
        infos["clicked"] = np.concatenate([[-1], rows.clicked[span]])
        yield EpisodeBuffer(
            id=first + number,
            observations=np.concatenate([flat.observations[span], end]),
            actions=rows.slate[span].astype(np.int64),
            rewards=rows.reward[span],
            terminations=rows.terminated[span],
            truncations=rows.truncated[span],
            infos=infos,
        )


def _library(name: str) -> Any:
    remedy = "install it with `uv pip install 'slateflow[export]'`"
    with refused(f"{name}: expected the package for this format", ImportError, remedy=remedy):
        return importlib.import_module(name)


FORMATS: dict[str, Callable[[Dataset, Path], None]] = {
    "rllib": _to_rllib,
    "minari": _to_minari,
    "d3rlpy": _to_d3rlpy,
}
