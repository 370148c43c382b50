"""Customers in RecSim's worlds, served by the registry's model like consumers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slateflow.environments import (
    BatchedEnvironment,
    EnvironmentSpec,
    Observation,
    batched_environment,
    preset,
)
from slateflow.evaluation.returns import episode_returns
from slateflow.policies import RandomPolicy
from slateflow.policies.base import Policy
from slateflow.policies.play import Step, play
from tests.flows.nights import EPSILON

PLAYED, PLAYED_SEED = 2_000, 99


@dataclass
class WorldCustomers(ABC):
    """Sessions of a world, in logs without its hidden state.

    Items have ids, as in a catalogue: candidates are items of a kind, and those of one kind in the
    same row are different items.

    Attributes:
        sessions: Number of sessions per day.
        parameters: Parameters of the world that differ from the preset's.
        name: Name of the preset, and of the recipe.
        recipe: Recipe of the logs.
    """

    sessions: int
    parameters: dict[str, Any]
    name: str
    recipe: str

    @cached_property
    def spec(self) -> EnvironmentSpec:
        """Spec of the world."""
        return preset(self.name, **self.parameters)

    @abstractmethod
    def open(self, folder: Path) -> None:
        """Write the catalogue."""

    @abstractmethod
    def kinds(self, observation: Observation) -> NDArray[np.intp]:
        """Kinds (B, N) of the candidates."""

    @abstractmethod
    def users(self, observation: Observation, env: BatchedEnvironment[Any]) -> dict[str, Any]:
        """The users' columns, for requests and logs, from the environment."""

    @abstractmethod
    def shown(self, step: Step, slates: NDArray[np.intp]) -> dict[str, Any]:
        """The columns of the shown ids (A, K), and of the clicks."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """Mean returns of random and of the best policy."""

    def items(self, observation: Observation) -> NDArray[np.intp]:
        """Ids (B, N) of the candidates."""
        kind = self.kinds(observation)
        same = kind[:, :, None] == kind[:, None, :]
        return np.asarray(kind * kind.shape[1] + np.tril(same, -1).sum(axis=2))

    def day(self, champion: Any | None, number: int) -> pd.DataFrame:
        """All steps of a day's sessions."""
        env = batched_environment(self.spec, self.sessions)
        policy = Served(self, env, champion, EPSILON, number)
        steps = play(env, policy, 1000 + number)
        return pd.concat([self._rows(step, number, policy.users) for step in steps])

    def _rows(self, step: Step, number: int, users: dict[str, Any]) -> pd.DataFrame:
        offered = self.items(step.observation)
        return pd.DataFrame(
            {
                "session": number * self.sessions + step.lanes,
                "time": number * self.spec.horizon + step.observation["step"][:, 0],
                "offered": offered.tolist(),
                "propensity": step.propensities,
                "reward": step.rewards,
                **users,
                **self.shown(step, np.take_along_axis(offered, step.slates, axis=1)),
            }
        )

    def share(self, champion: Any, epsilon: float) -> float:
        """Value in play with other users than by day: random is 0, the best 1."""
        random, best = self.bounds
        value = self.played(lambda env: Served(self, env, champion, epsilon, 0))
        return (value - random) / (best - random)

    def played(self, policy: Policy | Callable[[BatchedEnvironment[Any]], Policy]) -> float:
        """Mean return of a policy with these users."""
        return float(episode_returns(self.spec, policy, PLAYED, PLAYED_SEED).mean())


@dataclass
class Served:
    """The registry's model as a policy for the simulator; without a model it is random.

    Attributes:
        users: The users' columns of the last request.
    """

    customers: WorldCustomers
    env: BatchedEnvironment[Any]
    champion: Any | None
    epsilon: float
    seed: int
    asked: Iterator[int] = field(default_factory=count)
    users: dict[str, Any] = field(default_factory=dict)

    def act(self, observation: Observation, rng: Any) -> tuple[NDArray[np.int32], Any]:
        """Slates and propensities from the answers."""
        self.users = self.customers.users(observation, self.env)
        if self.champion is None:
            return RandomPolicy(self.customers.spec.slate_size).act(observation, rng)
        frame = pd.DataFrame(
            {
                "user": [list(one) for one in zip(*self.users.values(), strict=True)],
                "items": self.customers.items(observation).tolist(),
                "step": observation["step"][:, 0].astype(np.int64),
            }
        )
        params = {"epsilon": self.epsilon, "seed": self.seed * 1_000_000 + next(self.asked)}
        answers = self.champion.predict(frame, params=params)
        return np.array(answers["slate"].tolist(), np.int32), answers["propensity"].to_numpy()
