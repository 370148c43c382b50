"""RLlib's offline input for more rows than memory holds: parts that stream through Ray Data.

Ray processes read one part each, turn it into the columns that the in-memory reader gives, and hand
them on while the learner trains. An epoch is a pass over the parts in a new order, shuffled within
a buffer of rows. A part holds whole episodes, so returns and session memories are never cut off.

Free memory decides between the two readers. All rows are held where they take at most half of the
free memory (of which several workers have a share each), with four copies of the observation per
row: as read, joined, and as observation and next observation. A learner's setting `max_rows_in_ram`
replaces that limit by a number of rows. The scale of the rewards is estimated from up to
`SCALING_ROWS` rows, in parts spread evenly over the dataset; in memory it is that of all rows.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns

from slateflow.errors import InputError
from slateflow.learners.rllib.input import (
    ColumnarOfflineData,
    InputOptions,
    Tensors,
    flat,
    train_columns,
)
from slateflow.side_by_side import share_of_machine
from slateflow.trajectories.files.dataset import Dataset
from slateflow.trajectories.files.hold_out import BY_PLACE, HELD_OUT
from slateflow.trajectories.schema import Trajectories
from slateflow.trajectories.variation import check_variation
from slateflow.user_models.reward_model import RewardScale
from slateflow.user_models.session_memory import SessionMemory

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

SCALING_ROWS = 200_000
"""Most rows from which the scale of the rewards is estimated."""

BUFFER_BATCHES = 64
"""Minibatches in the buffer from which rows are drawn."""

THREADS = ("iter_threaded", "StreamingExecutor-")
"""Beginnings of the names of a pass's threads that send requests to Ray; others only answer."""

FAREWELL_SECONDS = 60.0
"""Seconds that the threads of a pass have to end."""

COPIES = 4
"""Most copies of the observations that the in-memory reader holds at once."""


def exceeds_memory(dataset: Dataset, max_rows_in_ram: int) -> bool:
    """True if there are too many rows to hold in memory; see the module."""
    if max_rows_in_ram:
        return dataset.rows > max_rows_in_ram
    spec = dataset.spec
    # Steps left, and the session memory, which logs may need
    known = spec.user_size + SessionMemory((0.0,)).size(spec.document_size) + 1
    of_each = spec.document_size if dataset.catalogue is None else 1
    features = known + spec.num_candidates * of_each
    free = psutil.virtual_memory().available * share_of_machine()
    return bool(4 * features * COPIES * dataset.rows > free / 2)


@dataclass(frozen=True)
class StreamedPart:
    """A part, and the properties of the whole dataset that are needed to read it."""

    dataset: Dataset
    earlier: int
    options: InputOptions
    scale: RewardScale | None

    @property
    def teaches(self) -> bool:
        """True if the part has an episode to train from."""
        (part,) = self.dataset.parts
        if not self.options.hold_out or not part.rows:
            return part.rows > 0
        if self.dataset.hold_out == BY_PLACE:
            places = range(self.earlier, self.earlier + part.episodes)
            return any(place % HELD_OUT != HELD_OUT - 1 for place in places)
        (rows,) = self.dataset.iter_parts()
        return not self.dataset.hold_out.mask(rows, self.earlier).all()

    def rows(self) -> Trajectories:
        """Training rows of the part, with their session memory."""
        (rows,) = self.dataset.iter_parts()
        if self.options.hold_out:
            rows = rows.where(~self.dataset.hold_out.mask(rows, self.earlier))
        return self.options.memory.beside_users(rows)

    def columns(self) -> Tensors:
        """The columns of these rows."""
        window, support = self.options.window, self.options.support
        return train_columns(self.rows(), self.dataset.spec, window, self.scale, support)


@dataclass
class StreamIterator:
    """Epochs of minibatches, in place of the `ray.data.DataIterator` that RLlib expects.

    Attributes:
        path: Path of the dataset.
        options: Options with the seed of the order.
        shard: Number of this iterator's share of the parts, among `shards`.
        shards: Number of learners.
        drawn: Minibatches that a resumed training drew before it was killed.
        running: The current pass.
    """

    path: str
    options: InputOptions
    shard: int = 0
    shards: int = 1
    drawn: int = 0
    running: Generator[Tensors, None, None] | None = None

    def close(self) -> None:
        """End the current pass while its cluster still exists."""
        if self.running is not None:
            self.running.close()

    def iter_torch_batches(self, *, batch_size: int, **_: Any) -> _StreamedEpochs:
        """An iterable, each pass over which is one epoch in a new order."""
        parts = self.parts()[self.shard :: self.shards]
        if not parts:
            raise InputError(
                f"{self.path}: expected a part for each of {self.shards} learners, got fewer; "
                "lower num_learners"
            )
        return _StreamedEpochs(self, parts, batch_size)

    def parts(self) -> list[StreamedPart]:
        """All parts with rows to train from."""
        dataset = Dataset.open(self.path)
        earlier = itertools.accumulate((part.episodes for part in dataset.parts), initial=0)
        parts = [
            StreamedPart(dataclasses.replace(dataset, parts=(part,)), before, self.options, None)
            for part, before in zip(dataset.parts, earlier, strict=False)
        ]
        unscaled = [part for part in parts if part.teaches]
        if not unscaled:
            raise InputError("dataset: expected rows to train from, got none")
        every = -(-sum(part.dataset.rows for part in unscaled) // SCALING_ROWS)
        asked = Trajectories.from_parts([part.rows() for part in unscaled[::every]])
        check_variation(asked)
        scale = RewardScale.from_rows(asked, dataset.spec.user_size)
        return [dataclasses.replace(part, scale=scale) for part in unscaled]


@dataclass
class _StreamedEpochs:
    source: StreamIterator
    parts: list[StreamedPart]
    batch_size: int
    epoch: int = 0

    def __iter__(self) -> Iterator[Tensors]:
        self.source.running = self._pass()
        return self.source.running

    def _pass(self) -> Generator[Tensors, None, None]:
        """Give the minibatches of an epoch, without those that an earlier run has drawn."""
        seeds = np.random.SeedSequence([self.source.options.seed, self.source.shard, self.epoch])
        order = np.random.Generator(np.random.SFC64(seeds)).permutation(len(self.parts))
        self.epoch += 1
        buffer_seed = int(seeds.generate_state(1)[0])
        ordered = [self.parts[n] for n in order]
        with closing(stream(ordered, self.batch_size, buffer_seed)) as batches:
            for batch in batches:
                if self.source.drawn:
                    self.source.drawn -= 1
                    continue
                yield flat(batch)


def stream(parts: list[StreamedPart], batch_size: int, seed: int) -> Generator[Tensors, None, None]:
    """The rows of parts in minibatches, read on the cluster to which this process is connected.

    Equal parts and seeds give equal minibatches; an incomplete last one is left out, unless it is
    the only one. Once the generator is closed, nothing sends requests to the cluster.
    """
    import ray

    numbers = [{"part": number} for number in range(len(parts))]
    dataset = ray.data.from_items(numbers, override_num_blocks=len(parts))
    dataset.context.enable_progress_bars = False
    dataset.context.execution_options.preserve_order = True
    held = ray.put(parts)

    def read(batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        (number,) = batch["part"]
        return {name: column.numpy() for name, column in ray.get(held)[number].columns().items()}

    batches = dataset.map_batches(read, batch_size=1, num_cpus=1).iter_torch_batches(
        batch_size=batch_size,
        local_shuffle_buffer_size=BUFFER_BATCHES * batch_size,
        local_shuffle_seed=seed,
    )
    try:
        with closing(iter(batches)) as passing:
            for number, batch in enumerate(passing):
                if not number or len(batch[Columns.ACTIONS]) == batch_size:
                    yield batch
    finally:
        _join_threads()


def _join_threads() -> None:
    """Wait for the threads that Ray Data leaves behind when a pass is abandoned before its end.

    These threads finish their work first, and Ray ends a process in which one of them asks for a
    block after `ray.shutdown`.
    """
    deadline = time.monotonic() + FAREWELL_SECONDS
    for thread in threading.enumerate():
        if thread.name.startswith(THREADS):
            thread.join(max(0.0, deadline - time.monotonic()))


class StreamedOfflineData(ColumnarOfflineData):
    """Replaces `ColumnarOfflineData` where there are too many rows to hold in memory."""

    def __init__(self, config: AlgorithmConfig) -> None:
        super().__init__(config)
        self.streams: list[StreamIterator] = []

    def iterators(self, learners: int) -> list[StreamIterator]:
        """A share of the parts for each learner."""
        if not self.streams:
            path, shards = self.config.input_[0], max(1, learners)
            self.streams = [
                StreamIterator(path, self.options, shard, shards, self.drawn)
                for shard in range(shards)
            ]
        return self.streams

    def close(self) -> None:
        """End the current pass."""
        for one in self.streams:
            one.close()
