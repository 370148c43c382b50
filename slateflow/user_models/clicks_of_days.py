"""Logistic regression over many days, each of which is read once.

Near its own maximum the likelihood of a day is that of a weighted regression, whose sums are kept.
The sums of all days add up to the regression of the month (Lin and Xi 2011, "Aggregated estimating
equation estimation"). Its error is of second order in the log-odds by which the month differs from
a day; where this is too large, as with days of few clicks, all days are read as if they were one.
"""

from __future__ import annotations

import io
import operator
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from slateflow.trajectories import Dataset, PartFile
from slateflow.user_models.bilinear import Squares, Sums, feature_count
from slateflow.user_models.kept_sums import KeptDays
from slateflow.user_models.logistic_regression import Newton, SeenRewards
from slateflow.user_models.normal_equations import NormalEquations
from slateflow.user_models.origin import Origin
from slateflow.user_models.storable import Storable
from slateflow.user_models.sums_of_parts import days_of, sum_over_parts

Array = NDArray[np.float64]
S = TypeVar("S", bound=Storable)

DAY_ROWS = 100_000
"""Mean rows per day from which sums of days are kept; reading fewer rows is quick."""

MOST_KEPT_FEATURES = 2_000
"""Most features for which sums are kept: 8 MB a day."""

MOST_CHANGE = 0.01
"""Largest mean squared difference in log-odds between month and day, where clicks are likely."""


@dataclass(frozen=True)
class DayFit(Storable):
    """The regression of a day at its own maximum (P,)."""

    at: Array
    regression: Sums

    def to_bytes(self) -> bytes:
        """All fields as an `.npz` that loads without pickle."""
        sink = io.BytesIO()
        np.savez(sink, at=self.at, regression=np.frombuffer(self.regression.to_bytes(), np.uint8))
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`."""
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return cls(stored["at"], Sums.from_bytes(stored["regression"].tobytes()))

    def is_near(self, weights: Array) -> bool:
        """True if the regression is also valid at other weights (P,), which are near its own."""
        gram, moved = self.regression.expanded().gram, weights - self.at
        return bool(moved @ gram @ moved <= MOST_CHANGE * gram[0, 0])


def weights_of_clicks(
    dataset: Dataset, ridge: float, iterations: int, checkpoints: Path | None, code: str
) -> tuple[Array, Squares, Origin]:
    """Weights (P,) of greatest posterior density, the features that have squares, and the origin.

    Args:
        dataset: The logs.
        ridge: Precision of the prior on the weights; with 0 the marginal likelihood chooses it.
        iterations: Most passes over the logs.
        checkpoints: Folder in which the sums of days are kept; None for none.
        code: Digest of the code that makes them.

    Raises:
        InputError: Nothing was clicked, everything paid the same, or the candidates do not vary.
    """

    def kept(kind: type[S], *settings: Any) -> KeptDays[S] | None:
        if checkpoints is None:
            return None
        return KeptDays.of(kind, dataset, checkpoints, code, *settings)

    spec, days, known = dataset.spec, days_of(dataset), kept(SeenRewards)
    rewards = sum_over_parts(dataset, SeenRewards.from_rows, known)
    rewards.check()
    squares, origin = rewards.squares(spec), rewards.origin(spec)
    if ridge:  # of the features as they are
        origin = Origin.none(spec.user_size, spec.document_size)
    newton = Newton(rewards, squares, ridge, iterations, origin)
    start = None
    if (
        all(part.day for part in dataset.parts)
        and len(days) > 1
        and dataset.rows >= DAY_ROWS * len(days)
        and feature_count(spec, squares) <= MOST_KEPT_FEATURES
    ):
        scale = [*rewards.values[[0, -1]].tolist(), rewards.binary]
        places = origin.user.tolist(), origin.candidate.tolist()
        fits = kept(DayFit, *scale, *squares, *places, ridge, iterations)
        found = [_fit_of_day(dataset, parts, newton, known, fits) for parts in days]
        regression = reduce(operator.add, (day.regression for day in found)).expanded()
        regression.check_candidates(spec)
        precision = regression.gram + newton.prior(regression, spec)
        start = NormalEquations.of(precision).solved(regression.moment)
        if all(day.is_near(start) for day in found):
            return start, squares, origin
    return newton.fit(dataset, start).weights, squares, origin


def _fit_of_day(
    dataset: Dataset,
    parts: list[PartFile],
    newton: Newton,
    known: KeptDays[SeenRewards] | None,
    fits: KeptDays[DayFit] | None,
) -> DayFit:
    fit = fits.load(parts) if fits is not None and fits.has(parts) else None
    if fit is None:
        day = replace(dataset, parts=tuple(parts))
        own = sum_over_parts(day, SeenRewards.from_rows, known)
        own = replace(own, values=newton.rewards.values)  # one scale for all days
        found = replace(newton, rewards=own).fit(day, vary=False)
        fit = DayFit(found.at, found.regression)
        if fits is not None:
            fits.save(parts, fit)
    return fit
