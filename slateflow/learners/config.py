"""The learners by name, and what can be set of each. Importing this imports no torch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError, unknown


@dataclass(frozen=True)
class LearnerConfig:
    """What every learner's configuration has: a name, and what it needs.

    `rllib` says whether it runs on RLlib, `online` whether it interacts with users.
    """

    learner: ClassVar[str]
    rllib: ClassVar[bool] = True
    online: ClassVar[bool] = False
    user_chooses: ClassVar[bool | None] = False
    """Whether it is made for users who choose from the slate; None where that is all one to it."""

    def parameters(self) -> dict[str, Any]:
        """The settings, under the names they have everywhere."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class LinUCBConfig(LearnerConfig):
    """Ridge regression of the reward (Li et al. 2010, algorithm 1), served by its mean.

    The confidence bound of LinUCB is for exploring online; from logs nothing is explored.
    """

    learner: ClassVar[str] = "linucb"
    rllib: ClassVar[bool] = False
    user_chooses: ClassVar[bool | None] = None

    ridge: float = 1.0
    """Precision of the prior on the weights."""


@dataclass(frozen=True)
class LinTSConfig(LearnerConfig):
    """Thompson sampling with a Gaussian posterior (Agrawal and Goyal 2013)."""

    learner: ClassVar[str] = "lints"
    rllib: ClassVar[bool] = False
    user_chooses: ClassVar[bool | None] = None

    ridge: float = 1.0
    """Precision of the prior on the weights."""
    exploration: float = 1.0
    """Factor on the posterior's standard deviation."""


@dataclass(frozen=True)
class NetworkConfig(LearnerConfig):
    """Settings that the neural learners share."""

    window: int = 12
    """Steps before the end from which on the number of steps left is told apart."""
    width: int = 32
    """Units in a hidden layer."""
    layers: int = 2
    """Hidden layers."""
    batch_size: int = 512
    """Rows in a minibatch."""
    updates: int = 600
    """Minibatch updates in all, rounded up to fifties."""
    learning_rate: float = 3e-3
    """Step size of Adam at the start; it falls linearly to a hundredth of that."""
    max_grad_norm: float = 10.0
    """Gradients are clipped to this norm."""
    num_learners: int = 0
    """Processes of Ray that learn, each a share of every minibatch; 0 learns in this process, and
    only that gives the same weights for the same seed."""
    memory_rows: int = 0
    """Most rows that are held in memory; more stream through Ray Data. 0 holds what takes at most
    half of the free memory."""


@dataclass(frozen=True)
class BCConfig(NetworkConfig):
    """Behaviour cloning: what the logs did is right.

    Where most rows are of a random policy, what is left to imitate is a slight preference, so the
    gradients need little noise.
    """

    learner: ClassVar[str] = "bc"

    batch_size: int = 2048
    """Rows in a minibatch."""
    updates: int = 800
    """Minibatch updates in all, rounded up to fifties."""
    learning_rate: float = 1e-2
    """Step size of Adam at the start; it falls linearly to a hundredth of that."""


@dataclass(frozen=True)
class MARWILConfig(NetworkConfig):
    """Imitation weighted by the advantage (Wang et al. 2018, eq. 4)."""

    learner: ClassVar[str] = "marwil"

    beta: float = 1.0
    """Exponent of the advantage; 0 is behaviour cloning."""
    value_coefficient: float = 1.0
    """Weight of the value function's loss."""


@dataclass(frozen=True)
class CQLConfig(NetworkConfig):
    """Double DQN on logs with a conservative penalty (Kumar et al. 2020, eq. 4)."""

    learner: ClassVar[str] = "cql"

    width: int = 64
    """Units in a hidden layer."""
    layers: int = 1
    """Hidden layers."""
    updates: int = 2000
    """Minibatch updates of each training, rounded up to fifties."""
    learning_rate: float = 1e-2
    """Step size of Adam at the start; it falls linearly to a hundredth of that."""
    restarts: int = 1
    """Trainings, of which held-out episodes choose; 1 trains once, on all episodes, which has been
    worth more than a choice among trainings on four fifths of them."""
    conservatism: float = 0.001
    """Weight of the penalty on values of actions not taken; with 0 this is double DQN."""
    target_rate: float = 0.01
    """Share of the network that the target network takes over at each update (Polyak)."""


@dataclass(frozen=True)
class IQLConfig(NetworkConfig):
    """Implicit Q-learning (Kostrikov et al. 2021, eq. 5 and 6), acting by the best Q."""

    learner: ClassVar[str] = "iql"

    batch_size: int = 1024
    """Rows in a minibatch."""
    updates: int = 2000
    """Minibatch updates in all, rounded up to fifties."""
    expectile: float = 0.95
    """Which expectile of the logged actions' values a state is worth; 0.5 is their mean."""
    target_rate: float = 0.01
    """Share of the network that the target network takes over at each update (Polyak)."""


@dataclass(frozen=True)
class FittedQConfig(LearnerConfig):
    """Fitted-Q iteration by least squares on polynomials (Ernst et al. 2005)."""

    learner: ClassVar[str] = "fitted-q"

    window: int = 12
    """Steps back from the end for which a Q-function of their own is fitted."""
    degree: int = 3
    """Degree of the polynomial in user and candidate."""
    ridge: float = 1e-9
    """Precision of the prior on the weights, for each row."""


@dataclass(frozen=True)
class SlateQConfig(LearnerConfig):
    """Values of items and a choice model, by least-squares policy iteration (Ie et al. 2019)."""

    learner: ClassVar[str] = "slateq"
    rllib: ClassVar[bool] = False
    user_chooses: ClassVar[bool | None] = True

    iterations: int = 10
    """Most policy iterations."""
    tolerance: float = 1e-4
    """Relative change of the values at which the iteration ends."""
    ridge: float = 0.1
    """Precision of the prior on the weights."""
    classes: int = 0
    """Latent classes of users in the choice model; 0 takes as many as held-out clicks ask for."""
    construction: str = "optimal"
    """How a slate is made: `optimal`, `greedy` or `top-k`."""


@dataclass(frozen=True)
class OnlineConfig(LearnerConfig):
    """Settings that the learners share which interact with users instead of reading logs."""

    online: ClassVar[bool] = True

    live_steps: int = 300_000
    """Steps with live users, at most, those of the survey before the learning included."""
    users: int = 64
    """Users in lockstep."""
    steps: int = 64
    """Steps that each of them takes between two updates of the network."""
    survey_episodes: int = 64
    """Random episodes before the learning, for the mean reward and the scale of the features."""
    window: int = 12
    """Steps before the end from which on the number of steps left is told apart."""
    width: int = 64
    """Units in a hidden layer."""
    layers: int = 2
    """Hidden layers."""
    batch_size: int = 512
    """Steps in a minibatch."""
    learning_rate: float = 3e-3
    """Step size of Adam at the start; it falls linearly to a hundredth of that."""
    max_grad_norm: float = 10.0
    """Gradients are clipped to this norm."""
    num_learners: int = 0
    """Processes of Ray that learn, each a share of every minibatch; 0 learns in this process."""
    num_env_runners: int = 0
    """Processes of Ray that sample, each a share of the users; 0 samples in this process."""

    @property
    def round_steps(self) -> int:
        """Steps of all users between two points of a training curve."""
        return self.users * self.steps


@dataclass(frozen=True)
class PPOConfig(OnlineConfig):
    """Proximal policy optimisation (Schulman et al. 2017, eq. 7), RLlib's own."""

    learner: ClassVar[str] = "ppo"

    epochs: int = 8
    """Passes over the steps of each round."""
    clip: float = 0.2
    """Bound on the change of an action's probability in a round."""
    batch_size: int = 1024
    """Steps in a minibatch."""
    trace: float = 0.8
    """λ of the advantage estimate (Schulman et al. 2016, eq. 16)."""
    entropy: float = 0.01
    """Weight of the entropy at the start; it falls linearly to 0."""


@dataclass(frozen=True)
class DQNConfig(OnlineConfig):
    """Double DQN with replay (van Hasselt et al. 2016), RLlib's own."""

    learner: ClassVar[str] = "dqn"

    live_steps: int = 80_000
    """Steps with live users, at most, those of the survey before the learning included."""
    batch_size: int = 256
    """Steps in a minibatch, drawn from all so far."""
    steps: int = 1
    """Steps that each of them takes between two updates of the network."""
    exploration_steps: int = 20_000
    """Steps in which the share of random actions falls from 1 to `final_epsilon`."""
    final_epsilon: float = 0.1
    """Share of random actions from then on."""
    target_rate: float = 0.02
    """Share of the network that the target network takes over at each update (Polyak)."""

    @property
    def round_steps(self) -> int:
        """Fifty updates of the network lie between two points of a training curve."""
        return 50 * super().round_steps


LEARNERS: dict[str, type[LearnerConfig]] = {
    config.learner: config
    for config in (
        LinUCBConfig,
        LinTSConfig,
        BCConfig,
        MARWILConfig,
        CQLConfig,
        IQLConfig,
        FittedQConfig,
        SlateQConfig,
        PPOConfig,
        DQNConfig,
    )
}

AT_LEAST_ZERO = ("classes", "memory_rows", "num_env_runners", "num_learners")
"""Whole numbers that may be 0."""

ONE_OF = {"construction": ("optimal", "greedy", "top-k")}
"""Settings that are words."""

AT_MOST_ONE = ("beta", "target_rate", "expectile", "trace", "clip", "final_epsilon")
"""Settings with an upper bound: RLlib's on beta, and that of a share."""


def learners_for(spec: EnvironmentSpec) -> list[str]:
    """The learners that are made for a world and learn from its logs.

    Example:
        >>> from slateflow.environments import preset
        >>> learners_for(preset("interest-evolution"))
        ['linucb', 'lints', 'slateq']
    """
    fitting = (None, spec.user_chooses)
    return [
        name
        for name, config in LEARNERS.items()
        if config.user_chooses in fitting and not config.online
    ]


def learner_config(learner: str, **settings: Any) -> LearnerConfig:
    """The configuration of a learner, with some settings replaced.

    Raises:
        InputError: The learner or a setting does not exist, or a value does not fit.

    Example:
        >>> learner_config("fitted-q", degree=4).parameters()["degree"]
        4
    """
    if learner not in LEARNERS:
        raise unknown("learner", learner, list(LEARNERS))
    fields = {field.name: field for field in dataclasses.fields(LEARNERS[learner])}
    for name, value in settings.items():
        if name not in fields:
            raise unknown(f"setting of {learner}", name, list(fields))
        if name in ONE_OF:
            if value not in ONE_OF[name]:
                raise unknown(f"{learner}.{name}", str(value), list(ONE_OF[name]))
            continue
        whole = str(fields[name].type) == "int"
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            kind = "a whole number" if whole else "a number"
            raise InputError(f"{learner}.{name}: expected {kind}, got {value!r}")
        if not math.isfinite(value):
            raise InputError(f"{learner}.{name}: expected a finite number, got {value}")
        if name in AT_MOST_ONE and value > 1:
            raise InputError(f"{learner}.{name}: expected at most 1, got {value}")
        positive = whole and name not in AT_LEAST_ZERO
        if value < positive:
            least = "at least 1" if positive else "0 or more"
            raise InputError(f"{learner}.{name}: expected {least}, got {value}")
    return LEARNERS[learner](**settings)
