"""Returns of the behaviour policies, and how the reward changes over an episode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.evaluation.returns import Earned, play_blocks, standard_error
from slateflow.policies import BEHAVIOURS, Behaviour, behaviour_label, behaviour_policy


@dataclass(frozen=True)
class PolicyBaseline:
    """Returns of one behaviour policy.

    Attributes:
        policy: Name of the policy, as in a recipe.
        label: Name of the policy in this world.
        mean: Mean return of an episode.
        sem: Standard error of the mean return.
        slope: Change of the reward per step of an episode; mean over episodes.
        slope_sem: Standard error of the mean slope.
        episodes: Episodes played.
    """

    policy: str
    label: str
    mean: float
    sem: float
    slope: float
    slope_sem: float
    episodes: int


def measure_baselines(
    spec: EnvironmentSpec,
    episodes: int,
    seed: int,
    others: Mapping[str, str | Behaviour] | None = None,
) -> list[PolicyBaseline]:
    """Play random, greedy, its opposite, and any `others`, on the same users.

    The slope of an episode is that of the least-squares line of its rewards on the steps.

    Raises:
        InputError: The world's parameters make returns that are not finite.
    """
    baselines = []
    behaviours: dict[str, str | Behaviour] = {
        **{name: name for name in BEHAVIOURS},
        **(others or {}),
    }
    for name, behaviour in behaviours.items():
        policy = behaviour_policy(behaviour, spec)
        with np.errstate(over="ignore", invalid="ignore"):  # refused below
            by_episode = [
                rewards
                for steps in play_blocks(spec, policy, episodes, seed)
                for rewards in _rewards_by_episode(steps)
            ]
            returns = np.array([rewards.sum() for rewards in by_episode])
            slopes = np.array([_slope(rewards) for rewards in by_episode])
            errors = standard_error(returns), standard_error(slopes)
        if not np.isfinite([returns.mean(), slopes.mean(), *errors]).all():
            raise InputError(
                f"{spec.name}: expected parameters that keep returns finite, got returns of {name} "
                "that are not; change [parameters] in the recipe"
            )
        baselines.append(
            PolicyBaseline(
                policy=name,
                label=behaviour_label(behaviour, spec),
                mean=float(returns.mean()),
                sem=errors[0],
                slope=float(slopes.mean()),
                slope_sem=errors[1],
                episodes=episodes,
            )
        )
    return baselines


def _slope(rewards: NDArray[np.float64]) -> float:
    """Slope of the least-squares line of rewards on the steps; 0 for a single step."""
    steps = np.arange(len(rewards)) - (len(rewards) - 1) / 2
    return float(steps @ rewards / (steps @ steps)) if len(rewards) > 1 else 0.0


def _rewards_by_episode(steps: list[Earned]) -> Iterator[NDArray[np.float64]]:
    """The rewards of each user's episode; episodes may differ in length."""
    lanes = np.concatenate([step.lanes for step in steps])
    rewards = np.concatenate([step.rewards for step in steps])[lanes.argsort(kind="stable")]
    yield from np.split(rewards, np.cumsum(np.bincount(lanes))[:-1])
