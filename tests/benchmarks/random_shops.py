"""Random shops and their logs, for verdicts and learners that were not tuned to them.

Ranges were fixed before any estimator saw one of these shops. Other seeds give other shops of the
same kind.

Items: 4 to 100 (log-uniform), all on offer or 4 to 20 of them; 0 to 3 columns of numbers and one of
2 to 8 categories, or their ids alone (at most 40), or both; a hidden quality in every third shop.
Users: 0 to 3 columns of numbers and one of 2 to 6 categories; a hidden mood in every third shop.
Tastes: sums of columns of users, of items, and of products of both, and in every third shop bent by
a sine. Rewards: clicks of 2 to 30%, by log-odds or by probability; clicks that pay a price; ratings
with normal noise. Sessions: single decisions; one to five steps; random ends; 3 to 8 steps each;
ends likelier after a click. Logging policies: random; a softmax of presumed tastes; their maximum
with 10 to 50% random. Rows: 8,000 to 60,000 (log-uniform).

Shops of slates have at least six items, show 2 to 5 of them, and have no ratings. Users click one
item or none: they look at all at once (a conditional logit); or move down from the top with a
probability of .5 to .95 at each place, and take the first item that they like; or look at each
place independently, at the next .4 to .9 times as likely, and take the first that they like. The
softmax draws place by place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments.slates import without_replacement
from slateflow.policies import Policy, SessionPolicy, top_slates
from slateflow.policies.behaviour import uniform_propensities
from slateflow.trajectories import Dataset, Trajectories
from tests.trajectories.sources.shop import log, published

Array = NDArray[np.float64]
Rng = np.random.Generator

MOST_STEPS = 12
"""Most steps of a session."""
PLAYED = 200_000
"""Most steps that a policy plays for its true value."""
AT_ONCE = 10_000
"""Sessions that play at once: candidates have many features."""


@dataclass(frozen=True)
class Columns:
    """Columns that describe users or items: numbers and a category, which may be missing.

    Attributes:
        numbers: (M, C) columns of numbers.
        category: (M,) categories, below `categories`.
        categories: Number of categories; 0 for none.
    """

    numbers: Array
    category: NDArray[np.intp]
    categories: int

    @classmethod
    def drawn(cls, rows: int, sizes: tuple[int, int], rng: Rng) -> Columns:
        """Columns of a number of users or items."""
        numbers, categories = sizes
        return cls(
            rng.normal(size=(rows, numbers)).round(3),
            rng.integers(0, max(categories, 1), rows),
            categories,
        )

    @property
    def features(self) -> Array:
        """(M, F) features, with the category one-hot."""
        return (
            np.concatenate([self.numbers, np.eye(self.categories)[self.category]], axis=1)
            if (self.categories)
            else self.numbers
        )

    def table(self, prefix: str) -> dict[str, Any]:
        """The columns by name."""
        found: dict[str, Any] = {
            f"{prefix}_{number}": column for number, column in enumerate(self.numbers.T)
        }
        if self.categories:
            names = np.array([f"c{one}" for one in range(self.categories)])
            found[f"{prefix}_kind"] = names[self.category]
        return found


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _one_of(rng: Rng, *options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


class RandomShop:
    """The shop of a number and a seed, which shows single items or slates."""

    def __init__(self, number: int, seed: int, slates: bool = False) -> None:
        rng = np.random.Generator(np.random.SFC64([seed, number]))
        self.described = _one_of(rng, "columns", "columns", "ids", "both")
        self.tell_apart = "auto"  # as recipes have it
        most = 40 if self.described != "columns" else 100
        self.items = round(_log_uniform(rng, 6 if slates else 4, most))
        self.offered = self.items
        if self.items > 6 and rng.random() < 0.5:
            self.offered = round(_log_uniform(rng, 6 if slates else 4, min(20, self.items)))
        self.user_sizes = self._sizes(rng, 6)
        item_sizes = self._sizes(rng, 8) if self.described != "ids" else (2, 0)
        self.catalogue = Columns.drawn(self.items, item_sizes, rng)
        rewards = ("clicks", "clicks", "clicks", "prices", "ratings")
        self.reward = _one_of(rng, *rewards[: 4 if slates else 5])
        self.by_odds = bool(rng.integers(2))
        self.bent = rng.random() < 1 / 3
        self.mood = float(rng.uniform(0.2, 0.8)) * (rng.random() < 1 / 3)
        self.own_quality = float(rng.uniform(0.1, 0.5)) * (rng.random() < 1 / 3)
        self.ends = _one_of(rng, "single", "single", "up to five", "by chance", "fixed", "clicks")
        self.length = int(rng.integers(3, 9))
        self.leaves = float(rng.uniform(0.1, 0.4))
        self.logs_by = _one_of(rng, "random", "softmax", "best", "best")
        self.explores = float(rng.uniform(0.1, 0.5))
        self.rows = round(_log_uniform(rng, 8_000, 60_000))
        self.rate = _log_uniform(rng, 0.02, 0.3)
        users, items = sum(self.user_sizes), self.catalogue.features.shape[1]
        self.of_user = rng.normal(0, 0.3, users)
        self.of_item = rng.normal(0, rng.uniform(0.2, 0.8), items)
        self.of_both = rng.normal(0, rng.uniform(0, 1) / np.sqrt(min(users, items)), (users, items))
        self.own = rng.normal(0, 1, self.items) * self.own_quality
        self.price = np.exp(rng.normal(0, 0.5, self.items))
        self.thought = rng.normal(0, 0.5, self.items)
        self.places, self.habit = 1, ""
        if slates:
            self.places = int(rng.integers(2, 6))
            self.habit = _one_of(rng, "all at once", "from the top", "place by place")
        self.goes_on, self.looks = float(rng.uniform(0.5, 0.95)), float(rng.uniform(0.4, 0.9))
        self.centre = 0.0
        known, offered = self._contexts(2_000, 1, np.random.default_rng(0))
        self.centre = float(self._liked(known.features, offered[:, 0]).mean())

    @staticmethod
    def _sizes(rng: Rng, most: int) -> tuple[int, int]:
        numbers = int(rng.integers(0, 4))
        return numbers, int(rng.integers(2, most + 1)) if not numbers or rng.integers(2) else 0

    def __str__(self) -> str:
        habit = f"slates of {self.places}, seen {self.habit}"
        share = {"from the top": self.goes_on, "place by place": self.looks}.get(self.habit)
        parts = [
            *[habit if share is None else f"{habit} {share:.2f}"] * bool(self.habit),
            f"{self.offered} of {self.items} items by {self.described}",
            f"{self.user_sizes} user",
            f"{self.catalogue.features.shape[1]} item",
            self.reward + (" by odds" if self.by_odds and self.reward != "ratings" else ""),
            *["bent"] * self.bent,
            *[f"mood {self.mood:.1f}"] * (self.mood > 0),
            *[f"own {self.own_quality:.1f}"] * (self.own_quality > 0),
            f"rate {self.rate:.2f}",
            self.ends,
            f"logged by {self.logs_by} {self.explores:.2f}",
            f"{self.rows:,} rows",
        ]
        return ", ".join(parts)

    def _contexts(self, sessions: int, steps: int, rng: Rng):
        """Users (E, …), and offers (E, L, N) of item numbers."""
        known = Columns.drawn(sessions, self.user_sizes, rng)
        if self.offered == self.items:
            return known, np.broadcast_to(np.arange(self.items), (sessions, steps, self.items))
        drawn = rng.random((sessions, steps, self.items))
        return known, np.argsort(drawn, axis=2)[:, :, : self.offered]

    def _liked(self, user: Array, item: NDArray[np.intp]) -> Array:
        """(E, N) tastes of users (E, F) for items (E, N), before link and mood."""
        features = self.catalogue.features
        weights = self.of_item + user @ self.of_both
        of_items = weights @ features.T + self.own + (user @ self.of_user)[:, None]
        if self.bent:
            of_items = 1.5 * np.sin(1.5 * of_items)
        return np.take_along_axis(of_items, item, axis=1) - self.centre

    def expected(self, user: Array, item: NDArray[np.intp], mood: Array) -> tuple[Array, Array]:
        """Probabilities of a click and expected rewards, (E, N), for users with moods (E,)."""
        liked = self._liked(user, item) + mood[:, None]
        if self.reward == "ratings":
            return np.clip(0.5 + liked / 8, 0, 1), liked
        odds = np.log(self.rate / (1 - self.rate))
        if self.by_odds:
            click = 1 / (1 + np.exp(-odds - liked))
        else:
            click = np.clip(self.rate * (1 + 0.5 * liked), 0, 1)
        return click, click * self.price[item] if self.reward == "prices" else click

    def answered(
        self, user: Array, item: NDArray[np.intp], mood: Array, rng: Rng
    ) -> tuple[NDArray[np.intp], Array]:
        """Places (E,) that users click among items (E, K), −1 for none; and expected rewards."""
        click, worth = self.expected(user, item, mood)
        if self.habit == "all at once":
            odds = click / np.maximum(1 - click, 1e-9)
            click = odds / (1 + odds.sum(axis=1, keepdims=True))
        elif self.habit:
            looked = np.full(self.places, self.looks) ** np.arange(self.places)
            if self.habit == "from the top":
                looked, step = np.ones(self.places), self.goes_on
            else:
                step = 1.0
            liked = click * looked
            passed = np.cumprod(step * (1 - liked[:, :-1]), axis=1)
            click = liked * np.concatenate([np.ones((len(liked), 1)), passed], axis=1)
        if self.habit:
            worth = click * self.price[item] if self.reward == "prices" else click
        place = (click.cumsum(axis=1) <= rng.random((len(click), 1))).sum(axis=1)
        return np.where(place == self.places, -1, place), worth.sum(axis=1)

    def paid(self, place: NDArray[np.intp], worth: Array, item: NDArray[np.intp], rng: Rng):
        """(E,) rewards with expectation `worth` for clicked places (E,) of items (E, K)."""
        if self.reward == "ratings":
            return np.asarray(worth + rng.normal(0, 1, len(worth)))
        chosen = item[np.arange(len(item)), place]
        return np.asarray((place >= 0) * (self.price[chosen] if self.reward == "prices" else 1.0))

    def ends_after(self, step: int, clicked: NDArray[np.bool_], length: NDArray[np.intp], rng: Rng):
        """(E,) whether a session ends after a step."""
        if self.ends in ("by chance", "clicks"):
            likelier = 2.0 * clicked if self.ends == "clicks" else 0.0
            return rng.random(len(clicked)) < np.minimum(self.leaves * (1 + likelier), 1.0)
        return step + 1 >= length

    def lengths(self, sessions: int, rng: Rng) -> NDArray[np.intp]:
        """(E,) largest numbers of steps of sessions."""
        if self.ends == "up to five":
            return rng.integers(1, 6, sessions)
        return np.full(sessions, {"single": 1, "fixed": self.length}.get(self.ends, MOST_STEPS))

    @property
    def most_steps(self) -> int:
        """Largest number of steps of a session."""
        return {"single": 1, "up to five": 5, "fixed": self.length}.get(self.ends, MOST_STEPS)

    def _logging(self, user: Array, offered: NDArray[np.intp]) -> Array:
        """(E, N) probabilities of a logging policy that shows one item."""
        uniform = np.full(offered.shape, 1 / offered.shape[1])
        if self.logs_by == "random":
            return uniform
        thought = self._liked(user, offered) + self.thought[offered]
        if self.logs_by == "best":
            best = np.eye(offered.shape[1])[thought.argmax(axis=1)]
            return self.explores * uniform + (1 - self.explores) * best
        shown = np.exp(thought / (2 * self.explores))
        return np.asarray(shown / shown.sum(axis=1, keepdims=True)) * 0.95 + 0.05 * uniform

    def _shows(
        self, user: Array, offered: NDArray[np.intp], rng: Rng
    ) -> tuple[NDArray[np.intp], Array]:
        """Places (E, K) of the logging policy's choices among candidates, and propensities."""
        rows = np.arange(len(offered))
        if not self.habit:
            shown = self._logging(user, offered)
            below = shown.cumsum(axis=1) < rng.random((len(rows), 1))
            place = np.minimum(below.sum(axis=1), self.offered - 1)
            return place[:, None], shown[rows, place]
        every = np.full(len(rows), self.offered)
        chance = uniform_propensities(every, self.places)
        drawn = without_replacement([rng.integers(every - place) for place in range(self.places)])
        if self.logs_by == "random":
            return drawn, chance
        thought = self._liked(user, offered) + self.thought[offered]
        if self.logs_by == "best":
            best = top_slates(thought, self.places).astype(np.intp)
            slates = np.where(rng.random((len(rows), 1)) < self.explores, drawn, best)
            same = (slates == best).all(axis=1)
            return slates, self.explores * chance + (1 - self.explores) * same
        left, propensity, places = np.exp(thought / (2 * self.explores)), np.ones(len(rows)), []
        free = np.ones_like(left)
        for _ in range(self.places):
            shown = 0.95 * left / left.sum(axis=1, keepdims=True)
            shown += 0.05 * free / free.sum(axis=1, keepdims=True)
            below = shown.cumsum(axis=1) < rng.random((len(rows), 1)) * shown.sum(axis=1)[:, None]
            place = below.sum(axis=1)
            propensity *= shown[rows, place]
            left[rows, place] = free[rows, place] = 0.0
            places.append(place)
        return np.stack(places, axis=1), propensity

    @property
    def recipe(self) -> str:
        """The recipe's text below the source."""
        users = ", ".join(
            f'"{name}"'
            for name in Columns.drawn(1, self.user_sizes, np.random.default_rng(0)).table("user")
        )
        lines = ["[columns]", f"user = [{users}]", 'episode = "session"', 'time = "time"']
        if self.offered < self.items:
            lines.append('candidates = "offered"')
        if self.habit:
            lines.append('clicked = "clicked"')
        lines += ["[items]", 'file = "items.csv"']
        if self.described != "ids":
            names = ["item"] * (self.described == "both") + list(self.catalogue.table("item"))
            lines.append(f"features = [{', '.join(repr(one) for one in names)}]")
        lines.append(f"tell_apart = '{self.tell_apart}'")
        return "\n".join(lines).replace("'", '"') + "\n"

    def _publish(self, folder: Path, **columns: Any) -> Dataset:
        folder.mkdir(parents=True, exist_ok=True)
        table = {"item": np.arange(self.items), **self.catalogue.table("item")}
        lines = [",".join(map(str, row)) for row in zip(*table.values(), strict=True)]
        (folder / "items.csv").write_text("\n".join([",".join(table), *lines]) + "\n")
        if self.offered == self.items:
            del columns["offered"]
        if not self.habit:
            columns["item"] = [one for (one,) in columns["item"]]
            del columns["clicked"]
        log(folder, "log.parquet", columns)
        return published(folder, self.recipe)

    def logs(self, folder: Path, seed: int) -> Dataset:
        """Logs of the logging policy."""
        rng, written = np.random.default_rng(seed), 0
        parts: list[dict[str, Any]] = []
        while written < self.rows:
            part = self._logged(max((self.rows - written) // self.most_steps, 500), written, rng)
            parts.append(part)
            written += len(part["time"])
        columns = {
            name: [*np.concatenate([part[name] for part in parts])]
            if name in ("offered", "item")
            else np.concatenate([part[name] for part in parts])
            for name in parts[0]
        }
        return self._publish(folder, **columns)

    def _logged(self, sessions: int, first: int, rng: Rng) -> dict[str, Any]:
        """Rows of some sessions."""
        steps = self.most_steps
        known, offers = self._contexts(sessions, steps, rng)
        mood = rng.normal(0, self.mood, sessions)
        length = self.lengths(sessions, rng)
        alive, parts = np.arange(sessions), []
        for step in range(steps):
            user, offered = known.features[alive], offers[alive, step]
            place, propensity = self._shows(user, offered, rng)
            item = np.take_along_axis(offered, place, axis=1)
            clicked, worth = self.answered(user, item, mood[alive], rng)
            reward = self.paid(clicked, worth, item, rng)
            parts.append((alive, step, item, offered, propensity, clicked, reward))
            alive = alive[~self.ends_after(step, clicked >= 0, length[alive], rng)]
        who = np.concatenate([part[0] for part in parts])
        when = np.concatenate([np.full(len(part[0]), part[1]) for part in parts])
        order = np.lexsort([when, who])
        names = ("item", "offered", "propensity", "clicked", "reward")
        return {
            "session": first + who[order],
            "time": first * MOST_STEPS + who[order] * MOST_STEPS + when[order],
            **{
                name: np.concatenate([part[number] for part in parts])[order]
                for number, name in enumerate(names, 2)
            },
            **{name: column[who[order]] for name, column in known.table("user").items()},
        }

    def stage(self, folder: Path, logs: Dataset) -> Stage:
        """Users and offers for policies that learnt from these logs."""
        steps = self.most_steps
        sessions, rng = PLAYED // steps, np.random.default_rng(1)
        known, offers = self._contexts(sessions, steps, rng)
        who = np.repeat(np.arange(sessions), steps)
        dataset = self._publish(
            folder,
            session=who,
            time=np.arange(len(who)),
            item=[*offers[:, :, : self.places].reshape(len(who), -1)],
            clicked=np.arange(len(who)) % 2 - 1,
            offered=[*offers.reshape(len(who), -1)],
            propensity=np.full(len(who), 1 / math.perm(self.offered, self.places)),
            reward=np.arange(len(who)) % 2,
            **{name: column[who] for name, column in known.table("user").items()},
        )
        rows = replace(dataset.read(), catalogue=logs.catalogue)
        return Stage(self, rows, known.features, offers)


@dataclass(frozen=True)
class Stage:
    """Users (E, F) and offers (E, L, N) on which policies of a shop play."""

    shop: RandomShop
    rows: Trajectories
    user: Array
    offers: NDArray[np.intp]

    def value(self, policy: Policy | None) -> float:
        """Mean return of a session; None plays the highest immediate reward."""
        rng, every = np.random.default_rng(2), np.arange(len(self.user))
        mood = rng.normal(0, self.shop.mood, len(every))
        length = self.shop.lengths(len(every), rng)
        parts = -(-len(every) // AT_ONCE)
        totals = (
            self._total(policy, part, mood, length, rng) for part in np.array_split(every, parts)
        )
        return sum(totals) / len(every)

    def _total(
        self,
        policy: Policy | None,
        alive: NDArray[np.intp],
        mood: Array,
        length: NDArray[np.intp],
        rng: Rng,
    ) -> float:
        """Sum of the returns of some sessions."""
        shop, total = self.shop, 0.0
        session = policy.begin(len(alive)) if isinstance(policy, SessionPolicy) else None
        for step in range(shop.most_steps):
            offered = self.offers[alive, step]
            if policy is None:
                _, worth = shop.expected(self.user[alive], offered, mood[alive])
                slates = top_slates(worth, shop.places)
            else:
                seen = self.rows.observation(alive * shop.most_steps + step)
                slates = (session or policy).act(seen, rng)[0]
            item = np.take_along_axis(offered, slates.astype(np.intp), axis=1)
            clicked, paid = shop.answered(self.user[alive], item, mood[alive], rng)
            total += float(paid.sum())
            stays = ~shop.ends_after(step, clicked >= 0, length[alive], rng)
            if session is not None:
                place = clicked.astype(np.int32) if shop.habit else np.zeros(len(alive), np.int32)
                session.remember(seen, slates, place, shop.paid(clicked, paid, item, rng))
                session.keep(np.flatnonzero(stays))
            alive = alive[stays]
        return total
