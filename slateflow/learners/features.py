"""Features and targets of logged steps, for learners of values and for networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.shared_rows import distinct, for_rows
from slateflow.trajectories import Dataset, Trajectories
from slateflow.trajectories.schema import blocks
from slateflow.user_models.reward_model import RewardScale
from slateflow.user_models.session_memory import NOTHING, SessionMemory

Array = NDArray[np.float64]

SAME = 1e-7
"""Standard deviation of a feature, in units of its size, that is rounding in single precision."""


def flat_observation_space(
    spec: EnvironmentSpec, memory: int = 0, *, catalogue: bool = False
) -> gym.spaces.Box:
    """(user, memory, steps left / window, candidates row by row) as one vector.

    Candidates are represented by their features, or with a catalogue by their numbers in it.
    """
    of_each = 1 if catalogue else spec.document_size
    size = spec.user_size + memory + 1 + spec.num_candidates * of_each
    return gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)


def flat_observations(rows: Trajectories, left: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (R, …) of `flat_observation_space`; −1 fills rows with fewer candidates.

    Args:
        rows: Rows with the session memory among the features of the user.
        left: (R,) steps left / window.
    """
    offered = rows.candidates.reshape(len(rows), -1).astype(np.float32, copy=False)
    return np.concatenate([rows.user, left[:, None], offered], axis=1)


def share_of_window_left(
    spec: EnvironmentSpec, step: NDArray[np.int32], window: int
) -> NDArray[np.float32]:
    """(R,) steps left, this one included, counted up to `window` and divided by it: in (0, 1]."""
    return np.asarray(np.minimum(spec.horizon - step, window) / window, dtype=np.float32)


def scaled_rewards(rows: Trajectories, scale: RewardScale | None = None) -> NDArray[np.float32]:
    """(R,) expected rewards over their standard deviation.

    Rewards are often large and nearly constant (some 9.7 per step), and a network would mostly fit
    the constant. Where all episodes have the same number of steps, the mean is subtracted, which
    there changes no preference between policies; nor does removing the noise. For parts that are
    read one by one, the scale records whether all episodes have the same length.

    Raises:
        InputError: A reward is not a finite number.
    """
    check_rewards(rows)
    scale = scale or RewardScale.from_rows(rows)
    return scale.scaled(rows, scale.centred)


def check_rewards(rows: Trajectories) -> None:
    """Raise where a reward is not a finite number."""
    if not np.isfinite(rows.reward).all():
        raise InputError("reward: expected finite numbers, got NaN or infinity")


def episode_ends(rows: Trajectories) -> NDArray[np.bool_]:
    """(R,) True for the last row of each episode.

    Raises:
        InputError: The flags contradict the rows' episodes, so that values would flow from one user
            to the next.
    """
    ends = rows.terminated | rows.truncated
    wrong = np.flatnonzero(ends != rows.last)
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
    """(R,) sums of the rewards of `window` steps from each row on, within the episode."""
    index = np.arange(len(rows))
    last = np.flatnonzero(episode_ends(rows))
    end = last[np.searchsorted(last, index)] + 1  # one past the end of the row's episode
    total = np.concatenate([[0.0], np.cumsum(rewards, dtype=np.float64)])
    ahead = total[np.minimum(index + window, end)]
    return np.asarray(ahead - total[index], dtype=np.float32)


@dataclass(frozen=True)
class FeatureMoments:
    """Means and standard deviations of the F features (user, steps left, candidate).

    Networks see standardised features: satisfaction, for example, varies by only a few hundredths.
    The steps left keep their scale.
    """

    offset: NDArray[np.float64]  # (F,)
    scale: NDArray[np.float64]  # (F,)

    @classmethod
    def from_dataset(cls, dataset: Dataset, memory: SessionMemory = NOTHING) -> FeatureMoments:
        """Pass once over the Parquet."""
        parts = (memory.beside_users(part) for part in dataset.iter_parts())
        if (catalogue := dataset.catalogue) is not None:
            return cls._from_averages(
                (rows.user, *_averages(catalogue.features, _shares(rows))) for rows in parts
            )
        return cls.from_blocks(
            (rows.user[block], rows.candidate_features(block))
            for rows in parts
            for block in blocks(len(rows), rows.candidate_numbers)
        )

    @classmethod
    def from_blocks(
        cls, blocks: Iterable[tuple[NDArray[np.floating], NDArray[np.floating]]]
    ) -> FeatureMoments:
        """Sum up users (R, U) and their candidates (R, N, D), one block in memory at a time."""

        def averages(documents: NDArray[np.floating]) -> tuple[Array, Array]:
            candidates = documents.astype(np.float64)
            return candidates.mean(axis=1), (candidates**2).mean(axis=1)

        return cls._from_averages((user, *averages(documents)) for user, documents in blocks)

    @classmethod
    def _from_averages(
        cls, blocks: Iterable[tuple[NDArray[np.floating], Array, Array]]
    ) -> FeatureMoments:
        """Sum up users (R, U), and averages of their candidates' features and of the squares.

        Averages give users and candidates equal weight. They are those of each row (R, D), or of
        all rows of the block (1, D).
        """
        count, user_size, total, squares = 0, 0, np.zeros(1), np.zeros(1)
        for users, *averages in blocks:
            user = users.astype(np.float64)
            for name, values in (("user", user), ("candidates", averages[0])):
                if not np.isfinite(values).all():
                    raise InputError(f"{name}: expected finite numbers, got NaN or infinity")
            first, second = (
                np.concatenate([user**power, for_rows(average, len(user))], axis=1)
                for power, average in zip((1, 2), averages, strict=True)
            )
            count, user_size, total, squares = (
                count + len(user),
                user.shape[1],
                total + first.sum(axis=0),
                squares + second.sum(axis=0),
            )
        if not count:
            raise InputError("dataset: expected rows to train from, got none")
        mean, size = total / count, np.sqrt(squares / count)
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        deviation[deviation <= SAME * size] = 1.0  # a constant feature
        return cls(np.insert(mean, user_size, 0.0), np.insert(deviation, user_size, 1.0))


def _shares(rows: Trajectories) -> Array:
    """(I,) shares of a catalogue's items among the offers of R rows, each of weight 1 / R."""
    items = distinct(rows.candidates)
    row, place = np.nonzero(items >= 0)
    weights = 1 / np.bincount(row, minlength=len(items))
    size = 0 if rows.catalogue is None else len(rows.catalogue)
    return np.bincount(items[row, place], weights[row], size) / max(len(items), 1)


def _averages(features: NDArray[np.float32], shares: Array) -> tuple[Array, Array]:
    """(1, D) averages of items' features (I, D), and of their squares, weighted by shares (I,)."""
    known = features.astype(np.float64)
    return shares[None] @ known, shares[None] @ known**2
