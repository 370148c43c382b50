"""RLlib's offline input: columns of a dataset straight into train batches.

RLlib's own reader builds an episode object for every row and needs a Ray cluster. This one turns
the Parquet columns into tensors once and hands out shuffled slices of them, in this process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.offline.offline_data import OfflineData

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.trajectories.clicked import clicked_features
from slateflow.trajectories.files.dataset import Dataset
from slateflow.trajectories.held_out import held_out
from slateflow.trajectories.schema import Trajectories
from slateflow.user_models.reward_model import RewardScale
from slateflow.user_models.session_memory import remembering

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class InputOptions:
    """What the input needs to know beside the path.

    Attributes:
        window: Steps before the end from which on the number of steps left is told apart.
        seed: Seed of the order in which rows are drawn.
        whole: Hand out all rows in their order as one batch, instead of shuffled minibatches.
        decays: Of the memory that the rows get as further features of the user.
        hold_out: Leave out every fifth episode, for a choice among what was learnt.
    """

    window: int
    seed: int
    whole: bool = False
    decays: tuple[float, ...] = ()
    hold_out: bool = False


def flat_observation_space(spec: EnvironmentSpec, memory: int = 0) -> gym.spaces.Box:
    """(user, memory, steps left / window, candidates row by row) as one vector."""
    size = spec.user_size + memory + 1 + spec.num_candidates * spec.document_size
    return gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)


def steps_left(spec: EnvironmentSpec, step: NDArray[np.int32], window: int) -> NDArray[np.float32]:
    """Steps left, this one included, counted up to `window` and divided by it; (R,) in (0, 1]."""
    return np.asarray(np.minimum(spec.horizon - step, window) / window, dtype=np.float32)


def centred_rewards(rows: Trajectories, scale: RewardScale | None = None) -> NDArray[np.float32]:
    """Expected rewards less their mean, over their standard deviation; (R,).

    Rewards of this kind are large and nearly constant (some 9.7 a step), and a network would
    spend itself on the constant. Taking it out changes no preference between policies as long
    as all episodes have the same number of steps. Nor does taking out the noise.

    Raises:
        InputError: Episodes differ in length, or a reward is not a finite number.
    """
    if not np.isfinite(rows.reward).all():
        raise InputError("reward: expected finite numbers, got NaN or infinity")
    _, lengths = np.unique(rows.episode, return_counts=True)
    if len(set(lengths.tolist())) > 1:
        raise InputError(
            f"episodes: expected all of one length, got {lengths.min()} to {lengths.max()} steps; "
            "linucb and lints take such logs, and slateq where users choose"
        )
    return (scale or RewardScale.of(rows)).scaled(rows)


def episode_ends(rows: Trajectories) -> NDArray[np.bool_]:
    """Whether a row is the last of its episode; (R,).

    Raises:
        InputError: The flags do not say so. Values would then flow from one user to the next.
    """
    ends = rows.terminated | rows.truncated
    last = np.append(rows.episode[1:] != rows.episode[:-1], True)
    wrong = np.flatnonzero(ends != last)
    if len(wrong):
        raise InputError(
            "terminated, truncated: expected one of them at the last step of an episode and at "
            f"no other, got something else in episode {rows.episode[wrong[0]]}, "
            f"step {rows.step[wrong[0]]}"
        )
    return ends


def window_returns(
    rows: Trajectories, rewards: NDArray[np.float32], window: int
) -> NDArray[np.float32]:
    """Sum of the rewards of this and the next steps, `window` in all, within the episode; (R,)."""
    index = np.arange(len(rows))
    last = np.flatnonzero(episode_ends(rows))
    end = last[np.searchsorted(last, index)] + 1  # one past the row's episode
    total = np.concatenate([[0.0], np.cumsum(rewards, dtype=np.float64)])
    ahead = total[np.minimum(index + window, end)]
    return np.asarray(ahead - total[index], dtype=np.float32)


@dataclass(frozen=True)
class FeatureMoments:
    """Mean and standard deviation of the features (user, steps left, candidate), F of each.

    Networks see features that are standardised by them: satisfaction, for one, varies by a few
    hundredths only. The steps left keep their scale.
    """

    offset: NDArray[np.float64]  # (F,)
    scale: NDArray[np.float64]  # (F,)

    @classmethod
    def of(cls, dataset: Dataset, decays: tuple[float, ...] = ()) -> FeatureMoments:
        """From one pass over the Parquet."""
        parts = (remembering(part, decays) for part in dataset.iter_parts())
        return cls.over((rows.user, rows.candidates) for rows in parts)

    @classmethod
    def over(
        cls, blocks: Iterable[tuple[NDArray[np.floating], NDArray[np.floating]]]
    ) -> FeatureMoments:
        """From users (R, U) and their candidates (R, N, D), a block in memory at a time."""
        count, user_size, total, squares = 0, 0, np.zeros(1), np.zeros(1)
        for users, documents in blocks:
            # Averages over a row's candidates, so that users and candidates weigh the same.
            candidates = documents.astype(np.float64)
            user = users.astype(np.float64)
            for name, values in (("user", user), ("candidates", candidates)):
                if not np.isfinite(values).all():
                    raise InputError(f"{name}: expected finite numbers, got NaN or infinity")
            first = np.concatenate([user, candidates.mean(axis=1)], axis=1)
            second = np.concatenate([user**2, (candidates**2).mean(axis=1)], axis=1)
            count, user_size, total, squares = (
                count + len(user),
                user.shape[1],
                total + first.sum(axis=0),
                squares + second.sum(axis=0),
            )
        if not count:
            raise InputError("dataset: expected rows to train from, got none")
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        deviation[deviation < 1e-9] = 1.0  # a constant feature
        return cls(np.insert(mean, user_size, 0.0), np.insert(deviation, user_size, 1.0))


def train_columns(
    rows: Trajectories, spec: EnvironmentSpec, window: int, scale: RewardScale | None = None
) -> Tensors:
    """The rows as RLlib's columns, without a loop over them.

    The action is the clicked candidate: it is what the user responded to. Rows without a click
    are left out.

    Args:
        rows: Whole episodes.
        spec: Their world.
        window: See `InputOptions`.
        scale: Of the rewards, told from other rows, too; by default what these say, which then
            have to have something to say.
    """
    if scale is None:
        clicked_features(rows)  # raises where they cannot teach anything
    rewards = centred_rewards(rows, scale)
    left = steps_left(spec, rows.step, window)[:, None]
    flat = rows.candidates.reshape(len(rows), -1)
    action = rows.clicked_candidate()
    ends = episode_ends(rows)
    observation = torch.from_numpy(np.concatenate([rows.user, left, flat], axis=1))
    columns = {
        Columns.ACTIONS: torch.from_numpy(action),
        Columns.REWARDS: torch.from_numpy(rewards),
        Columns.TERMINATEDS: torch.from_numpy(ends),
        "value_targets": torch.from_numpy(window_returns(rows, rewards, window)),
    }
    # The row after the last of an episode belongs to another one; `ends` masks it out.
    columns |= {Columns.OBS: observation, Columns.NEXT_OBS: observation.roll(-1, 0)}
    clicked = action >= 0
    if clicked.all():
        return columns
    kept = torch.from_numpy(clicked)
    return {name: tensor[kept] for name, tensor in columns.items()}


@dataclass
class ColumnIterator:
    """Stands where RLlib expects a `ray.data.DataIterator`: epochs of minibatches.

    Attributes:
        columns: The rows.
        options: Order and seed.
        drawn: Minibatches that a training which goes on here has drawn before.
    """

    columns: Tensors
    options: InputOptions
    drawn: int = 0

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.options.seed)

    def iter_torch_batches(self, *, batch_size: int, **_: Any) -> _Epochs:
        """An iterable whose every pass is one epoch in a new order."""
        return _Epochs(self, batch_size)

    def epoch(self, batch_size: int) -> Iterator[Tensors]:
        """One pass over the rows; an incomplete last batch is left out."""
        rows = len(self.columns[Columns.ACTIONS])
        if self.options.whole:
            yield flat(self.columns)
            return
        size = min(batch_size, rows)
        starts = range(0, rows - size + 1, size)
        while self.drawn >= len(starts):  # epochs that are over
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
    """Under the names that RLlib's learner looks for."""
    return {f"{DEFAULT_MODULE_ID}/{name}": tensor for name, tensor in columns.items()}


def read_columns(path: str, options: InputOptions) -> Tensors:
    """The rows of the dataset at `path`, from Parquet to tensors."""
    dataset = Dataset.open(path)
    rows = dataset.read()
    if options.hold_out:
        rows = rows.where(~held_out(rows))
    rows = remembering(rows, options.decays)
    return train_columns(rows, dataset.spec, options.window)


@dataclass(frozen=True)
class Shard:
    """Every `shards`-th row, for a learner in a process of its own, which reads the files itself.

    So the rows never travel between processes.
    """

    path: str
    options: InputOptions
    shard: int
    shards: int
    drawn: int = 0

    def iter_torch_batches(self, *, batch_size: int, **_: Any) -> _Epochs:
        """An iterable whose every pass is one epoch of the shard in a new order."""
        columns = {
            name: tensor[self.shard :: self.shards]
            for name, tensor in read_columns(self.path, self.options).items()
        }
        return ColumnIterator(columns, self.options, self.drawn).iter_torch_batches(
            batch_size=batch_size
        )


class ColumnarOfflineData(OfflineData):
    """Takes the place of RLlib's `OfflineData` with `config.offline_data(offline_data_class=…)`.

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
        """Nothing is under way here."""

    def start_after(self, minibatches: int) -> None:
        """Go on where a training stood that has drawn this many minibatches a learner."""
        self.drawn = minibatches

    def sample(
        self,
        num_samples: int,
        return_iterator: bool = False,
        num_shards: int = 0,
        module_state: dict[str, Any] | None = None,
    ) -> Any:
        """The iterators over the rows, one for each learner; 0 shards for the one in process.

        RLlib asks before every iteration, and remote learners keep the first they are sent.
        """
        iterators = self.iterators(num_shards)
        if num_shards or return_iterator:
            return iterators
        return next(iter(iterators[0].iter_torch_batches(batch_size=num_samples)))

    def iterators(self, learners: int) -> list[Any]:
        """One for each learner in a process of its own; with 0 the one in this process."""
        if not learners:
            return [self.iterator]
        path, options = self.config.input_[0], self.options
        return [Shard(path, options, shard, learners, self.drawn) for shard in range(learners)]

    @cached_property
    def iterator(self) -> ColumnIterator:
        """Over all rows, in this process."""
        columns = read_columns(self.config.input_[0], self.options)
        return ColumnIterator(columns, self.options, self.drawn)
