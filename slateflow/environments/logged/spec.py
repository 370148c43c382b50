"""The sizes of own logs, in place of a world's parameters."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, NoReturn

from pydantic import Field

from slateflow.environments.spec import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.validation import Names, validated


@validated
class LoggedSpec(EnvironmentSpec):
    """Logs of any recommender: sizes and names of the features; nothing is simulated.

    The name is the recipe's.
    """

    world: ClassVar[str] = "logged"
    simulated: ClassVar[bool] = False
    response_columns: ClassVar[tuple[str, ...]] = ()
    user_bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    fewest_candidates: Annotated[int, Field(ge=1)] = 1  # in a row; most are `num_candidates`
    user_features: Names = ()  # such as "age" and "country=de"
    item_features: Names = ()
    item_count: Annotated[int, Field(ge=1)] = 1  # entries of the catalogue
    most_steps: Annotated[int, Field(ge=1)] = 1  # rows of the longest session
    visitors: bool = False  # whether logs show which sessions are of the same visitor

    @property
    def user_chooses(self) -> bool:  # type: ignore[override]
        """True if a slate has several items: a single one is always seen and earns the reward."""
        return self.slate_size > 1

    @property
    def offers_vary(self) -> bool:
        """True if rows differ in the number of candidates."""
        return self.fewest_candidates < self.num_candidates

    @property
    def user_size(self) -> int:
        """U, the number of the user's features."""
        return len(self.user_features)

    @property
    def document_size(self) -> int:
        """D, the number of an item's features."""
        return len(self.item_features)

    @property
    def features_match(self) -> bool:
        """True if user and item have the same two or more feature names, in the same order."""
        return self.user_features == self.item_features and self.user_size > 1

    @property
    def horizon(self) -> int:
        """Steps of the longest session."""
        return self.most_steps

    @property
    def items(self) -> int:
        """Entries of the catalogue."""
        return self.item_count

    @property
    def candidate_bounds(self) -> tuple[float, float]:
        """Infinite bounds, as none are known."""
        return -math.inf, math.inf

    def lasting(self) -> dict[str, Any]:
        """The size of a slate alone, as days differ in users, items and sessions."""
        return {"world": self.world, "name": self.name, "slate_size": self.slate_size}


def no_simulator(spec: EnvironmentSpec, *args: Any) -> NoReturn:
    """Refuse to play: logs have no dynamics.

    Raises:
        InputError: Always.
    """
    del args
    raise InputError(
        f"{spec.name}: expected a world with a simulator, got own logs; train any learner but ppo "
        "and dqn, which need live users; `slateflow evaluate` judges by the logs then"
    )


def no_rules(spec: EnvironmentSpec) -> NoReturn:
    """Refuse to score candidates: logs have no scoring rules.

    Raises:
        InputError: Always.
    """
    raise InputError(
        f"{spec.name}: expected random, got a rule that scores candidates, which own logs do not "
        "have; compare with random, with the logging policy or with a trained model"
    )
