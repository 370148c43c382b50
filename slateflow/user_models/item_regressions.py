"""Regressions on the products of (1, user) and (1, item) where items have indicators of their ids.

With an indicator per item there are as many products as items times the user's features, and their
normal equations do not fit into memory. But a row of one item does not involve the indicators of
others: the matrix is an arrow, with a part that all items share and a block per item, and is solved
block by block (the Schur complement; Golub and Van Loan 2013, "Matrix Computations", section 3.2).
The regression is that of `bilinear`; the marginal likelihood chooses its prior, as in `prior`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.trajectories import Trajectories
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.schema import blocks
from slateflow.trajectories.variation import no_variation_message
from slateflow.user_models.additive import Additive
from slateflow.user_models.bilinear import (
    MOST_BILINEAR_FEATURES,
    Sizes,
    feature_count,
    pair_index,
    pair_products,
    places_seen,
)
from slateflow.user_models.centring import Centred
from slateflow.user_models.origin import Origin, Ranges, moved_pairs
from slateflow.user_models.prior import ITEM, PRODUCT, USER, fixed_point, noise_deviation
from slateflow.user_models.storable import Storable

Array = NDArray[np.float64]

ARROW_NUMBERS = 50_000_000
"""Most numbers in an array: of items by user's features, squared, and of items by items' features.
"""


def by_item(spec: EnvironmentSpec, most: int = MOST_BILINEAR_FEATURES) -> bool:
    """True if a regression has too many products for a matrix, but few enough for an arrow.

    Users have to see one item, and each item has to have an indicator.

    Args:
        spec: The world.
        most: Most products in a matrix.
    """
    products = feature_count(spec, limit=None)
    users, shared = 1 + spec.user_size, 1 + spec.document_size - spec.items
    return (
        products > most
        and places_seen(spec) == 1
        and not spec.features_match
        and 0 < spec.items <= spec.document_size
        and max(spec.items * users**2 * shared, (users * shared) ** 2) <= ARROW_NUMBERS
        and spec.items * spec.document_size <= ARROW_NUMBERS
    )


@dataclass(frozen=True)
class ItemSums(Additive, Storable):
    """Sums over the rows that show an item, for each of M items.

    Attributes:
        pairs: (M, pairs of 1 + U) sums of the products of two of (1, user).
        moment: (M, 1 + U) sums of (1, user) × reward.
        magnitude: (M, 1 + U) sums of absolute values of (1, user).
        reward_squares: Sum of the squared rewards.
        rows: Number of rows.
        user_origin: (U,) numbers that were subtracted from the user's columns.
    """

    pairs: Array
    moment: Array
    magnitude: Array
    reward_squares: float
    rows: int
    user_origin: Array

    @classmethod
    def none(cls, items: int, users: int) -> Self:
        """Make the sums of no rows, for these numbers of items and of the user's features."""
        known = np.zeros((items, 1 + users))
        pairs = np.zeros((items, pair_products(known).shape[1]))
        return cls(pairs, known, known, 0.0, 0, np.zeros(users))

    @classmethod
    def from_rows(cls, rows: Trajectories, spec: Sizes) -> Self:
        """Sum up the items that were seen, a block of rows in memory at a time.

        Columns that are far from zero are taken less an origin near them.
        """
        if rows.catalogue is None:
            raise InputError("items: expected logs that name items by number, got features")
        sums = cls.none(len(rows.catalogue), spec.user_size)
        origin = Ranges.of(rows.user).origin_of_some
        for block in blocks(len(rows), pair_products(np.ones(1 + spec.user_size)).size):
            user, reward = rows.user[block] - origin, rows.reward[block].astype(np.float64)
            for name, values in (("user", user), ("reward", reward)):
                if not np.isfinite(values).all():
                    raise InputError(f"{name}: expected finite numbers, got NaN or infinity")
            paid = np.where(rows.clicked[block] == 0, reward, 0.0)
            item = rows.shown_items(block)[:, 0]
            known = np.concatenate([np.ones((len(user), 1)), user], axis=1)
            cells = (np.ones(len(item)), (item, np.arange(len(item))))
            to_items = sparse.csr_matrix(cells, shape=(len(rows.catalogue), len(item)))
            sums += cls(
                pairs=np.asarray(to_items @ pair_products(known)),
                moment=to_items @ (known * paid[:, None]),
                magnitude=to_items @ np.abs(known),
                reward_squares=float(paid @ paid),
                rows=len(item),
                user_origin=sums.user_origin,
            )
        return replace(sums, user_origin=origin)

    def __add__(self, other: Self) -> Self:
        if not self.rows:
            return other
        total = super().__add__(other.less(self.user_origin))
        return replace(total, user_origin=self.user_origin)

    def less(self, origin: Array) -> Self:
        """The sums of columns less another origin (U,)."""
        if (origin == self.user_origin).all():
            return self
        none = np.zeros(0)
        change, _ = Origin(self.user_origin, none).changes(Origin(origin, none))
        pairs = moved_pairs(self.pairs.T, change, pair_index(len(change))).T
        return replace(self, pairs=pairs, moment=self.moment @ change.T, user_origin=origin)

    def near(self, catalogue: Catalogue) -> tuple[Origin, Catalogue]:
        """The origin of the user's and the items' columns, and the items less theirs."""
        origin = Origin(self.user_origin, Ranges.of(catalogue.features).origin)
        return origin, origin.less_of_items(catalogue)

    def check(self) -> None:
        """Raise if nothing was ever clicked, or only one item was shown."""
        if not self.reward_squares:
            raise InputError("dataset: expected rows with a click, got none with a reward")
        if np.count_nonzero(self.pairs[:, 0]) < 2:
            raise InputError(no_variation_message(self.pairs[:, 0].nonzero()[0].astype(np.float64)))


@dataclass(frozen=True)
class ItemRegression:
    """Normal equations in arrow form, with features centred and in units of their usual sizes.

    M items have n = 1 + U weights each, and share s = n (1 + F) weights, where F features of items
    are not indicators.

    Attributes:
        own: (M,) column of the indicator of each item.
        shared: (1 + F,) columns of the other features, the constant first, as if it were column −1.
        gram: (M, n, n) block of each item's weights.
        cross: (M, s, n) blocks of the shared weights with each item's.
        top: (s, s) block of the shared weights.
        moment: (M, n) moments of the items, and `top_moment` (s,).
        of_user: How the user's n features are centred, and `of_item` those that items share.
        group: (n,) groups of an item's weights, and `top_group` (s,).
    """

    own: NDArray[np.intp]
    shared: NDArray[np.intp]
    gram: Array
    cross: Array
    top: Array
    moment: Array
    top_moment: Array
    of_user: Centred
    of_item: Centred
    group: NDArray[np.intp]
    top_group: NDArray[np.intp]
    reward_squares: float
    rows: int

    @classmethod
    def of(
        cls, sums: ItemSums, catalogue: Catalogue, centring: tuple[Centred, Centred] | None = None
    ) -> Self:
        """The equations of sums.

        Args:
            sums: Of all rows.
            catalogue: The items.
            centring: Of the user's features and of those that items share; None for none.

        Raises:
            InputError: Items have no indicators.
        """
        own = indicators(catalogue)
        if own is None:
            raise InputError(
                f"user, candidates: expected at most {MOST_BILINEAR_FEATURES:,} products of "
                "(1, user) and (1, candidate), or items that are distinguished by their ids; "
                "describe them by fewer features"
            )
        shared, features = _shared(catalogue, own)
        users, wide = sums.moment.shape[1], features.shape[1]
        of_user, of_item = centring or (Centred.none(users), Centred.none(wide))
        features = features @ of_item.scaled.T
        gram = of_user.centred(sums.pairs[:, pair_index(users)])
        gram /= np.outer(of_user.size, of_user.size)
        moment = sums.moment @ of_user.scaled.T
        cross = (gram[:, :, None] * features[:, None, :, None]).reshape(len(own), -1, users)
        top = np.einsum("isb,ic->sbc", cross, features).reshape(users * wide, -1)
        user_kind, item_kind = np.minimum(np.arange(users), 1), np.minimum(np.arange(wide), 1)
        return cls(
            own,
            np.append(-1, shared),
            gram,
            cross,
            top,
            moment,
            np.einsum("ia,ic->ac", moment, features).ravel(),
            of_user,
            of_item,
            USER * user_kind + ITEM,
            (USER * user_kind[:, None] + ITEM * item_kind).ravel(),
            sums.reward_squares,
            sums.rows,
        )

    @property
    def members(self) -> NDArray[np.intp]:
        """(G,) number of weights in each group."""
        found = len(self.own) * np.bincount(self.group, minlength=PRODUCT + 1)
        return found + np.bincount(self.top_group, minlength=PRODUCT + 1)

    @property
    def unit(self) -> float:
        """The mean information on a weight."""
        total = np.trace(self.top) + np.trace(self.gram, axis1=1, axis2=2).sum()
        return float(total) / (self.moment.size + self.top_moment.size)

    def at(self, precision: Array) -> tuple[Array, Array, float]:
        """Sums (G,) of the posterior's variances and of squared means by group; the residual.

        Args:
            precision: (G,) precisions of the prior.
        """
        found = self._posterior(precision[self.top_group], precision[self.group])

        def summed(top: Array, own: Array) -> Array:
            each = np.bincount(self.top_group, top, PRODUCT + 1)
            return np.asarray(each + np.bincount(self.group, own.sum(axis=0), PRODUCT + 1))

        variance = summed(*found.variances)
        return variance, summed(found.top_mean**2, found.own_mean**2), found.residual

    def chosen_prior(self) -> tuple[Array, Array]:
        """Precisions (s,) and (n,) of the prior by the marginal likelihood."""
        precision = fixed_point(self, None)
        return precision[self.top_group], precision[self.group]

    def with_prior(self, top: Array | float, own: Array | float) -> ItemPosterior:
        """The posterior with prior precisions (s,) and (n,) of these features' weights."""
        return self._posterior(np.broadcast_to(top, self.top_moment.shape), own)

    def _posterior(self, top_precision: Array, precision: Array | float) -> ItemPosterior:
        users = np.arange(self.gram.shape[1])
        gram = self.gram.copy()
        gram[:, users, users] += precision
        inverse = np.asarray(np.linalg.inv(gram), np.float64)
        pulled = np.matmul(inverse, self.cross.swapaxes(1, 2))  # (M, n, s)
        of_own = np.matmul(inverse, self.moment[:, :, None])[:, :, 0]
        flat = self.cross.swapaxes(0, 1).reshape(len(self.top), -1)  # (s, M n)
        left = self.top + np.diag(top_precision) - flat @ pulled.reshape(-1, len(self.top))
        factor = linalg.cholesky((left + left.T) / 2, lower=True)
        top_mean = linalg.cho_solve((factor, True), self.top_moment - flat @ of_own.ravel())
        mean = np.asarray(of_own - pulled @ top_mean, np.float64)
        return ItemPosterior(self, np.asarray(top_mean), mean, inverse, pulled, np.asarray(factor))


@dataclass(frozen=True)
class ItemPosterior:
    """Gaussian posterior of the weights of an arrow's features.

    Attributes:
        regression: The normal equations.
        top_mean: (s,) means of the shared weights.
        own_mean: (M, n) means of the items' own weights.
        inverse: (M, n, n) covariances of the items' own weights, given the shared ones.
        pulled: (M, n, s) decrease of an item's own weights per unit of the shared ones.
        factor: (s, s) lower Cholesky factor of the precision of the shared weights.
    """

    regression: ItemRegression
    top_mean: Array
    own_mean: Array
    inverse: Array
    pulled: Array
    factor: Array

    @property
    def variances(self) -> tuple[Array, Array]:
        """Variances (s,) of the shared weights and (M, n) of the items', in units of the noise."""
        top = linalg.cho_solve((self.factor, True), np.eye(len(self.factor)))
        own = np.diagonal(self.inverse, axis1=1, axis2=2)
        return np.diag(top), own + ((self.pulled @ top) * self.pulled).sum(axis=2)

    @cached_property
    def residual(self) -> float:
        """Sum of the squared residuals at the posterior means."""
        one, top_mean, mean = self.regression, self.top_mean, self.own_mean
        top = one.top @ top_mean + np.einsum("isn,in->s", one.cross, mean)
        own = np.einsum("isn,s->in", one.cross, top_mean) + np.einsum("inm,im->in", one.gram, mean)
        explained = top_mean @ (2 * one.top_moment - top) + (mean * (2 * one.moment - own)).sum()
        return max(one.reward_squares - float(explained), 0.0)

    @property
    def noise(self) -> float:
        """Standard deviation of the rewards around the regression."""
        one = self.regression
        total = float(one.moment[:, 0].sum())  # of the constant
        return noise_deviation(self.residual, one.rows, total, one.reward_squares)

    @property
    def mean(self) -> Array:
        """(P,) means of the weights of the products of (1, user) and (1, candidate)."""
        return self._products(self.top_mean, self.own_mean)

    def draw(self, rng: np.random.Generator, exploration: float) -> Array:
        """Draw weights (P,), with `exploration` times the posterior's deviation."""
        noise = exploration * self.noise
        normal = rng.standard_normal(len(self.factor))
        top = noise * linalg.solve_triangular(self.factor, normal, lower=True, trans="T")
        normals = rng.standard_normal(self.own_mean.shape)
        own = noise * np.matmul(np.linalg.cholesky(self.inverse), normals[:, :, None])[:, :, 0]
        return self._products(self.top_mean + top, self.own_mean - self.pulled @ top + own)

    def _products(self, top: Array, own: Array) -> Array:
        one = self.regression
        users, columns = own.shape[1], len(one.own) + len(one.shared)
        found = np.zeros((users, columns))
        to_user = one.of_user.scaled.T
        found[:, 1 + one.shared] = to_user @ top.reshape(users, -1) @ one.of_item.scaled
        found[:, 1 + one.own] = to_user @ own.T
        return found.ravel()


def item_centring(sums: ItemSums, catalogue: Catalogue) -> tuple[Centred, Centred]:
    """Centre the user's features, and those that items share, over the rows of sums."""
    own = indicators(catalogue)
    known = np.arange(0) if own is None else own
    _, features = _shared(catalogue, known)
    seen = sums.pairs[:, :1]  # (M, 1) rows that show an item
    of_user = sums.pairs.sum(axis=0)[pair_index(sums.moment.shape[1])]
    return (
        Centred.of(of_user, sums.magnitude.sum(axis=0)),
        Centred.of(features.T @ (seen * features), (seen * np.abs(features)).sum(axis=0)),
    )


def _shared(catalogue: Catalogue, own: NDArray[np.intp]) -> tuple[NDArray[np.intp], Array]:
    """(F,) columns that are not indicators, and (M, 1 + F) their values after a constant."""
    shared = np.setdiff1d(np.arange(catalogue.features.shape[1]), own)
    features = catalogue.features[:, shared].astype(np.float64)
    return shared, np.concatenate([np.ones((len(features), 1)), features], axis=1)


def indicators(catalogue: Catalogue) -> NDArray[np.intp] | None:
    """(M,) columns that are 1 for the item and 0 for others; None if an item has no such column."""
    features = catalogue.features
    alone = np.flatnonzero((features != 0).sum(axis=0) == 1)
    item = features[:, alone].argmax(axis=0)
    ones = features[item, alone] == 1
    items, first = np.unique(item[ones], return_index=True)
    return np.asarray(alone[ones][first]) if len(items) == len(features) else None
