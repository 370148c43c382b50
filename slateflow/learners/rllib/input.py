"""RLlib's offline input: columns of a dataset straight into train batches.

RLlib's own reader builds an episode object for every row and needs a Ray cluster. This reader turns
the Parquet columns into tensors once and hands out shuffled slices of them, in this process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.offline.offline_data import OfflineData

from slateflow.environments import EnvironmentSpec
from slateflow.learners.features import (
    check_rewards,
    episode_ends,
    flat_observations,
    scaled_rewards,
    share_of_window_left,
    window_returns,
)
from slateflow.policies.scorer import Support
from slateflow.trajectories.files.dataset import Dataset
from slateflow.trajectories.schema import Trajectories
from slateflow.trajectories.variation import check_variation
from slateflow.user_models.reward_model import RewardScale
from slateflow.user_models.session_memory import NOTHING, SessionMemory
from slateflow.user_models.support import left_out, rarely_shown, rarity_weights

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

Tensors = dict[str, torch.Tensor]

ROW_WEIGHTS = "row_weights"
"""Column with the weights of the rows."""

RARE_COLUMN = "rare"
"""Column that marks candidates that the logs rarely show."""

NEXT_LEFT_OUT = "next_left_out"
"""Column that marks next candidates that the logs hardly show, if there are others."""


@dataclass(frozen=True)
class InputOptions:
    """Options of the input besides the path.

    Attributes:
        window: Steps-left is counted exactly only within this many steps of the end.
        seed: Seed of the order in which rows are drawn.
        memory: Session memory, which is added to the rows' features of the user.
        hold_out: Leave out every fifth episode, for a choice among trainings.
        support: Support of the logs; None where it is not needed.
    """

    window: int
    seed: int
    memory: SessionMemory = NOTHING
    hold_out: bool = False
    support: Support | None = None


def train_columns(
    rows: Trajectories,
    spec: EnvironmentSpec,
    window: int,
    scale: RewardScale | None = None,
    support: Support | None = None,
) -> Tensors:
    """The rows as RLlib's columns, without a loop over them.

    The action is the clicked candidate, to which the user responded. Rows without a click are left
    out.

    Args:
        rows: Whole episodes.
        spec: Their world.
        window: See `InputOptions`.
        scale: Scale of the rewards, if it was fitted elsewhere; by default it is fitted to these
            rows, which then have to vary.
        support: See `InputOptions`; with one, columns mark what the logs rarely or hardly show.
    """
    if scale is None:
        check_variation(rows)
    rewards = scaled_rewards(rows, scale)
    action = rows.clicked_candidate()
    ends = episode_ends(rows)
    observation = torch.from_numpy(
        flat_observations(rows, share_of_window_left(spec, rows.step, window))
    )
    columns = {
        Columns.ACTIONS: torch.from_numpy(action),
        Columns.REWARDS: torch.from_numpy(rewards),
        Columns.TERMINATEDS: torch.from_numpy(ends),
        "value_targets": torch.from_numpy(window_returns(rows, rewards, window)),
    }
    # The row after the last of an episode belongs to another one; `ends` masks it out.
    columns |= {Columns.OBS: observation, Columns.NEXT_OBS: observation.roll(-1, 0)}
    clicked = action >= 0
    if support is not None:
        weights = rarity_weights(support, rows.clicked_features().astype(np.float64))
        columns[ROW_WEIGHTS] = torch.from_numpy(weights.astype(np.float32))
        columns[RARE_COLUMN] = torch.from_numpy(rarely_shown(support, rows))
        columns[NEXT_LEFT_OUT] = torch.from_numpy(left_out(support, rows)).roll(-1, 0)
    if clicked.all():
        return columns
    kept = torch.from_numpy(clicked)
    return {name: tensor[kept] for name, tensor in columns.items()}


@dataclass
class ColumnIterator:
    """Epochs of minibatches, in place of the `ray.data.DataIterator` that RLlib expects.

    Attributes:
        columns: The rows.
        options: Options with the seed of the order.
        drawn: Minibatches that a resumed training drew before it was killed.
    """

    columns: Tensors
    options: InputOptions
    drawn: int = 0

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.options.seed)

    def iter_torch_batches(self, *, batch_size: int, **_: Any) -> _Epochs:
        """An iterable, each pass over which is one epoch in a new order."""
        return _Epochs(self, batch_size)

    def epoch(self, batch_size: int) -> Iterator[Tensors]:
        """One pass over the rows; an incomplete last batch is left out."""
        rows = len(self.columns[Columns.ACTIONS])
        size = min(batch_size, rows)
        starts = range(0, rows - size + 1, size)
        while self.drawn >= len(starts):  # epochs that are complete
            torch.randperm(rows, generator=self.generator)
            self.drawn -= len(starts)
        order = torch.randperm(rows, generator=self.generator)
        starts, self.drawn = starts[self.drawn :], 0
        for start in starts:
            chosen = order[start : start + size]
            yield flat(
                {name: tensor.index_select(0, chosen) for name, tensor in self.columns.items()}
            )


@dataclass(frozen=True)
class _Epochs:
    source: ColumnIterator
    batch_size: int

    def __iter__(self) -> Iterator[Tensors]:
        return self.source.epoch(self.batch_size)


def flat(columns: Tensors) -> Tensors:
    """The columns under the names that RLlib's learner expects."""
    return {f"{DEFAULT_MODULE_ID}/{name}": tensor for name, tensor in columns.items()}


def read_tensors(path: str, options: InputOptions) -> Tensors:
    """The rows of the dataset at `path` as tensors."""
    dataset, memory, hold_out = Dataset.open(path), options.memory, options.hold_out
    scale = _reward_scale(path, dataset.digest, memory, hold_out=hold_out)
    rows = _read(dataset, memory, hold_out=hold_out)
    return train_columns(rows, dataset.spec, options.window, scale, options.support)


def _read(dataset: Dataset, memory: SessionMemory, *, hold_out: bool) -> Trajectories:
    rows = dataset.read()
    if hold_out:
        rows = rows.where(~dataset.hold_out.mask(rows))
    return memory.beside_users(rows)


@lru_cache(maxsize=1)
def _reward_scale(path: str, digest: str, memory: SessionMemory, *, hold_out: bool) -> RewardScale:
    """The scale of a dataset's rewards, cached for other learners that train in this process."""
    dataset = Dataset.open(path)
    rows = _read(dataset, memory, hold_out=hold_out)
    check_variation(rows)
    check_rewards(rows)
    return RewardScale.from_rows(rows, dataset.spec.user_size)


@dataclass(frozen=True)
class Shard:
    """Every `shards`-th row, for a learner in a process of its own, which reads the files itself.

    So rows are never sent between processes.
    """

    path: str
    options: InputOptions
    shard: int
    shards: int
    drawn: int = 0

    def iter_torch_batches(self, *, batch_size: int, **_: Any) -> _Epochs:
        """An iterable, each pass over which is one epoch of the shard in a new order."""
        columns = {
            name: tensor[self.shard :: self.shards]
            for name, tensor in read_tensors(self.path, self.options).items()
        }
        return ColumnIterator(columns, self.options, self.drawn).iter_torch_batches(
            batch_size=batch_size
        )


class ColumnarOfflineData(OfflineData):
    """Replaces RLlib's `OfflineData` by `config.offline_data(offline_data_class=…)`.

    `config.input_` is a list with the path of one dataset, `config.input_read_method_kwargs`
    holds the `InputOptions`.
    """

    def __init__(self, config: AlgorithmConfig) -> None:
        # Not super().__init__: it opens the path with Ray Data, which starts a cluster.
        self.config = config
        self.iter_batches_kwargs: dict[str, Any] = {}
        self.options = InputOptions(**config.input_read_method_kwargs)
        self.drawn = 0

    def close(self) -> None:
        """Do nothing: no pass has to be ended."""

    def start_after(self, minibatches: int) -> None:
        """Resume a training that has drawn this many minibatches per learner."""
        self.drawn = minibatches

    def sample(
        self,
        num_samples: int,
        return_iterator: bool = False,
        num_shards: int = 0,
        module_state: dict[str, Any] | None = None,
    ) -> Any:
        """The iterators over the rows, one per learner; 0 shards for a learner in this process.

        RLlib calls this before every iteration, and remote learners keep the first iterator.
        """
        iterators = self.iterators(num_shards)
        if num_shards or return_iterator:
            return iterators
        return next(iter(iterators[0].iter_torch_batches(batch_size=num_samples)))

    def iterators(self, learners: int) -> list[Any]:
        """One iterator per learner in a process of its own; for 0 the iterator of this process."""
        if not learners:
            return [self.iterator]
        path, options = self.config.input_[0], self.options
        return [Shard(path, options, shard, learners, self.drawn) for shard in range(learners)]

    @cached_property
    def iterator(self) -> ColumnIterator:
        """The iterator over all rows, in this process."""
        columns = read_tensors(self.config.input_[0], self.options)
        return ColumnIterator(columns, self.options, self.drawn)
