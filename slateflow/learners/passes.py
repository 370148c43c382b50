"""Passes over a dataset whose rows need not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from slateflow.trajectories import Dataset, PartFile, Trajectories
from slateflow.trajectories.schema import no_rows
from slateflow.user_models.sums_of_parts import MapParts, results_of_parts

Part = TypeVar("Part")
Result = TypeVar("Result")


def sampled(dataset: Dataset, most: int, look: Callable[[Trajectories], None]) -> Trajectories:
    """Every so many sessions of a dataset, about `most` rows; all where there are no more.

    Args:
        dataset: Whose parts have whole sessions.
        most: Rows.
        look: Is shown each part as it passes by, and may refuse it.
    """
    every, earlier = -(-dataset.rows // most), 0
    some: list[Trajectories] = []
    for rows in dataset.iter_parts():
        look(rows)
        some.append(rows.where((earlier + rows.sessions) % every == 0) if every > 1 else rows)
        earlier += len(rows.starts)
    return Trajectories.from_parts(some or [no_rows(dataset.spec, dataset.catalogue)])


def over_parts(
    dataset: Dataset, view: Callable[[Trajectories], Part], keep: bool
) -> MapParts[Part]:
    """Functions are applied to the parts as a view sees them.

    Args:
        dataset: With these parts.
        view: Makes of rows what the functions take; with them it travels to other processes.
        keep: Whether the parts are read once and stay in memory; otherwise they are read at every
            pass, by all who take parts (see `results_of_parts`).
    """
    kept: list[Part] = []

    def in_memory(function: Callable[[Part], Result]) -> Iterable[Result]:
        if not kept:
            kept.extend(map(view, dataset.iter_parts()))
        return map(function, kept)

    def passing(function: Callable[[Part], Result]) -> Iterable[Result]:
        with results_of_parts(dataset, dataset.parts, partial(_seen, view, function)) as found:
            yield from found

    return in_memory if keep else passing


def _seen(
    view: Callable[[Trajectories], Part],
    function: Callable[[Part], Result],
    dataset: Dataset,
    part: PartFile,
) -> Result:
    return function(view(dataset.part(part)))
