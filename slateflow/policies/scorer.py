"""The learned scoring function: one candidate in, one number out, weights shared by all.

This file serves twice: policies are evaluated with it, and a registered model version carries a
copy of it as an artifact. It therefore needs nothing but NumPy.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import accumulate, repeat
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CACHED_NUMBERS = 2**16
"""Numbers of a layer in memory at once: as many as fit into the processor's cache."""

SPARSE_FROM = 64
"""Fewest features per nonzero feature of an item with which zeros are left out: looking up a weight
takes as long as some fifty multiplications."""


@dataclass(frozen=True)
class Support:
    """Frequency with which logs show candidates like a given one, as a decision tree of S nodes.

    See `slateflow.user_models.support`.
    """

    feature: NDArray[np.int64]  # (S,) number of the feature that a node compares
    threshold: Array  # (S,) values up to it go left, values above it right
    children: NDArray[np.int64]  # (S, 2) left and right; leaves are their own children
    rows: Array  # (S,) logged rows that end at a node
    offered: Array  # (S,) rows that would end there if all candidates were shown equally often
    least: float  # share of the rows offered below which a candidate is hardly seen
    depth: int  # nodes from the root to the deepest leaf

    @property
    def gaps(self) -> NDArray[np.bool_]:
        """(S,) True for nodes of hardly seen candidates."""
        return np.asarray(self.rows < self.least * self.offered)

    def leaves(self, x: NDArray[np.floating]) -> NDArray[np.int64]:
        """(R,) leaves that features (R, F) reach."""
        node, row = np.zeros(len(x), np.int64), np.arange(len(x))
        for _ in range(self.depth):
            right = x[row, self.feature[node]] > self.threshold[node]
            node = self.children[node, right.astype(np.int64)]
        return node

    def hardly_seen(self, x: NDArray[np.floating]) -> NDArray[np.bool_]:
        """(…) True where the logs hardly show candidates with the features (…, F)."""
        hardly = self.gaps[self.leaves(x.reshape(-1, x.shape[-1]))]
        return np.asarray(hardly.reshape(x.shape[:-1]))


@dataclass(frozen=True)
class Scorer:
    """Scores from (user, memory, steps left, candidate): products, powers or ReLU layers.

    The features are x = (user, memory, steps left, candidate), F = U + M + 1 + D of them, where
    the steps left are counted up to `window` and divided by it. Where values bend, H hinges
    (x − knot)₊² follow the features. A polynomial scorer has powers, a network has layers; a scorer
    with both adds their outputs, and the weights of its monomials come first in the head. A scorer
    with neither is bilinear: its head weighs the products of (1, user) and (1, candidate), too many
    to list their powers where items are distinguished by their ids. The head has a row of weights
    for each number of steps left from 1 to S; the last row also serves all larger numbers.

    The session memory replaces a hidden user state: for each of the `decays`, a sum of the clicked
    candidates' features and of the rewards, D + 1 numbers, in which a step weighs less than the
    step after it by that factor. If the memory is `counted`, the steps are summed up, too, in H
    numbers behind all these sums.
    """

    user_size: int  # U, features of the user
    slate_size: int  # K, candidates shown
    horizon: int  # steps in an episode
    window: int  # steps left are counted exactly only within this many steps of the end
    offset: Array  # (F + H,) subtracted from the features
    scale: Array  # (F + H,) by which the features are then divided
    powers: NDArray[np.int64]  # (P, F + H) exponents of the monomials, (0, F) without
    head: Array  # (S, …) weights of monomials and outputs, or of products
    head_bias: Array  # (S,)
    weights: tuple[Array, ...] = field(default=())  # one (inputs, outputs) matrix for each layer
    biases: tuple[Array, ...] = field(default=())  # one (outputs,) vector for each layer
    # (H,) decay factors of the session memory; empty without one
    decays: Array = field(default_factory=lambda: np.zeros(0))
    counted: bool = False
    # Ranks candidates last that the logs hardly show; None where the logs show all
    support: Support | None = None
    # (H,) numbers of the features that bend, ascending, and their knots
    knot_feature: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    knot_value: Array = field(default_factory=lambda: np.zeros(0))

    @cached_property
    def document_size(self) -> int:
        """D, features of a candidate."""
        decays, features = len(self.decays), len(self.offset) - len(self.knot_feature)
        return (features - self.user_size - 1 - decays * (1 + self.counted)) // (decays + 1)

    @property
    def memory_size(self) -> int:
        """M, numbers in the session memory."""
        return len(self.decays) * (self.document_size + 1 + self.counted)

    def scores(
        self,
        user: NDArray[np.floating],
        step: NDArray[np.integer],
        candidates: NDArray[np.floating],
        memory: Array | None = None,
    ) -> Array:
        """Scores (B, N) of `candidates` (B, N, D) for `user` (B, U) at `step` (B,).

        Without a `memory` (B, M) all sessions are at their beginning. Where all rows share one
        array of candidates (`np.broadcast_to`), their part is computed once.
        """
        if memory is None:
            memory = np.zeros((len(candidates), self.memory_size))
        if len(candidates) and not candidates.strides[0]:
            candidates = candidates[:1]
        left = np.clip(self.horizon - np.asarray(step), 1, None)
        row = np.minimum(left, len(self.head)) - 1
        known = np.column_stack([user, memory, np.minimum(left, self.window) / self.window])
        known, documents = self._bent(known, 0), self._bent(np.asarray(candidates), known.shape[1])
        (offset, scale), (own_offset, own_scale) = self._standards
        known = (known - offset) / scale
        if not self._as_they_are:
            documents = (documents - own_offset) / own_scale
        scored = self.head_bias[row][:, None]
        if len(self.powers):
            scored = scored + self._polynomial(known, documents, row)
        if self.weights:
            scored = scored + self._network(known, documents, self.head[row, len(self.powers) :])
        elif not len(self.powers):
            scored = scored + self._bilinear(known[:, : self.user_size], documents, row)
        if self.support is not None:
            unseen = self.support.hardly_seen(np.asarray(candidates))
            scored = scored - unseen * (np.ptp(scored, axis=1, keepdims=True) + 1)
        return np.asarray(scored)

    def _bent(self, x: Array, first: int) -> Array:
        """The features (…, F) from number `first` on, followed by their hinges."""
        if not len(self.knot_feature):
            return x
        own = slice(*np.searchsorted(self.knot_feature, [first, first + x.shape[-1]]))
        bends = hinges(x, self.knot_feature[own] - first, self.knot_value[own])
        return np.concatenate([x, bends], axis=-1)

    @cached_property
    def _places(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Numbers of features and hinges that all candidates share, and of a candidate's own."""
        features = np.arange(len(self.offset) - len(self.knot_feature))
        own = np.append(features, self.knot_feature) > self.user_size + self.memory_size
        return np.flatnonzero(~own), np.flatnonzero(own)

    @cached_property
    def _standards(self) -> list[tuple[Array, Array]]:
        """Offset and scale of the features that all candidates share, and of a candidate's own."""
        return [(self.offset[place], self.scale[place]) for place in self._places]

    @cached_property
    def _as_they_are(self) -> bool:
        """True if a candidate's features count unscaled, as one-hot ids of hundreds of items do."""
        offset, scale = self._standards[1]
        plain = not offset.any() and bool((scale == 1).all())
        return plain and not len(self.powers) and not self.weights

    @cached_property
    def _factors(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """The monomials as products of features that all candidates share and a candidate's own.

        Returns:
            (A, …) powers of the shared features; (B, C) powers of a candidate's own monomials
            beside 1 and its C features, which include hinges; and (S, A, 1 + C + B) the weights of
            the products.
        """
        (shared_place, own_place), size = self._places, len(self._places[1])
        shared, one = np.unique(self.powers[:, shared_place], axis=0, return_inverse=True)
        own = self.powers[:, own_place]
        degree = own.sum(axis=1)
        higher, rank = np.unique(own[degree > 1], axis=0, return_inverse=True)
        other = np.where(degree == 1, 1 + own.argmax(axis=1), 0)
        other[degree > 1] = 1 + size + rank.ravel()
        weights = np.zeros((len(shared), 1 + size + len(higher), len(self.head)))
        np.add.at(weights, (one.ravel(), other), self.head[:, : len(self.powers)].T)
        return shared, higher, np.moveaxis(weights, 2, 0)

    def _bilinear(self, user: Array, documents: Array, row: NDArray[np.integer]) -> Array:
        """(B, N) sums of the products, with these rows (B,) of the head."""
        weights = np.empty((len(user), 1 + documents.shape[2]))
        for left in np.unique(row):
            rows, products = row == left, self.head[left].reshape(1 + user.shape[1], -1)
            weights[rows] = products[0] + user[rows] @ products[1:]
        return _weighted(documents, weights)

    def _polynomial(self, known: Array, documents: Array, row: NDArray[np.integer]) -> Array:
        """(B, N) sums of the monomials, with these rows (B,) of the head."""
        shared, higher, products = self._factors
        known, size = monomials(known, shared), documents.shape[2]
        weights = np.empty((len(known), products.shape[2]))  # of a candidate's own monomials
        for left in np.unique(row):
            rows = row == left
            weights[rows] = known[rows] @ products[left]
        scored = _weighted(documents, weights[:, : 1 + size])
        if len(higher):
            scored += _inner(monomials(documents, higher), weights[:, 1 + size :])
        return scored

    def _network(self, known: Array, documents: Array, head: Array) -> Array:
        """(B, N) outputs; the first layer processes the shared features only once per row."""
        batch, (count, size) = len(known), documents.shape[1:]
        shared, first = np.split(self.weights[0], [known.shape[1]])
        known = known @ shared + self.biases[0]
        scored = np.empty((batch, count))
        of_all = None if len(documents) == batch else documents[0] @ first
        rows = max(1, CACHED_NUMBERS // (count * max(map(len, self.biases))))
        for block in (slice(start, start + rows) for start in range(0, batch, rows)):
            if of_all is None:
                own = documents[block].reshape(-1, size) @ first
                hidden = own.reshape(-1, count, len(first.T))
                hidden += known[block, None]
            else:
                hidden = of_all + known[block, None]
            np.maximum(hidden, 0.0, out=hidden)
            for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
                hidden = np.maximum(hidden @ weight + bias, 0.0)
            scored[block] = np.matmul(hidden, head[block, :, None])[:, :, 0]
        return scored

    def remember(
        self,
        memory: Array,  # (B, M) before the step; zeros at the beginning
        user: NDArray[np.floating],  # (B, U) before the step
        shown: NDArray[np.floating],  # (B, K, D) the slate
        clicked: NDArray[np.integer],  # (B,) the clicked place, −1 for none
        reward: NDArray[np.floating],  # (B,)
    ) -> Array:
        """The memory (B, M) after a step."""
        del user
        place = np.maximum(clicked, 0)[:, None, None]
        chosen = np.take_along_axis(shown, place, axis=1)[:, 0] * (clicked >= 0)[:, None]
        event = np.concatenate([chosen, np.arcsinh(reward)[:, None]], axis=1)  # (B, D + 1)
        sums, counts = np.split(memory, [len(self.decays) * event.shape[1]], axis=1)
        past = sums.reshape(len(sums), len(self.decays), -1)
        kept = past * self.decays[:, None] + event[:, None]
        counts = counts * self.decays[: counts.shape[1]] + 1.0
        return np.concatenate([kept.reshape(sums.shape), counts], axis=1)

    def save(self, path: str | Path) -> None:
        """Write the weights as an `.npz` that loads without pickle."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        if (support := arrays.pop("support")) is not None:
            arrays |= {f"support_{f.name}": getattr(support, f.name) for f in fields(support)}
        for name in ("weights", "biases"):
            for layer, array in enumerate(arrays.pop(name)):
                arrays[f"{name}_{layer}"] = array
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        layers = sum(name.startswith("weights_") for name in arrays)
        for name in ("weights", "biases"):
            arrays[name] = tuple(arrays.pop(f"{name}_{layer}") for layer in range(layers))
        for name in ("user_size", "slate_size", "horizon", "window"):
            arrays[name] = int(arrays[name])
        arrays["counted"] = bool(arrays.get("counted", False))  # older files do not have it
        support = {
            f.name: arrays.pop(f"support_{f.name}")
            for f in fields(Support)
            if f"support_{f.name}" in arrays
        }
        if support:
            least, depth = float(support.pop("least")), int(support.pop("depth"))
            arrays["support"] = Support(**support, least=least, depth=depth)
        return cls(**arrays)


def _weighted(documents: Array, weights: Array) -> Array:
    """(B, N) sums of (1, features) of candidates (B or 1, N, D) with weights (B, 1 + D)."""
    return np.asarray(weights[:, :1] + _inner(documents, weights[:, 1:]))


def _inner(documents: Array, weights: Array) -> Array:
    """(B, N) products of weights (B, D) and features (B, N, D), or (1, N, D) shared by all rows."""
    if len(documents) == len(weights):
        return np.asarray(np.einsum("bnd,bd->bn", documents, weights))
    return products_with(documents[0])(weights)


def products_with(features: NDArray[np.floating]) -> Callable[[Array], Array]:
    """A function that multiplies weights (B, D) by `features` (N, D), with the result (B, N).

    Where nearly all features are zero, as with items distinguished by their ids, only the others
    are multiplied.
    """
    item, column = np.nonzero(features != 0)
    count = np.bincount(item, minlength=len(features))
    most = int(count.max(initial=0))
    if most * SPARSE_FROM > features.shape[1]:
        return lambda weights: np.asarray(weights @ features.T)
    rank = np.arange(len(item)) - (np.cumsum(count) - count)[item]
    columns = np.zeros((most, len(features)), np.int64)
    values = np.zeros(columns.shape)
    columns[rank, item], values[rank, item] = column, features[item, column]

    def looked_up(weights: Array) -> Array:
        total = np.zeros((len(weights), len(features)))
        for place, value in zip(columns, values, strict=True):
            total += np.take(weights, place, axis=1) * value
        return total

    return looked_up


def hinges(x: Array, feature: NDArray[np.integer], value: Array) -> Array:
    """(…, H) squares of the excess of features (…, F), by their numbers (H,), over values (H,)."""
    return np.square(np.maximum(x[..., feature] - value, 0.0))


def monomials(x: Array, powers: NDArray[np.int64]) -> Array:
    """(…, P) products of the features (…, F) raised to the powers (P, F)."""
    columns = np.ascontiguousarray(np.moveaxis(x, -1, 0))
    tops = powers.max(axis=0, initial=0)
    tables = [  # x, x², …
        list(accumulate(repeat(column, top), np.multiply))
        for column, top in zip(columns, tops.tolist(), strict=True)
    ]
    products = np.ones((len(powers), *x.shape[:-1]))  # each monomial contiguous in memory
    for place, feature in zip(*np.nonzero(powers), strict=True):
        products[place] *= tables[feature][powers[place, feature] - 1]
    return np.moveaxis(products, 0, -1)


SCORER = Scorer
"""The class with which a registered version loads its weights."""
