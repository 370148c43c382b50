"""Logged sessions as input of regressions on slates: designs of steps, and the session so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec, world_of
from slateflow.policies import SessionScorer, Slates, top_slates
from slateflow.policies.learned import observed_scores
from slateflow.policies.slate_choice import ChoiceModel, likeness, user_features
from slateflow.trajectories import Trajectories
from slateflow.trajectories.schema import blocks
from slateflow.user_models.choices import SlateFeatures, of_places
from slateflow.user_models.polynomial import independent

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

BLOCK_ROWS = 20_000
"""Rows whose features are in memory at once."""


@dataclass(frozen=True)
class Sessions:
    """Logged steps, with sums over the session so far.

    Attributes:
        rows: The R steps.
        past: (R, H) sums over the earlier steps of the session: steps, clicks, rewards, and
            responses that are quantities; optionally, where users are observed in the features of
            the documents, also the affinities of the clicked items. These sums shift the values of
            all items of a step equally, so no policy depends on them, but they predict how much of
            a session is left. Single decisions have none.
        features: Features of the shown items.
        by_clicks: Whether the past includes sums of the features of items clicked before.
        by_sight: Whether the design has features of the shown items, clicked or not.
        sight_pays: Whether it has them a second time for steps with a click.
        past_bends: Whether it has the squares and products of the past.
    """

    rows: Trajectories
    past: Array
    features: SlateFeatures
    by_clicks: bool = False
    by_sight: bool = False
    sight_pays: bool = False
    past_bends: bool = False

    @classmethod
    def from_rows(
        cls,
        rows: Trajectories,
        spec: EnvironmentSpec,
        features: SlateFeatures,
        affinities: bool = False,
        by_clicks: bool = False,
    ) -> Sessions:
        """Sum up rows that are sorted by episode, then step.

        Args:
            rows: All steps of some sessions.
            spec: Their world.
            features: Features of the shown items.
            affinities: Whether the past includes the affinities. Choices of a learner need them;
                estimates of a policy's value become less certain with these further features.
            by_clicks: Whether the past includes sums of the features of clicked items.
        """
        clicks = rows.clicked >= 0
        categories = world_of(spec).categorical_responses
        responses = [
            rows.responses[name] for name in sorted(rows.responses) if name not in categories
        ]
        if affinities and features.features_match:
            responses.append((rows.user * rows.clicked_features()).sum(axis=1))  # affinities
        events = np.column_stack([np.ones(len(rows)), clicks, rows.reward, *responses])
        events = events.astype(np.float64)
        past = _sums_before(events, rows.starts)[:, : 0 if spec.horizon == 1 else None]
        return cls(rows, past, features, by_clicks)

    def with_past_bends(self) -> Sessions:
        """The sessions with squares and products of the past, whose columns are independent then.

        How much is left of a session does not fall in a straight line: those who have stayed for
        long are others than those who began. The columns have a mean square of 1.
        """
        scale = np.sqrt(np.square(self.past).mean(axis=0))
        past = self.past / np.where(scale > 0, scale, 1.0)
        return replace(self, past=past[:, independent(past)], past_bends=True)

    def returns_to_go(self) -> Array:
        """(R,) sums of the rewards from each step to the episode's end."""
        rewards = self.rows.reward.astype(np.float64)
        starts, lengths = self.rows.starts, self.rows.lengths
        before = _sums_before(rewards[:, None], starts)[:, 0]
        return np.repeat(np.add.reduceat(rewards, starts), lengths) - before

    def blocks(self) -> Iterator[Rows]:
        """Row numbers in blocks of some thousands; whole sessions."""
        count, starts = len(self.rows), self.rows.starts
        cuts = np.searchsorted(starts, np.arange(BLOCK_ROWS, count, BLOCK_ROWS))
        cuts = np.unique(np.append(starts, count)[cuts])
        yield from np.split(np.arange(count), cuts[(cuts > 0) & (cuts < count)])

    @cached_property
    def design(self) -> Array:
        """(R, 2 S + P + H (1 + U) + C + D + W) features of the chosen items.

        They are (user's features, item's features) where an item was clicked, the user's features
        where none was, and the past, by itself and multiplied by the user (U), because the rest of
        a session is worth more with one user than with another, and perhaps by itself (C).
        """
        return np.concatenate([self.chosen(block) for block in self.blocks()])

    def chosen(self, block: Rows) -> Array:
        """The design of the chosen items in a block of rows."""
        rows, state = self.rows, user_features(self.rows.user[block])
        clicked = (rows.clicked[block] >= 0)[:, None]
        chosen, place = rows.clicked_features(block)[:, None], rows.clicked[block]
        item = self.features.of_items(rows.user[block], chosen)[:, 0]
        if self.features.places:
            item = np.column_stack([item, of_places(rows.slate.shape[1])[place]])
        if self.features.alike:
            of_shown = likeness(rows.shown_features(block))
            item = np.column_stack([item, of_shown[np.arange(len(block)), place]])
        parts = [state * clicked, item * clicked, state * ~clicked, self._past(block)]
        return np.concatenate([*parts, self._sight(block, rows.slate[block], clicked)], axis=1)

    def expected(self, block: Rows, slates: Slates, choice: ChoiceModel) -> Array:
        """The expected design if these slates (B, K) were shown at the rows (B,).

        Args:
            block: Row numbers.
            slates: Positions among the candidates of these rows.
            choice: Model of clicks, of one class.
        """
        shown = self.shown(block, slates)
        state = user_features(self.rows.user[block])
        probability = np.exp(choice.log_probabilities(shown)[0])  # (B, K + 1)
        item = np.einsum("bk,bkp->bp", probability[:, :-1], self._of_items(shown))
        none = probability[:, -1:]
        parts = [state * (1 - none), item, state * none, self._past(block)]
        return np.concatenate([*parts, self._sight(block, slates, 1 - none)], axis=1)

    def slopes(self, slates: Slates, choice: ChoiceModel, values: Array, weight: Array) -> Array:
        """Slope of a weighted sum of the slates' values in the weights of the choice model.

        Args:
            slates: (R, K) slates at all rows.
            choice: Model of clicks, of one class.
            values: (F,) weights of the values.
            weight: (R,) weights of the rows.

        Returns:
            (P + 1,) slopes in the weights of the items' features and of no click.
        """
        found: list[Array] = []
        for block in self.blocks():
            shown = self.shown(block, slates[block])
            worth = self.worth(block, shown, values)
            probability = np.exp(choice.log_probabilities(shown)[0])  # (B, K + 1)
            moved = weight[block, None] * choice.slope(probability, worth)
            found.append(
                np.append(np.einsum("bk,bkp->p", moved[:, :-1], shown), moved[:, -1].sum())
            )
        return np.asarray(np.sum(found, axis=0))

    def worth(self, block: Rows, shown: Array, values: Array) -> Array:
        """(B, K + 1) values of the items shown (B, K, E + P) at the rows (B,), and of no click.

        The past is left out, as it is the same whatever is clicked.
        """
        state, shown = user_features(self.rows.user[block]), self._of_items(shown)
        users, items = state.shape[1], shown.shape[2]
        click, item, none = np.split(values[: 2 * users + items], [users, users + items])
        of_click = state @ click
        if self.sight_pays:
            sight = self.sight_size // 2
            of_click += shown[:, :, :sight].mean(axis=1) @ values[-sight:]
        return np.column_stack([shown @ item + of_click[:, None], state @ none])

    def shown(self, block: Rows, slates: Slates) -> Array:
        """(B, K, E + P) features of the items of slates (B, K) at the rows (B,)."""
        return self.features.of(self.rows.user[block], self.rows.features_at(slates, block))

    def _of_items(self, shown: Array) -> Array:
        """(B, K, P) features for the value of an item, from all its features (B, K, E + P)."""
        return shown[:, :, self.features.beside(self.rows.user.shape[1]) :]

    def _past(self, block: Rows) -> Array:
        """(B, H (1 + U) + C + D) features of the past, and sums of items clicked before."""
        past, user = self.past[block], self.rows.user[block].astype(np.float64)
        products = past[:, :, None] * user[:, None, :]
        parts = [past, products.reshape(len(past), -1)]
        if self.past_bends:
            one, other = np.triu_indices(past.shape[1])
            parts.append(past[:, one] * past[:, other])
        return np.concatenate([*parts, self._clicked_before[block]], axis=1)

    @cached_property
    def _clicked_before(self) -> Array:
        """(R, D) sums of the features of items clicked earlier in the session."""
        if not self.by_clicks:
            return np.zeros((len(self.rows), 0))
        return _sums_before(self.rows.clicked_features().astype(np.float64), self.rows.starts)

    @property
    def clicks_size(self) -> int:
        """Number of features of the items clicked before."""
        return len(self._clicked_before.T)

    @property
    def sight_size(self) -> int:
        """W, the number of features of the shown items, clicked or not."""
        return len(self._sight(np.arange(1), self.rows.slate[:1], np.ones((1, 1))).T)

    def _sight(self, block: Rows, slates: Slates, clicked: NDArray[Any]) -> Array:
        """(B, W) means over slates (B, K) at the rows (B,), with click probabilities (B, 1)."""
        if not self.by_sight:
            return np.empty((len(block), 0))
        user, documents = self.rows.user[block], self.rows.features_at(slates, block)
        sight = np.asarray(self.features.of_items(user, documents).mean(axis=1))
        return np.concatenate([sight, sight * clicked], axis=1) if self.sight_pays else sight

    def slates(self, scorer: SessionScorer) -> Slates:
        """The slates (R, K) of a scorer at each step, given the session so far."""
        rows, starts, lengths = self.rows, self.rows.starts, self.rows.lengths
        slates = np.empty_like(rows.slate)
        memory = np.zeros((len(starts), scorer.memory_size))
        users = rows.user.shape[1]
        items = self.features.of_items(rows.user[:1], rows.shown_features(slice(1))).shape[2]
        numbers = rows.candidates.shape[1] * (items + self.features.beside(users))
        for step in range(lengths.max(initial=0)):
            going_on = np.flatnonzero(lengths > step)
            for block in blocks(len(going_on), numbers):
                ongoing = going_on[block]
                now = starts[ongoing] + step
                observation, user = rows.observation(now), rows.user[now]
                scores = observed_scores(scorer, observation, memory[ongoing])
                slates[now] = top_slates(scores, rows.slate.shape[1])
                if memory.size:
                    shown = rows.shown_features(now)
                    memory[ongoing] = scorer.remember(
                        memory[ongoing], user, shown, rows.clicked[now], rows.reward[now]
                    )
        return slates


def _sums_before(events: Array, starts: Rows) -> Array:
    """(R, H) sums over the earlier rows of the same episode."""
    sums = np.cumsum(events, axis=0) - events
    lengths = np.diff(np.append(starts, len(events)))
    before: Array = sums - np.repeat(sums[starts], lengths, axis=0)
    return before
