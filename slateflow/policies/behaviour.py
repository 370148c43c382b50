"""The policies that make logs: random, greedy, its opposite, and mixtures of them."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from slateflow.environments import EnvironmentSpec, Observation
from slateflow.environments.rules import ScoringRule, first_feature
from slateflow.environments.slates import without_replacement
from slateflow.environments.worlds import scoring_rule, world_of
from slateflow.errors import InputError, unknown
from slateflow.policies.base import (
    Propensities,
    Rng,
    Scores,
    SlateDistribution,
    Slates,
    certain,
    top_slates,
)
from slateflow.policies.softmax import MIN_TEMPERATURE, SoftmaxPolicy
from slateflow.validation import validated


def uniform_propensities(offered: NDArray[np.integer], slate_size: int) -> Propensities:
    """Probability (B,) of any one ordered slate of this many candidates (B,), drawn uniformly.

    Example:
        >>> uniform_propensities(np.array([4, 2]), 2).tolist() == [1 / 12, 1 / 2]
        True
    """
    left = offered[:, None] - np.arange(slate_size)
    return np.asarray(1 / left.prod(axis=1, dtype=np.float64))


@dataclass(frozen=True)
class RandomPolicy:
    """Every ordered slate of distinct candidates is equally likely.

    Example:
        >>> from slateflow.environments import batched_environment, preset
        >>> observation, _ = batched_environment(preset("modified-lts-20-2"), 1).reset(seed=0)
        >>> slates, propensities = RandomPolicy(2).act(observation, np.random.default_rng(0))
        >>> float(propensities[0]) == 1 / (20 * 19)
        True
    """

    slate_size: int

    def act(self, observation: Observation, rng: Rng) -> tuple[Slates, Propensities]:
        """Draw the places one after the other, without replacement."""
        batch, candidates = observation["candidates"].shape[:2]
        places, offered = range(self.slate_size), observation.get("offered")
        if offered is None:
            chosen = [
                rng.integers(0, candidates - place, batch, dtype=np.int32) for place in places
            ]
        else:
            chosen = [(rng.random(batch) * (offered - place)).astype(np.int32) for place in places]
        slates = without_replacement(chosen)
        return slates, self.propensities(observation, slates)

    def propensities(self, observation: Observation, slates: NDArray[Any]) -> Propensities:
        """Probabilities (B,), equal for all slates (B, K) of what is on offer."""
        offered = observation.get("offered")
        if offered is None:
            candidates = observation["candidates"].shape[1]
            return np.full(len(slates), 1 / math.perm(candidates, self.slate_size))
        return uniform_propensities(offered, self.slate_size)

    def first_place(self, observation: Observation) -> Scores:
        """Probabilities (B, N), equal for all candidates on offer and 0 for the others."""
        batch, candidates = observation["candidates"].shape[:2]
        offered = observation.get("offered", np.full(batch, candidates))[:, None]
        return np.where(np.arange(candidates) < offered, 1 / offered, 0.0)


@dataclass(frozen=True)
class GreedyPolicy:
    """The candidates with the highest scores, best first; the first among equals."""

    slate_size: int
    rule: ScoringRule = first_feature

    def act(self, observation: Observation, rng: Rng) -> tuple[Slates, Propensities]:
        """Rank the candidates by the rule."""
        del rng  # deterministic
        slates = top_slates(self.rule(observation), self.slate_size)
        return slates, np.ones(len(slates))

    def propensities(self, observation: Observation, slates: NDArray[Any]) -> Propensities:
        """Probabilities (B,): 1 for the slate that the policy shows, 0 for every other."""
        shown = top_slates(self.rule(observation), self.slate_size)
        return np.asarray((shown == slates).all(axis=1), dtype=np.float64)

    def first_place(self, observation: Observation) -> Scores:
        """Probabilities (B, N): 1 for the best candidate."""
        return certain(top_slates(self.rule(observation), 1), observation["candidates"].shape[1])


@dataclass(frozen=True)
class EpsilonMixture:
    """With probability ε a slate of `explore`, otherwise one of `exploit`.

    One coin decides about the whole slate, not about each place. Both policies may show the same
    slate, so its propensity is ε × explore's + (1 − ε) × exploit's.
    """

    exploit: SlateDistribution
    explore: SlateDistribution
    epsilon: float

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise InputError(f"epsilon: expected a number in [0, 1], got {self.epsilon}")

    def act(self, observation: Observation, rng: Rng) -> tuple[Slates, Propensities]:
        """Flip a coin for each user: explore or exploit.

        Both policies draw for all users, so that no lane shifts the draws of another.
        """
        coins = rng.random(len(observation["candidates"])) < self.epsilon
        explored, _ = self.explore.act(observation, rng)
        exploited, _ = self.exploit.act(observation, rng)
        slates = np.where(coins[:, None], explored, exploited)
        return slates, self.propensities(observation, slates)

    def propensities(self, observation: Observation, slates: NDArray[Any]) -> Propensities:
        """Probabilities (B,) of showing exactly these slates (B, K)."""
        explored = self.explore.propensities(observation, slates)
        exploited = self.exploit.propensities(observation, slates)
        return self.epsilon * explored + (1 - self.epsilon) * exploited

    def first_place(self, observation: Observation) -> Scores:
        """Probabilities (B, N) that a candidate is shown in the first place."""
        explored = self.explore.first_place(observation)
        return self.epsilon * explored + (1 - self.epsilon) * self.exploit.first_place(observation)


@validated
class Behaviour:
    """Settings of a behaviour policy that is not a plain one, as in a recipe.

    The policy shows the best candidates by `scorer`; with a `temperature` it draws them by softmax,
    and with an `epsilon` it instead shows, with that probability, a random slate.
    """

    scorer: str = "greedy"  # scoring rule, one of the world's (see `worlds.scoring_rule`)
    # Probability of a uniformly random slate, which may also be the best one
    epsilon: Annotated[float, Field(ge=0, le=1)] = 0.0
    # Divides the scores before the softmax; None for the best candidates
    temperature: Annotated[float | None, Field(ge=MIN_TEMPERATURE)] = None

    def to_dict(self) -> dict[str, Any]:
        """The settings that differ from the defaults."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }


BEHAVIOURS = ("random", "greedy", "opposite")
"""Names of the plain behaviour policies."""


def behaviour_label(behaviour: str | Behaviour, spec: EnvironmentSpec) -> str:
    """Name of a behaviour policy in the spec's world.

    Example:
        >>> from slateflow.environments import preset
        >>> behaviour_label(Behaviour(epsilon=0.1), preset("modified-lts-20-2"))
        'most clickbait, ε 0.1'
    """
    labels = {"random": "random", **world_of(spec).labels}
    if isinstance(behaviour, str):
        return labels[behaviour]
    label = labels.get(behaviour.scorer, behaviour.scorer)
    if behaviour.temperature is not None:
        label = f"softmax of {label}, T {behaviour.temperature:g}"
    return f"{label}, ε {behaviour.epsilon:g}" if behaviour.epsilon else label


def behaviour_policy(behaviour: str | Behaviour, spec: EnvironmentSpec) -> SlateDistribution:
    """The behaviour policy for the spec's world: a plain one by its name, or one by its settings.

    Raises:
        InputError: No policy has this name, or the world does not show what its rule needs.
    """
    random = RandomPolicy(spec.slate_size)
    if isinstance(behaviour, Behaviour):
        rule = scoring_rule(behaviour.scorer, spec)
        chosen: SlateDistribution = GreedyPolicy(spec.slate_size, rule)
        if behaviour.temperature is not None:
            chosen = SoftmaxPolicy(spec.slate_size, rule, behaviour.temperature)
        return EpsilonMixture(chosen, random, behaviour.epsilon) if behaviour.epsilon else chosen
    if behaviour not in BEHAVIOURS:
        raise unknown("policy", behaviour, list(BEHAVIOURS))
    if behaviour == "random":
        return random
    return GreedyPolicy(spec.slate_size, scoring_rule(behaviour, spec))
