"""The learned slate: a choice model and a value for each item, for users who choose themselves.

Like `scorer.py`, this file serves twice: policies are evaluated with it, and a registered model
version carries a copy of it as an artifact, with `slate_choice.py` beside it. Both need nothing but
NumPy.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .slate_choice import (  # a version carries the two side by side
    LIKENESS,
    Array,
    ChoiceModel,
    Columns,
    Link,
    RandomFeatures,
    choice_features,
    item_features,
    likeness,
    user_features,
)

ROUNDS = 10
"""Most times that each item of a slate is taken out; three or four are enough."""


SCORED_NUMBERS = 2**22
"""Features of candidates that are in memory at once."""


@dataclass(frozen=True)
class SlateScorer:
    """SlateQ's decomposition: Q(s, A) = Σ_{i ∈ A} P(i | s, A) Q(s, i) + P(none | s, A) Q(s, none).

    (Ie et al. 2019, "SlateQ", equation 17, with the case of no click written out.) Users of
    different classes have their own values and choices, and a slate is worth the mean over the
    classes, weighted by their probability given the session (QMDP: Littman, Cassandra and Kaelbling
    1995). The slate has the K highest scores.
    """

    user_size: int  # U, features of the user
    document_size: int  # D, features of a candidate
    slate_size: int  # K, candidates shown
    # How the slate is made (Ie et al. 2019, section 4.3): `optimal`, `greedy` or `top-k`, by
    # attraction × value
    construction: str
    choice_weights: Array  # (G, U + W + H + P), see `ChoiceModel` and `choice_features`
    choice_no_click: Array  # (G,)
    choice_shares: Array  # (G,)
    item_values: Array  # (G, P) weights of Q(s, i) in the item's features
    click_values: Array  # (G, S) weights of Q(s, i) in the user's features
    no_click_values: Array  # (G, S) weights of Q(s, none) in the user's features
    features_match: bool  # whether users are observed in the features of the candidates
    alike: bool = False  # whether the last of an item's features are its `likeness`
    # Columns of users and of items; None where these are not standardised
    user_columns: Columns | None = None
    item_columns: Columns | None = None
    random: RandomFeatures | None = None  # W by which users choose; None for none
    link: Link | None = None  # H further features of that kind; None for none
    seen: int = 0  # places of the slate that users see; 0 for all

    @property
    def choice(self) -> ChoiceModel:
        """The model of clicks."""
        return ChoiceModel(self.choice_weights, self.choice_no_click, self.choice_shares)

    @property
    def decays(self) -> Array:
        """(0,) decay factors: the session memory sums up no features."""
        return np.zeros(0)

    @property
    def window(self) -> int:
        """1: the values are of a stationary policy, which does not count the steps left."""
        return 1

    @property
    def memory_size(self) -> int:
        """M, numbers in the session memory: a log-likelihood for each of several classes."""
        classes = len(self.choice_shares)
        return classes if classes > 1 else 0

    def scores(
        self,
        user: NDArray[np.floating],
        step: NDArray[np.integer],
        candidates: NDArray[np.floating],
        memory: Array | None = None,
    ) -> Array:
        """Scores (B, N) of `candidates` (B, N, D) for `user` (B, U).

        Without a `memory` (B, M) all sessions are at their beginning.
        """
        del step  # the values are of a stationary policy
        size = max(1, SCORED_NUMBERS // max(1, candidates.shape[1] * self.choice_weights.shape[1]))
        blocks = [slice(first, first + size) for first in range(0, len(candidates), size)]
        if memory is None or not self.memory_size:
            memory = np.zeros((len(candidates), len(self.choice_shares)))
        found = [self._scored(user[one], candidates[one], memory[one]) for one in blocks]
        return np.concatenate(found) if found else np.zeros(candidates.shape[:2])

    def _scored(
        self, user: NDArray[np.floating], candidates: NDArray[np.floating], memory: Array
    ) -> Array:
        """Scores (B, N) of a block of rows."""
        user, candidates = self._seen(user, candidates)
        features = item_features(user, candidates, self.features_match)
        beside = None
        if self.alike:
            alone = np.zeros((*features.shape[:2], LIKENESS))
            features = np.concatenate([features, alone], axis=2)
            last = slice(-LIKENESS, None)
            beside = Beside(candidates, self.choice_weights[:, last], self.item_values[:, last])
        state = user_features(user)
        values = np.einsum("bnp,gp->gbn", features, self.item_values)
        values += (self.click_values @ state.T)[:, :, None]
        offer = Offer(
            belief=self.choice.posterior(memory).T,
            attraction=self.choice.attraction(self._chosen_by(user, candidates, features)),
            values=values,
            none=self.no_click_values @ state.T,
            beside=beside,
        )
        places = min(self._places, features.shape[1])
        return _GAINS[self.construction](offer, places)

    def remember(
        self,
        memory: Array,
        user: NDArray[np.floating],
        shown: NDArray[np.floating],
        clicked: NDArray[np.integer],
        reward: NDArray[np.floating],
    ) -> Array:
        """The memory (B, M) after a step; the arguments are those of `Scorer.remember`."""
        del reward
        if not self.memory_size:
            return memory
        user, shown = self._seen(user, shown[:, : self._places])
        features = item_features(user, shown, self.features_match)
        if self.alike:
            features = np.concatenate([features, likeness(shown)], axis=2)
        log = self.choice.log_probabilities(self._chosen_by(user, shown, features))
        return np.asarray(memory + log[:, np.arange(len(clicked)), clicked].T)

    @property
    def _places(self) -> int:
        return self.seen or self.slate_size

    def _seen(
        self, user: NDArray[np.floating], documents: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        if self.user_columns is None or self.item_columns is None:
            return user, documents
        return self.user_columns.seen(user), self.item_columns.seen(documents)

    def _chosen_by(
        self, user: NDArray[np.floating], documents: NDArray[np.floating], known: Array
    ) -> Array:
        """Features by which users choose, given the features `known` of documents."""
        if self.choice_weights.shape[1] == known.shape[2]:
            return known
        return choice_features(user, documents, known, self.features_match, self.random, self.link)

    def save(self, path: str | Path) -> None:
        """Write the weights as an `.npz` that loads without pickle."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in _PARTS:
            if (part := arrays.pop(name)) is not None:
                arrays |= {f"{name}_{f.name}": getattr(part, f.name) for f in fields(part)}
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        for name in ("user_size", "document_size", "slate_size"):
            arrays[name] = int(arrays[name])
        for name, kind in _PARTS.items():
            part = {f.name: arrays.pop(f"{name}_{f.name}", None) for f in fields(kind)}
            arrays[name] = None if any(one is None for one in part.values()) else kind(**part)
        # Earlier versions inferred it from the sizes
        by_size = arrays["user_size"] == arrays["document_size"] > 1
        arrays["features_match"] = bool(arrays.get("features_match", by_size))
        arrays["alike"] = bool(arrays.get("alike", False))
        arrays["seen"] = int(arrays.get("seen", 0))
        return cls(**{**arrays, "construction": str(arrays["construction"])})


@dataclass(frozen=True)
class Beside:
    """Effects of a slate's items on each other, by their `likeness`, where there are any."""

    documents: NDArray[np.floating]  # (B, N, D) of the candidates
    choice: Array  # (G, 2) weights of the logits
    values: Array  # (G, 2) weights of Q


@dataclass(frozen=True)
class Offer:
    """Candidates from which slates are made, for B users of G classes.

    Attractions and values are those of single items, without effects on each other.
    """

    belief: Array  # (G, B) probabilities of the classes
    attraction: Array  # (G, B, N) weight of each item relative to 1 for no click
    values: Array  # (G, B, N) Q of each item, once clicked
    none: Array  # (G, B) Q of no click
    beside: Beside | None = None

    def with_each(self, slates: NDArray[np.integer], place: int) -> Array:
        """Q (B, N) of slates (B, K − 1) with a candidate put in at a place; −∞ for those in it."""
        shape = len(self.belief), *slates.shape
        weight, value = (
            np.take_along_axis(one, np.broadcast_to(slates, shape), axis=2)[..., None]
            for one in (self.attraction, self.values)
        )  # (G, B, K − 1, 1)
        new_weight, new_value = self.attraction, self.values
        if self.beside is not None:
            documents = np.asarray(self.beside.documents, dtype=np.float64)
            there = np.take_along_axis(documents, slates[:, :, None], axis=1)
            far = _squared_distances(there, documents)  # (B, K − 1, N)
            new = np.stack([far[:, :place].sum(axis=1), far[:, place:].sum(axis=1)], axis=2)
            old = np.repeat(likeness(there)[:, :, None], far.shape[2], axis=2)
            old[:, :place, :, 1] += far[:, :place]
            old[:, place:, :, 0] += far[:, place:]
            choice, values = self.beside.choice, self.beside.values
            weight = weight * np.exp(np.einsum("bknl,gl->gbkn", old, choice))
            value = value + np.einsum("bknl,gl->gbkn", old, values)
            new_weight = new_weight * np.exp(np.einsum("bnl,gl->gbn", new, choice))
            new_value = new_value + np.einsum("bnl,gl->gbn", new, values)
        paid = (weight * value).sum(axis=2) + new_weight * new_value + self.none[:, :, None]
        total = weight.sum(axis=2) + new_weight + 1.0
        found: Array = (self.belief[:, :, None] * paid / total).sum(axis=0)
        np.put_along_axis(found, slates, -np.inf, axis=1)
        return found

    def worth(self, slates: NDArray[np.integer]) -> tuple[Array, Array]:
        """Q (G, B) of the slates (B, K), and the sum (G, B) of all weights in each."""
        index = np.broadcast_to(slates, (len(self.belief), *slates.shape))
        weight = np.take_along_axis(self.attraction, index, axis=2)
        total = weight.sum(axis=2) + 1.0
        value = (weight * np.take_along_axis(self.values, index, axis=2)).sum(axis=2) + self.none
        return value / total, total


def _squared_distances(ones: Array, others: Array) -> Array:
    """(B, M, N) squared distances between items (B, M, D) and others (B, N, D)."""
    of_ones, of_others = (np.square(x).sum(axis=2) for x in (ones, others))
    products = np.einsum("bmd,bnd->bmn", ones, others)
    return np.asarray(of_ones[:, :, None] + of_others[:, None] - 2 * products)


def optimal_gains(offer: Offer, slate_size: int) -> Array:
    """Gains (B, N) whose `slate_size` largest are the slate of greatest value.

    A slate's value is a ratio of sums, which SlateQ's paper maximises as a linear program.
    Dinkelbach (1967) needs only sorting: the best slate at the price q has the largest
    v_i (Q_i − q), its value is the next price, and the prices rise to the optimum. With several
    classes the value is a sum of ratios, whose linearisation climbs in the same way, to a local
    optimum, which need not be the global one.

    Where items influence each other, the slate is made place by place. Then one item after the
    other is replaced by the best candidate at the best place, until nothing better is found.
    """
    if offer.beside is not None:
        return _climbed(offer, _placed(offer, slate_size))
    rows = np.arange(offer.none.shape[1])
    best = np.argpartition(-_gains(offer, offer.none, 1.0), slate_size - 1)[:, :slate_size]
    price, total = offer.worth(best)
    value = (offer.belief * price).sum(axis=0)
    for _ in range(20):  # ends after three or four
        gains = _gains(offer, price, total)
        found = np.argpartition(-gains, slate_size - 1)[:, :slate_size]
        new_price, new_total = offer.worth(found)
        new_value = (offer.belief * new_price).sum(axis=0)
        better = new_value > value + 1e-12 * np.abs(value)
        if not better.any():
            break
        price, total = np.where(better, new_price, price), np.where(better, new_total, total)
        value = np.where(better, new_value, value)
        best[better] = found[better]
    gains = _gains(offer, price, total)
    shown = np.zeros(gains.shape)
    shown[rows[:, None], best] = 1.0
    # The slate found, whatever the linearisation prefers: above all others, and no tie
    return np.asarray(gains + shown * (np.ptp(gains, axis=1, keepdims=True) + 1.0))


def _gains(offer: Offer, price: Array, total: Array | float) -> Array:
    """(B, N) gain by each item in a slate of price (G, B) and total weight (G, B)."""
    share = offer.belief / total
    excess = offer.attraction * (offer.values - price[:, :, None])
    return np.asarray((share[:, :, None] * excess).sum(axis=0))


def greedy_gains(offer: Offer, slate_size: int) -> Array:
    """Scores (B, N) of slates made place by place, each item the best addition to those before.

    (Ie et al. 2019, section 4.3, "greedy".) The chosen items rank first, in their order.
    """
    return _in_order(offer, _placed(offer, slate_size))


def _placed(offer: Offer, slate_size: int) -> NDArray[np.intp]:
    """Slates (B, K), made place by place."""
    slates = np.empty((offer.none.shape[1], 0), np.intp)
    for place in range(slate_size):
        best = offer.with_each(slates, place).argmax(axis=1)
        slates = np.column_stack([slates, best])
    return slates


def _climbed(offer: Offer, slates: NDArray[np.intp]) -> Array:
    """Scores (B, N) of slates that no replacement of an item, at any place, improves."""
    users, places = np.arange(len(slates)), range(slates.shape[1])
    for _ in range(ROUNDS):
        before = slates.copy()
        for out in places:
            others = np.delete(slates, out, axis=1)
            worth = np.stack([offer.with_each(others, place) for place in places], axis=1)
            best = worth.reshape(len(users), worth.shape[1] * worth.shape[2]).argmax(axis=1)
            place, item = np.divmod(best, worth.shape[2])
            now = worth[users, out, slates[:, out]]
            better = worth[users, place, item] > now + 1e-12 * np.abs(now)
            for into in places:
                moved = better & (place == into)
                slates[moved] = np.insert(others[moved], into, item[moved], axis=1)
        if (slates == before).all():
            break
    return _in_order(offer, slates)


def _in_order(offer: Offer, slates: NDArray[np.intp]) -> Array:
    """Scores (B, N) that rank slates (B, K) first, in order, then the best for the last place."""
    places = slates.shape[1]
    scores = offer.with_each(slates[:, :-1], places - 1)
    scores -= scores.max(axis=1, keepdims=True)
    order = np.broadcast_to(np.arange(places, 0, -1.0), slates.shape)
    np.put_along_axis(scores, slates, order, axis=1)
    return scores


def top_k_gains(offer: Offer, slate_size: int) -> Array:
    """Scores (B, N) of slates made without regard to their other items.

    (Ie et al. 2019, section 4.3, "top-k".)
    """
    del slate_size
    paid = offer.attraction * offer.values
    return np.asarray((offer.belief[:, :, None] * paid).sum(axis=0))


_PARTS = {
    "user_columns": Columns,
    "item_columns": Columns,
    "random": RandomFeatures,
    "link": Link,
}
"""Fields of a `SlateScorer` that are arrays."""

_GAINS = {"optimal": optimal_gains, "greedy": greedy_gains, "top-k": top_k_gains}

SCORER = SlateScorer
"""The class with which a registered version loads its weights."""
