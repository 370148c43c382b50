"""SlateQ from logs: a learnt choice model, and values of items by least-squares policy iteration.

The value of a slate decomposes into those of its items and of no click, weighted by their
probabilities of being chosen (Ie et al. 2019, "SlateQ: A Tractable Decomposition for
Reinforcement Learning with Recommendation Sets", equation 17). The values are linear in the
features of `slate_scorer`, and are solved for, policy after policy, from the fixed point of their
Bellman equation on the logs (Lagoudakis and Parr 2003, "Least-Squares Policy Iteration", section
5). The first policy is greedy on the returns that the logs saw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.learners.choice_model import Choices, fit_choice_model
from slateflow.learners.config import SlateQConfig
from slateflow.policies import top_slates
from slateflow.policies.slate_scorer import (
    ChoiceModel,
    Offer,
    SlateScorer,
    item_features,
    optimal_gains,
    user_features,
)
from slateflow.trajectories import Dataset, Trajectories
from slateflow.trajectories.clicked import clicked_features

Array = NDArray[np.float64]

BLOCK_ROWS = 20_000
"""Rows whose features are in memory at once."""


CATEGORIES = ("cluster",)
"""Responses that number kinds, and so have no sum."""


@dataclass(frozen=True)
class Sessions:
    """Logged steps, with what they say of the session so far.

    Attributes:
        rows: The steps, R of them.
        starts: (E,) first row of each episode.
        ends: (R,) whether the row is its episode's last.
        past: (R, H) sums over the earlier steps of the session: steps, clicks, rewards and
            responses that are quantities. They shift the values of all items of a step alike, so
            that no policy needs them, but they tell how much of a session is left, and so take
            noise out.
    """

    rows: Trajectories
    starts: NDArray[np.intp]
    ends: NDArray[np.bool_]
    past: Array

    @classmethod
    def of(cls, rows: Trajectories) -> Sessions:
        """From rows that are sorted by episode, then step."""
        first = np.append(True, rows.episode[1:] != rows.episode[:-1])
        starts = np.flatnonzero(first)
        clicks = rows.clicked >= 0
        responses = [
            rows.responses[name] for name in sorted(rows.responses) if name not in CATEGORIES
        ]
        events = np.column_stack([np.ones(len(rows)), clicks, rows.reward, *responses])
        events = events.astype(np.float64)
        return cls(rows, starts, np.append(first[1:], True), _sums_before(events, starts))

    @property
    def lengths(self) -> NDArray[np.intp]:
        """(E,) steps of each episode."""
        return np.diff(np.append(self.starts, len(self.rows)))

    def returns_to_go(self) -> Array:
        """(R,) sum of the rewards from this step to the episode's end."""
        rewards = self.rows.reward.astype(np.float64)
        before = _sums_before(rewards[:, None], self.starts)[:, 0]
        return np.repeat(np.add.reduceat(rewards, self.starts), self.lengths) - before

    def blocks(self) -> Iterator[NDArray[np.intp]]:
        """Row numbers, some thousands at a time."""
        yield from np.array_split(np.arange(len(self.rows)), -(-len(self.rows) // BLOCK_ROWS))


def _sums_before(events: Array, starts: NDArray[np.intp]) -> Array:
    """(R, H) sums over the rows of the same episode before each row."""
    sums = np.cumsum(events, axis=0) - events
    lengths = np.diff(np.append(starts, len(events)))
    before: Array = sums - np.repeat(sums[starts], lengths, axis=0)
    return before


def train_slateq(
    dataset: Dataset,
    config: SlateQConfig,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[SlateScorer, dict[str, list[float]]]:
    """Train from logged slates.

    Args:
        dataset: Of any world; episodes may differ in length.
        config: The learner's settings.
        seed: Of the choice model's classes.
        progress: Called with the finished and all policy iterations.

    Returns:
        The scorer, and by policy iteration how much the values changed.

    Raises:
        InputError: The dataset cannot be learnt from.
    """
    rows = dataset.read()
    clicked_features(rows)  # raises where they cannot teach anything
    for name in ("user", "candidates", "reward"):
        if not np.isfinite(getattr(rows, name)).all():
            raise InputError(f"{name}: expected finite numbers, got NaN or infinity")
    sessions = Sessions.of(rows)
    shown = np.take_along_axis(rows.candidates, rows.slate[:, :, None], axis=1)
    choices = Choices(item_features(rows.user, shown), rows.clicked, sessions.starts)
    rng = np.random.Generator(np.random.SFC64(seed))
    choice = fit_choice_model(choices, config.classes, config.ridge, rng)
    totals = np.add.reduceat(choices.log_likelihoods(choice), sessions.starts)
    member = np.repeat(choice.posterior(totals), sessions.lengths, axis=0)  # (R, G)
    classes = [
        PolicyIteration(sessions, choice.of_class(g), member[:, g], config.ridge)
        for g in range(len(choice.shares))
    ]
    changes: list[float] = []
    for done in range(1, config.iterations + 1):
        changes.append(max(one.improve() for one in classes))
        progress(done, config.iterations)
        if changes[-1] < config.tolerance:
            break
    click, item, none = (
        np.stack(part) for part in zip(*(one.parts for one in classes), strict=True)
    )
    spec = dataset.spec
    scorer = SlateScorer(
        user_size=spec.user_size,
        document_size=spec.document_size,
        slate_size=spec.slate_size,
        construction=config.construction,
        choice_weights=choice.weights,
        choice_no_click=choice.no_click,
        choice_shares=choice.shares,
        item_values=item,
        click_values=click,
        no_click_values=none,
    )
    return scorer, {"value_change": changes}


class PolicyIteration:
    """Weights of the values for one class of users, and the step to those of a better policy.

    The columns of the design are (user's features, item's features) where an item was clicked,
    the user's features where none was, and the past: 2 S + P + H of them. A row weighs as much
    as its episode is likely to be of the class.
    """

    def __init__(
        self, sessions: Sessions, choice: ChoiceModel, member: Array, ridge: float
    ) -> None:
        self.sessions, self.choice = sessions, choice
        self.design = np.concatenate([self._design(block) for block in sessions.blocks()])
        self.weighted = self.design * member[:, None]
        self.gram = self.weighted.T @ self.design + ridge * np.eye(self.design.shape[1])
        self.reward = self.weighted.T @ sessions.rows.reward.astype(np.float64)
        self.weights = np.linalg.solve(self.gram, self.weighted.T @ sessions.returns_to_go())

    def improve(self) -> float:
        """Solve for the values of the policy that is greedy on the present ones.

        Returns:
            How much the values of the logged choices change, relative to their deviation.
        """
        following = np.zeros_like(self.gram)
        for block in self.sessions.blocks():
            ongoing = block[~self.sessions.ends[block]]
            following += self.weighted[ongoing].T @ self._expected_design(ongoing + 1)
        before = self.weights
        self.weights = np.linalg.solve(self.gram - following, self.reward)
        change = np.sqrt(np.mean((self.design @ (self.weights - before)) ** 2))
        return float(change / ((self.design @ self.weights).std() or 1.0))

    @property
    def parts(self) -> tuple[Array, Array, Array]:
        """The weights of clicks (S,), items (P,) and no click (S,)."""
        items = self.choice.weights.shape[1]
        users = (len(self.weights) - items - self.sessions.past.shape[1]) // 2
        click, item, none, _ = np.split(self.weights, np.cumsum([users, items, users]))
        return click, item, none

    def _design(self, block: NDArray[np.intp]) -> Array:
        """The features (B, 2 S + P + H) of what was chosen."""
        rows = self.sessions.rows
        state = user_features(rows.user[block])
        clicked = (rows.clicked[block] >= 0)[:, None]
        position = np.maximum(rows.clicked_candidate()[block], 0)
        chosen = rows.candidates[block, position][:, None]
        item = item_features(rows.user[block], chosen)[:, 0]
        past = self.sessions.past[block]
        return np.concatenate([state * clicked, item * clicked, state * ~clicked, past], axis=1)

    def _expected_design(self, block: NDArray[np.intp]) -> Array:
        """The same in expectation, if the present policy chose the slates of these rows."""
        rows = self.sessions.rows
        features = item_features(rows.user[block], rows.candidates[block])  # (B, N, P)
        state = user_features(rows.user[block])
        click, item_weights, none = self.parts
        offer = Offer(
            belief=np.ones((1, len(block))),
            attraction=self.choice.attraction(features),
            values=(features @ item_weights + (state @ click)[:, None])[None],
            none=(state @ none)[None],
        )
        places = rows.slate.shape[1]
        slates = top_slates(optimal_gains(offer, places), places)
        weight = np.take_along_axis(offer.attraction[0], slates, axis=1)
        share = weight / (1.0 + weight.sum(axis=1, keepdims=True))  # (B, K), of each item
        shown = np.take_along_axis(features, slates[:, :, None], axis=1)
        item = np.einsum("bk,bkp->bp", share, shown)
        any_click = share.sum(axis=1, keepdims=True)
        past = self.sessions.past[block]
        return np.concatenate([state * any_click, item, state * (1 - any_click), past], axis=1)
