"""Logs in the form of reinforcement-learning libraries: vectors, action numbers and next vectors.

**Observation.** One float32 vector: the user (U numbers), the share of the episode that is left
(1 at its first step, 1 / horizon at the last possible step), then the features of the candidates
row by row (N × D numbers). The share is included because the best action depends on it.

**Action.** The slate as it was shown, because the policy chose it and the logged propensity is its
probability; a row without a click has a slate, too. Where a library wants one number, it is the
slate's place among all ordered slates, in the order of `itertools.permutations`, as the
environments count with `convert_to_discrete_action_space`. For slates of one place it is the
candidate's position.

**After the last step** a log observes nothing. The next vector that libraries want there is the
last observation with 0 for the share of the episode that is left; its value is 0 whether the
episode was terminated or cut off at the horizon.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec
from slateflow.environments.slates import slate_numbers
from slateflow.errors import InputError
from slateflow.trajectories.contract import check_rows
from slateflow.trajectories.files.dataset import Dataset
from slateflow.trajectories.schema import Trajectories

MOST_SLATES = 1_000_000
"""Most slates that are numbered; no library learns from more actions."""


@dataclass(frozen=True)
class FlatRows:
    """Whole episodes of one part: R rows, E episodes, F features."""

    rows: Trajectories
    first: NDArray[np.intp]  # (E + 1,) first row of each episode, then R
    observations: NDArray[np.float32]  # (R, F)
    next_observations: NDArray[np.float32]  # (R, F)

    @property
    def actions(self) -> NDArray[np.int64]:
        """(R,) numbers of the slates."""
        return slate_numbers(self.rows.slate, self.rows.candidates.shape[1])

    @property
    def spans(self) -> Iterator[slice]:
        """The rows of each episode."""
        return (slice(a, b) for a, b in zip(self.first[:-1], self.first[1:], strict=True))


def flat_rows(dataset: Dataset) -> Iterator[FlatRows]:
    """The dataset, part by part.

    Raises:
        InputError: A part is damaged or does not keep the contract, or steps differ in the number
            of their candidates.
    """
    if dataset.spec.offers_vary:
        raise InputError(
            f"{dataset.path}: expected the same number of candidates at every step for other "
            f"libraries' vectors, got up to {dataset.spec.num_candidates}; read the Parquet itself"
        )
    for part, rows in zip(dataset.parts, dataset.iter_parts(verify=True), strict=True):
        check_rows(rows, dataset.spec, f"{dataset.path}/{part.path}")
        first = np.append(rows.starts, len(rows))
        observations = observation_vectors(rows, dataset.spec)
        next_observations = np.roll(observations, -1, axis=0)
        last = first[1:] - 1
        next_observations[last] = observations[last]
        next_observations[last, dataset.spec.user_size] = 0.0
        yield FlatRows(rows, first, observations, next_observations)


def observation_vectors(rows: Trajectories, spec: EnvironmentSpec) -> NDArray[np.float32]:
    """(R, F): user, share of the episode that is left, candidates."""
    left = (spec.horizon - rows.step) / spec.horizon
    flat = rows.candidate_features().reshape(len(rows), spec.num_candidates * spec.document_size)
    return np.concatenate([rows.user, left[:, None].astype(np.float32), flat], axis=1)


def observation_box(spec: EnvironmentSpec) -> gym.spaces.Box:
    """The space of the vectors that `observation_vectors` makes."""
    documents = spec.num_candidates * spec.document_size

    def bound(side: int) -> NDArray[np.float32]:
        user = np.full(spec.user_size, spec.user_bounds[side])
        candidates = np.full(documents, spec.candidate_bounds[side])
        return np.concatenate([user, [side], candidates]).astype(np.float32)

    return gym.spaces.Box(bound(0), bound(1), dtype=np.float32)


def slate_count(spec: EnvironmentSpec) -> int:
    """Number of ordered slates; raises if there are too many to be numbered."""
    count = math.perm(spec.num_candidates, spec.slate_size)
    if count > MOST_SLATES:
        raise InputError(
            f"slates: expected at most {MOST_SLATES:,} for one number each, got {count:,} "
            f"({spec.slate_size} of {spec.num_candidates}); take a format with slates, minari"
        )
    return count
