"""Regressions on the products of (1, user) and (1, candidate), and on the place in the slate.

Their sufficient statistics add up over parts, workers and days, and have one size for any number of
rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.trajectories import Dataset, Trajectories
from slateflow.trajectories.variation import no_variation_message
from slateflow.user_models.additive import Additive
from slateflow.user_models.origin import Origin, moved_pairs
from slateflow.user_models.storable import Storable
from slateflow.user_models.sums_of_parts import KeptSums, sum_over_parts

Array = NDArray[np.float64]

MOST_BILINEAR_FEATURES = 5_000
"""Most features P of a regression. Its statistics have P² numbers, 200 MB at that size, and
choosing its prior takes some minutes."""

BILINEAR_NUMBERS = 2**18
"""Most numbers in an array that a block of rows becomes."""


class Squares(NamedTuple):
    """Column numbers of the features whose squares are added, of the user and of the candidate."""

    user: tuple[int, ...] = ()
    candidate: tuple[int, ...] = ()


NO_SQUARES = Squares()


class Sizes(Protocol):
    """The sizes of a world that a regression needs."""

    @property
    def user_size(self) -> int:
        """U, features of the user."""
        ...

    @property
    def document_size(self) -> int:
        """D, features of a candidate."""
        ...

    @property
    def features_match(self) -> bool:
        """True if users are observed in the features of the candidates, in the same order."""
        ...

    @property
    def slate_size(self) -> int:
        """K, candidates shown."""
        ...

    @property
    def user_chooses(self) -> bool:
        """True if users see all shown candidates; otherwise they see the first."""
        ...


def feature_count(
    spec: Sizes, squares: Squares = NO_SQUARES, limit: int | None = MOST_BILINEAR_FEATURES
) -> int:
    """P, the number of features: the products, and all places but the first.

    Args:
        spec: The world.
        squares: Squares beside the features.
        limit: Most features; None for any number.

    Raises:
        InputError: There are more features than the limit.
    """
    users = spec.user_size + len(squares.user)
    documents = spec.document_size + len(squares.candidate)
    count = (1 + users) * (1 + documents) + places_seen(spec) - 1
    if limit is not None and count > limit:
        raise InputError(
            f"user, candidates: expected at most {limit:,} products of (1, user) and "
            f"(1, candidate), got {count:,} from {users:,} features of the user and "
            f"{documents:,} of a candidate; describe them by fewer features"
        )
    return count


def places_seen(spec: Sizes) -> int:
    """Number of places that users see: all where they choose, otherwise the first."""
    return spec.slate_size if spec.user_chooses else 1


def bilinear_features(user: NDArray[np.floating], candidates: NDArray[np.floating]) -> Array:
    """Products (B, N, (1 + U) (1 + D)) of (1, user) (B, U) and (1, candidate) (B, N, D).

    Example:
        >>> bilinear_features(np.array([[2.0]]), np.array([[[3.0], [5.0]]])).tolist()
        [[[1.0, 3.0, 2.0, 6.0], [1.0, 5.0, 2.0, 10.0]]]
    """
    batch, count, _ = candidates.shape
    products = _with_one(user)[:, None, :, None] * _with_one(candidates)[:, :, None, :]
    return np.asarray(products.reshape(batch, count, -1), np.float64)


def _with_one(features: NDArray[np.floating]) -> Array:
    """(…, 1 + F) features (…, F) preceded by a constant."""
    return np.concatenate([np.ones((*features.shape[:-1], 1)), features], axis=-1)


def _with_squares(features: Array, squared: tuple[int, ...]) -> Array:
    """Features (…, 1 + F), the first of which is the constant, followed by squares."""
    if not squared:
        return features
    return np.concatenate([features, np.square(features[..., np.add(squared, 1)])], axis=-1)


@dataclass(frozen=True)
class Block:
    """Slates that users saw, and their rewards.

    Attributes:
        user: (B, 1 + U) user's features, a constant first and squares last, which U includes.
        seen: (B, K, 1 + D) features of the items that users see.
        paid: (B, K) the reward at the clicked place, 0 elsewhere.
        items: (B, K) numbers of the seen items, where items are few; otherwise None.
        item_features: (M, 1 + D) features of all items, as in `seen`; otherwise None.
    """

    user: Array
    seen: Array
    paid: Array
    items: NDArray[np.integer] | None = None
    item_features: Array | None = None

    @classmethod
    def from_shown(
        cls,
        user: NDArray[np.floating],
        shown: NDArray[np.floating],
        clicked: NDArray[np.integer],
        reward: NDArray[np.floating],
        squares: Squares = NO_SQUARES,
    ) -> Self:
        """Make a block of slates.

        Args:
            user: (B, U) features of the user.
            shown: (B, K, D) features of the items that users see.
            clicked: (B,) the clicked place, −1 for none.
            reward: (B,) rewards.
            squares: Features whose squares are added.
        """
        for name, values in (("user", user), ("candidates", shown), ("reward", reward)):
            if not np.isfinite(values).all():
                raise InputError(f"{name}: expected finite numbers, got NaN or infinity")
        paid = np.where(clicked[:, None] == np.arange(shown.shape[1]), reward[:, None], 0.0)
        return cls(
            _with_squares(_with_one(user), squares.user),
            _with_squares(_with_one(shown), squares.candidate),
            paid.astype(np.float64),
        )

    def predicted(self, weights: Array) -> Array:
        """(B, K) sums of the features with weights (P,)."""
        products, places = np.split(weights, [self.user.shape[1] * self.seen.shape[2]])
        of_candidate = self.user @ products.reshape(self.user.shape[1], -1)  # (B, 1 + D)
        found = np.matmul(self.seen, of_candidate[:, :, None])[:, :, 0]
        return np.asarray(found + np.append(0.0, places))


def seen_blocks(rows: Trajectories, spec: Sizes, squares: Squares = NO_SQUARES) -> Iterable[Block]:
    """The slates of logged steps, as many at a time as fit into `BILINEAR_NUMBERS`."""
    places, users = places_seen(spec), spec.user_size + len(squares.user)
    documents = spec.document_size + len(squares.candidate)
    of_seen = places * _pairs(1 + documents)
    few: Array | None = None
    if rows.catalogue is not None and len(rows.catalogue) < _pairs(1 + documents):
        few = _with_squares(_with_one(rows.catalogue.features), squares.candidate)
        of_seen = len(few)
    size = max(1, BILINEAR_NUMBERS // max(of_seen, _pairs(1 + users)))
    for block in (slice(start, start + size) for start in range(0, len(rows), size)):
        shown = rows.shown_features(block)[:, :places]
        made = Block.from_shown(
            rows.user[block], shown, rows.clicked[block], rows.reward[block], squares
        )
        if few is not None:
            items = rows.candidates[block][np.arange(len(shown))[:, None], rows.slate[block]]
            made = replace(made, items=items[:, :places], item_features=few)
        yield made


def _pairs(features: int) -> int:
    return features * (features + 1) // 2


@dataclass(frozen=True)
class Sums(Additive, Storable):
    """The sums of `LinearStatistics` without the repetitions in its matrix.

    A product of two features is the product of a pair of the user's and a pair of the candidate's,
    and the user's pairs are the same for all places of a slate. So a row costs a quarter of P² for
    any number of places, and less with few items, for which users are summed up by item.

    Attributes:
        pairs: (pairs of 1 + U, pairs of 1 + D) sums of the products.
        place_products: (K, 1 + U, 1 + D) sums of the products in each place.
        place_weights: (K,) sums of the weights in each place.
        moment: (1 + U, 1 + D) sums of products × target.
        place_moment: (K,) sums of the targets in each place.
        magnitude: (1 + U, 1 + D) sums of the products' absolute values.
        target_squares: Sum of the squared targets.
        rows: Number of rows.
        user_origin: (U,) numbers that were subtracted from the user's columns.
        candidate_origin: (D,) numbers that were subtracted from the candidates'.
    """

    pairs: Array
    place_products: Array
    place_weights: Array
    moment: Array
    place_moment: Array
    magnitude: Array
    target_squares: float
    rows: int
    user_origin: Array
    candidate_origin: Array

    @classmethod
    def none(cls, spec: Sizes, squares: Squares = NO_SQUARES) -> Self:
        """Make the sums of no rows."""
        users = 1 + spec.user_size + len(squares.user)
        seen, places = 1 + spec.document_size + len(squares.candidate), places_seen(spec)
        return cls(
            pairs=np.zeros((_pairs(users), _pairs(seen))),
            place_products=np.zeros((places, users, seen)),
            place_weights=np.zeros(places),
            moment=np.zeros((users, seen)),
            place_moment=np.zeros(places),
            magnitude=np.zeros((users, seen)),
            target_squares=0.0,
            rows=0,
            user_origin=np.zeros(users - 1),
            candidate_origin=np.zeros(seen - 1),
        )

    @classmethod
    def from_rows(cls, rows: Trajectories, spec: Sizes) -> Self:
        """Sum up the candidates that were seen, a block of rows in memory at a time.

        Columns that are far from zero are taken less an origin near them.
        """
        feature_count(spec)
        origin = Origin.of(rows, spec.features_match)
        blocks = seen_blocks(origin.less(rows), spec)
        found = cls.of_blocks(
            ((block, np.ones_like(block.paid), block.paid) for block in blocks), cls.none(spec)
        )
        return replace(found, user_origin=origin.user, candidate_origin=origin.candidate)

    def __add__(self, other: Self) -> Self:
        if not self.rows:
            return other
        origin, total = self.origin, super().__add__(other.less(self.origin))
        return replace(total, user_origin=origin.user, candidate_origin=origin.candidate)

    @property
    def origin(self) -> Origin:
        """The numbers that were subtracted from columns."""
        return Origin(self.user_origin, self.candidate_origin)

    def less(self, origin: Origin) -> Self:
        """The sums of columns less another origin; magnitudes, for indicators only, stay."""
        if origin == self.origin:
            return self
        of_user, of_seen = self.origin.changes(origin)
        pairs = moved_pairs(self.pairs, of_user, pair_index(len(of_user)))
        return replace(
            self,
            pairs=moved_pairs(pairs.T, of_seen, pair_index(len(of_seen))).T,
            place_products=of_user @ self.place_products @ of_seen.T,
            moment=of_user @ self.moment @ of_seen.T,
            user_origin=origin.user,
            candidate_origin=origin.candidate,
        )

    @classmethod
    def of_blocks(cls, blocks: Iterable[tuple[Block, Array, Array]], none: Self) -> Self:
        """Sum up blocks, each with weights (B, K) and targets (B, K); `none` without blocks."""
        items: Array | None = None
        total: Self | None = None
        for block, weight, target in blocks:
            items = block.item_features
            sums = cls._of_block(block, weight, target)
            total = sums if total is None else total + sums
        return none if total is None else total._with_items(items)

    @classmethod
    def from_block(cls, block: Block, weight: Array, target: Array) -> Self:
        """Sum up a block with weights (B, K) and targets (B, K)."""
        return cls._of_block(block, weight, target)._with_items(block.item_features)

    def _with_items(self, item_features: Array | None) -> Self:
        """The sums of pairs, from the user's pairs by item where items are few."""
        if item_features is None:
            return self
        return replace(self, pairs=self.pairs @ pair_products(item_features))

    @classmethod
    def _of_block(cls, block: Block, weight: Array, target: Array) -> Self:
        user, seen = block.user, block.seen
        of_user = pair_products(user)
        if block.items is None or block.item_features is None:
            of_seen = np.matmul(weight[:, None, :], pair_products(seen))[:, 0]
            pairs = of_user.T @ of_seen
        else:
            count = len(block.item_features)
            cell = np.arange(len(user))[:, None] * count + block.items
            by_item = np.bincount(cell.ravel(), weight.ravel(), len(user) * count)
            pairs = of_user.T @ by_item.reshape(len(user), count)
        weighted, paid = weight[:, :, None] * seen, weight * target
        size = np.abs(seen) * weight[:, :, None]
        return cls(
            pairs=pairs,
            place_products=np.stack([user.T @ in_place for in_place in weighted.swapaxes(0, 1)]),
            place_weights=weight.sum(axis=0),
            moment=user.T @ np.matmul(paid[:, None, :], seen)[:, 0],
            place_moment=paid.sum(axis=0),
            magnitude=np.abs(user).T @ size.sum(axis=1),
            target_squares=float((paid * target).sum()),
            rows=weight.size,
            user_origin=np.zeros(user.shape[1] - 1),
            candidate_origin=np.zeros(seen.shape[2] - 1),
        )

    def expanded(self) -> LinearStatistics:
        """The statistics of all P features."""
        users, seen = self.moment.shape
        products, places = users * seen, len(self.place_weights) - 1
        gram = np.zeros((products + places,) * 2)
        of_pairs = self.pairs[pair_index(users)[:, None, :, None], pair_index(seen)[:, None, :]]
        gram[:products, :products] = of_pairs.reshape(products, products)
        crossed = self.place_products[1:].reshape(places, products)
        gram[products:, :products], gram[:products, products:] = crossed, crossed.T
        gram[products:, products:] = np.diag(self.place_weights[1:])
        return LinearStatistics(
            gram=gram,
            moment=np.append(self.moment, self.place_moment[1:]),
            reward_squares=self.target_squares,
            rows=self.rows,
            magnitude=np.append(self.magnitude, self.place_weights[1:]),
        )


def pair_products(features: Array) -> Array:
    """Products (…, F (F + 1) / 2) of all pairs of features (…, F)."""
    each = range(features.shape[-1])
    return np.concatenate([features[..., i : i + 1] * features[..., i:] for i in each], axis=-1)


def pair_index(features: int) -> NDArray[np.intp]:
    """(F, F) number of each pair of features."""
    index = np.zeros((features, features), np.intp)
    one, other = np.triu_indices(features)
    index[one, other] = index[other, one] = np.arange(len(one))
    return index


@dataclass(frozen=True)
class LinearStatistics(Additive, Storable):
    """Sufficient statistics of a linear regression over any number of rows.

    Attributes:
        gram: (P, P) sum of the outer products of the features.
        moment: (P,) sum of features × reward.
        reward_squares: Sum of the squared rewards.
        rows: Number of rows.
        magnitude: (P,) sum of the features' absolute values.
    """

    gram: Array
    moment: Array
    reward_squares: float
    rows: int
    magnitude: Array

    @classmethod
    def none(cls, features: int) -> LinearStatistics:
        """Make the statistics of no rows."""
        return cls(np.zeros((features, features)), np.zeros(features), 0.0, 0, np.zeros(features))

    @classmethod
    def of_weighted(cls, x: Array, target: Array, weight: Array) -> LinearStatistics:
        """Sum up rows of features (R, P) with targets (R,), which count by weights (R,)."""
        weighted = (x * weight[:, None]).T
        return cls(
            gram=weighted @ x,
            moment=weighted @ target,
            reward_squares=float(np.square(target) @ weight),
            rows=len(target),
            magnitude=np.abs(weighted).sum(axis=1),
        )

    def check_candidates(self, spec: EnvironmentSpec) -> None:
        """Raise if nothing was ever clicked, or the seen candidates do not vary."""
        if not self.reward_squares:
            raise InputError("dataset: expected rows with a click, got none with a reward")
        own = slice(1, 1 + spec.document_size)  # of the candidate alone
        weight = self.gram[0, 0]
        mean, squares = self.gram[0, own] / weight, np.diag(self.gram)[own] / weight
        if (squares - mean**2 <= 1e-12 * squares).all():
            raise InputError(no_variation_message(mean))

    @classmethod
    def from_rows(cls, rows: Trajectories, spec: Sizes) -> LinearStatistics:
        """Sum up the candidates that were seen, a block of rows in memory at a time."""
        return as_they_are(Sums.from_rows(rows, spec))

    @classmethod
    def from_block(cls, block: Block) -> LinearStatistics:
        """Sum up the slates of a block."""
        return Sums.from_block(block, np.ones_like(block.paid), block.paid).expanded()


def dataset_sums(dataset: Dataset, kept: KeptSums[Sums] | None = None) -> Sums:
    """Sums of all seen candidates of a dataset; `kept` may hold the sums of finished days."""
    return sum_over_parts(dataset, Sums.from_rows, kept)


def dataset_statistics(dataset: Dataset, kept: KeptSums[Sums] | None = None) -> LinearStatistics:
    """Statistics of all seen candidates of a dataset, with all columns as they are."""
    return as_they_are(dataset_sums(dataset, kept))


def as_they_are(sums: Sums) -> LinearStatistics:
    """The statistics of columns from which nothing is subtracted."""
    sizes = len(sums.user_origin), len(sums.candidate_origin)
    return sums.less(Origin.none(*sizes)).expanded()
