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
    """Every n-th session of a dataset, about `most` rows; all rows where there are no more.

    Args:
        dataset: A dataset whose parts have whole sessions.
        most: Number of rows.
        look: Called with each part as it is read; may raise an error to refuse it.
    """
    every, earlier = -(-dataset.rows // most), 0
    some: list[Trajectories] = []
    for rows in dataset.iter_parts():
        look(rows)
        some.append(rows.where((earlier + rows.sessions) % every == 0) if every > 1 else rows)
        earlier += len(rows.starts)
    return Trajectories.from_parts(some or [no_rows(dataset.spec, dataset.catalogue)])


def over_parts(
    dataset: Dataset, view: Callable[[Trajectories], Part], *, keep: bool
) -> MapParts[Part]:
    """A map of functions over the parts of a dataset, each converted by `view`.

    Args:
        dataset: The dataset with the parts.
        view: Converts rows to the functions' argument; it is sent to other processes with them.
        keep: Whether the parts are read once and stay in memory; otherwise they are read at every
            pass, by all processes that take parts (see `results_of_parts`).
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
