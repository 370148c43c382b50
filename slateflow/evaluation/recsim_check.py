"""Returns in RecSim's own code, as a check of the batched simulator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec, Observation, recsim_environment
from slateflow.environments.recsim_base import SingleObservation
from slateflow.errors import InputError
from slateflow.evaluation.returns import standard_error
from slateflow.policies import Policy, Session, SessionPolicy
from slateflow.policies.play import seed_of
from slateflow.progress import Progress, unwatched

RECSIM_STREAM = 0x8EC5
"""Separates RecSim's users from all others with the same seed."""


@dataclass(frozen=True)
class Agreement:
    """Mean returns of one policy in two simulators, on users of their own.

    Attributes:
        batched: Mean return in the batched simulator.
        batched_sem: Standard error of that mean.
        recsim: Mean return in RecSim's own code.
        recsim_sem: Standard error of that mean.
        episodes: Episodes played in RecSim.
    """

    batched: float
    batched_sem: float
    recsim: float
    recsim_sem: float
    episodes: int

    @property
    def deviation(self) -> float:
        """RecSim's mean less the batched simulator's, in standard errors of the difference."""
        error = float(np.hypot(self.batched_sem, self.recsim_sem))
        return (self.recsim - self.batched) / error if error else 0.0


def agreement(batched: NDArray[np.float64], recsim: NDArray[np.float64]) -> Agreement:
    """Compare the returns of one policy in the two simulators."""
    return Agreement(
        batched=float(batched.mean()),
        batched_sem=standard_error(batched),
        recsim=float(recsim.mean()),
        recsim_sem=standard_error(recsim),
        episodes=len(recsim),
    )


def recsim_returns(
    spec: EnvironmentSpec,
    policy: Policy,
    episodes: int,
    seed: int,
    progress: Progress = unwatched,
) -> NDArray[np.float64]:
    """Undiscounted returns (episodes,) in RecSim's own code.

    RecSim simulates one user at a time. Its environments are played side by side, so that the
    policy is called once for all of them.
    """
    if episodes < 2:
        raise InputError(f"reference episodes: expected at least 2, got {episodes}")
    streams = np.random.SeedSequence(seed, spawn_key=(RECSIM_STREAM,)).spawn(episodes + 1)
    worlds = [recsim_environment(spec, seed_of(stream)) for stream in streams[1:]]
    rng = np.random.Generator(np.random.SFC64(streams[0]))
    actor = policy.begin(episodes) if isinstance(policy, SessionPolicy) else policy
    seen = [world.reset()[0] for world in worlds]
    returns, alive = np.zeros(episodes), np.ones(episodes, dtype=np.bool_)
    for step in range(spec.horizon):
        observation = _stacked(seen)
        slates, _ = actor.act(observation, rng)
        rewards, clicked = np.zeros(episodes), np.full(episodes, -1, dtype=np.int32)
        for user in np.flatnonzero(alive):
            seen[user], rewards[user], terminated, truncated, info = worlds[user].step(slates[user])
            clicked[user] = info["clicked"]
            alive[user] = not (terminated or truncated)
        returns += rewards
        progress(step + 1, spec.horizon)
        if not alive.any():
            break
        if isinstance(actor, Session):
            actor.remember(observation, slates, clicked, rewards)
    return returns


def _stacked(seen: list[SingleObservation]) -> Observation:
    return {
        "user": np.stack([one["user"] for one in seen]),
        "candidates": np.stack([one["candidates"] for one in seen]),
        "step": np.stack([one["step"] for one in seen]),
    }
