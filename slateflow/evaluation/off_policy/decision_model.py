"""The reward model in estimates for single decisions: a ridge regression, fold by fold."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec
from slateflow.trajectories import Trajectories
from slateflow.trajectories.catalogue import Catalogue
from slateflow.user_models.bilinear import LinearStatistics, Sums, feature_count
from slateflow.user_models.centring import bilinear_prior
from slateflow.user_models.item_regressions import (
    ItemRegression,
    ItemSums,
    by_item,
    indicators,
    item_centring,
)

Array = NDArray[np.float64]

MOST_WEIGHTS = 1_500
"""Most weights of a model that is solved as a matrix; a model with more leaves out the user, then
the candidate."""


@dataclass(frozen=True)
class DecisionModel:
    """Numbers of user's and candidate's features in the model, and whether it is solved by item."""

    user_size: int
    document_size: int
    features_match: bool
    slate_size: int = 1
    user_chooses: bool = False
    by_item: bool = False

    @classmethod
    def of(cls, spec: EnvironmentSpec, catalogue: Catalogue | None) -> Self:
        """The model of a world; without the user, then the candidate, where features are too many.

        Items distinguished by their ids may be many. With a coarser model estimates are still
        unbiased, because the weights correct it.
        """
        if (
            catalogue is not None
            and by_item(spec, MOST_WEIGHTS)
            and indicators(catalogue) is not None
        ):
            return cls(spec.user_size, spec.document_size, False, by_item=True)
        for sizes in ((spec.user_size, spec.document_size), (0, spec.document_size)):
            match = spec.features_match and sizes[0] > 0
            if feature_count(one := cls(*sizes, match), limit=None) <= MOST_WEIGHTS:
                return one
        return cls(0, 0, False)

    def sums(self, catalogue: Catalogue | None) -> Any:
        """The statistics of no rows."""
        if self.by_item and catalogue is not None:
            return ItemSums.none(len(catalogue), self.user_size)
        return Sums.none(self)

    def weights(self, folds: Sequence[Any], catalogue: Catalogue | None) -> Array:
        """(DR_FOLDS, 1 + U, 1 + D) weights, for each fold of sums those that the others give."""
        every = reduce(operator.add, folds)
        if self.by_item and catalogue is not None:
            found = _by_items(folds, every, catalogue)
        else:
            found = self._by_matrix(folds, every)
        return np.stack(found).reshape(len(folds), 1 + self.user_size, 1 + self.document_size)

    def _by_matrix(self, folds: Sequence[Sums], every: Sums) -> list[Array]:
        total = every.expanded()
        prior: Array | float = 1.0
        if total.reward_squares:
            prior = bilinear_prior(total, self)
        others = (fold.less(every.origin).expanded() for fold in folds)
        return [every.origin.taken_back(_solved(total, without, prior)) for without in others]

    def known(self, rows: Trajectories) -> Trajectories:
        """The rows with these features."""
        catalogue, candidates = rows.catalogue, rows.candidates
        if catalogue is not None and not self.document_size:
            catalogue = Catalogue(catalogue.features[:, :0])
        elif catalogue is None:
            candidates = candidates[:, :, : self.document_size]
        user = rows.user[:, : self.user_size]
        return replace(rows, user=user, candidates=candidates, catalogue=catalogue)


def _by_items(folds: Sequence[ItemSums], every: ItemSums, catalogue: Catalogue) -> list[Array]:
    origin, catalogue = every.near(catalogue)
    centring = item_centring(every, catalogue)
    top: Array | float = 1.0
    own: Array | float = 1.0
    if every.reward_squares:
        top, own = ItemRegression.of(every, catalogue, centring).chosen_prior()
    found = []
    for number in range(len(folds)):
        others = reduce(operator.add, [*folds[:number], *folds[number + 1 :]]).less(origin.user)
        solved = ItemRegression.of(others, catalogue, centring).with_prior(top, own)
        found.append(origin.taken_back(solved.mean))
    return found


def _solved(every: LinearStatistics, without: LinearStatistics, prior: Array | float) -> Array:
    """The weights (P,) fitted to the rows of the other folds."""
    gram = every.gram - without.gram
    gram += prior if isinstance(prior, np.ndarray) else prior * np.eye(len(gram))
    # In units of each column: least squares drop directions that are small beside the largest
    size = np.sqrt(np.where(np.diag(gram) > 0, np.diag(gram), 1.0))
    moment = (every.moment - without.moment) / size
    return np.asarray(np.linalg.lstsq(gram / np.outer(size, size), moment, rcond=None)[0] / size)
