"""The return of a policy where users choose from the slate, estimated from held-out logs.

The values of a policy, by the decomposition of SlateQ (`item_values`), with a choice model and
weights of the held-out episodes' own: the training that is evaluated saw none of them. Slates that
no log has shown have a value then, because their items were shown beside others. Importance weights
would need the very slate: of 720 that ten candidates make, deterministic logs show one.

The sessions so far are those that the logs had, also where the policy would have had others.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.policies import AnyScorer
from slateflow.policies.scorer import Support
from slateflow.trajectories import Trajectories
from slateflow.user_models.choice_model import Choices, fit_choice_model
from slateflow.user_models.item_values import ItemValues, Sessions
from slateflow.user_models.support import grown_support, shown_and_offered

CHOICE_RIDGE = 0.1
"""Precision of the prior on the weights of the choice model."""

VALUE_RIDGE = 1e-3
"""That on the weights of the values; more of it pulls values of rare slates far towards 0."""

ROWS_PER_WEIGHT = 20
"""Held-out steps that a weight takes at least. With half of it values were off by half."""


class SlateValue:
    """Held-out rows, prepared for any number of scorers.

    Args:
        rows: Whole episodes, sorted by episode, then step.
        spec: Their world.

    Raises:
        InputError: There are too few steps for so many features.
    """

    def __init__(self, rows: Trajectories, spec: EnvironmentSpec) -> None:
        self.rows, self.horizon = rows, spec.horizon
        self.sessions = Sessions.from_rows(rows, spec)
        least = ROWS_PER_WEIGHT * self.sessions.design.shape[1]
        if len(rows) < least:
            raise InputError(
                f"dataset: expected {least:,} held-out steps or more, "
                f"got {len(rows):,}; log more episodes"
            )
        choices = Choices.from_rows(rows)
        rng = np.random.Generator(np.random.SFC64(0))
        choice = fit_choice_model(choices, 0, CHOICE_RIDGE, rng)
        self.members = choices.members(choice)  # (R, G)
        self.classes = [
            ItemValues(self.sessions, choice.of_class(g), self.members[:, g], VALUE_RIDGE)
            for g in range(len(choice.shares))
        ]

    def value(self, scorer: AnyScorer) -> float:
        """Expected return of the policy that shows the scorer's best candidates."""
        slates, starts = self.sessions.slates(scorer), self.sessions.starts
        total = 0.0
        for member, values in zip(self.members.T, self.classes, strict=True):
            values.follow(lambda block: slates[block])
            total += float(member[starts] @ values.expected(starts, slates[starts]))
        return total / len(starts)

    def hardly_seen(self, scorer: AnyScorer) -> float:
        """Share of the items that the scorer shows which the logs hardly show."""
        chosen = self.rows.features_at(self.sessions.slates(scorer))
        return float(self._support.hardly_seen(chosen).mean())

    @cached_property
    def _support(self) -> Support:
        return grown_support(*shown_and_offered(self.rows, user_chooses=True))
