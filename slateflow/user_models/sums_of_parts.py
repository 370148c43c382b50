"""Statistics that add up: one pass over a dataset, on this machine or a cluster, day by day."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, reduce
from itertools import groupby, islice
from typing import Protocol, Self, TypeVar

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.ray_cluster import cluster_address, connected, map_tasks
from slateflow.side_by_side import PROCESSORS, Workers, share_of_machine, workers
from slateflow.trajectories import Dataset, PartFile, Trajectories

SIDE_BY_SIDE_ROWS = 5_000_000
"""Rows of a dataset from which it is worth starting processes for its parts."""

_WORKERS: ContextVar[Workers | None] = ContextVar("workers", default=None)


class Summable(Protocol):
    """Statistics that add up."""

    def __add__(self, other: Self, /) -> Self: ...


S = TypeVar("S", bound=Summable)
R = TypeVar("R")
Part = TypeVar("Part", covariant=True)


class MapParts(Protocol[Part]):
    """Applies a function to each part of some logs, in order; can be called repeatedly."""

    def __call__(self, function: Callable[[Part], R], /) -> Iterable[R]:
        """The results, one per part."""


class KeptSums(Protocol[S]):
    """Sums of finished days, which need not be computed again."""

    def has(self, parts: Sequence[PartFile]) -> bool:
        """True if the sums of the parts of a day are kept."""

    def load(self, parts: Sequence[PartFile]) -> S | None:
        """Sums of the parts of a day; None if they are damaged."""

    def save(self, parts: Sequence[PartFile], sums: S) -> None:
        """Keep the sums of the parts of a day."""


def sum_over_parts(
    dataset: Dataset,
    summed: Callable[[Trajectories, EnvironmentSpec], S],
    kept: KeptSums[S] | None = None,
) -> S:
    """Pass once over the Parquet, one part in memory at a time.

    The parts of a day are added up first, then the days, both in order, so the sums are the same to
    the last bit whether or not some days are kept. Where there is a Ray cluster, its processors
    take one part each, and their statistics are added up here.

    Args:
        dataset: A dataset with at least one row.
        summed: Computes the statistics of a part; it is sent to other processes.
        kept: Sums of days that need not be read.
    """
    if not dataset.rows:
        raise InputError("dataset: expected rows to train from, got none")
    days = days_of(dataset)
    kept_days = [day for day in days if kept is not None and day[0].day]
    known = [day for day in kept_days if kept is not None and kept.has(day)]
    unread = [part for day in days if day not in known for part in day]
    total: S | None = None
    with results_of_parts(dataset, unread, partial(_sum, summed)) as parts:
        for day in days:
            sums = kept.load(day) if kept is not None and day in known else None
            if sums is None:
                read = (_sum(summed, dataset, part) for part in day)
                sums = reduce(operator.add, read if day in known else islice(parts, len(day)))
                if kept is not None and day in kept_days:
                    kept.save(day, sums)
            total = sums if total is None else total + sums
    assert total is not None
    return total


def days_of(dataset: Dataset) -> list[list[PartFile]]:
    """The parts of each day; where a dataset has no days, each part by itself."""
    return [list(day) for _, day in groupby(dataset.parts, lambda part: part.day or part.path)]


@contextmanager
def parts_side_by_side(dataset: Dataset) -> Iterator[None]:
    """Context in which all processors of this machine take parts, if that saves time.

    They do not for few rows, while other work shares the machine, or with a cluster.
    """
    few = dataset.rows < SIDE_BY_SIDE_ROWS or len(dataset.parts) < 2 * PROCESSORS
    if few or PROCESSORS < 2 or share_of_machine() < 1 or cluster_address() is not None:
        yield
        return
    with workers(PROCESSORS) as made:
        token = _WORKERS.set(made)
        try:
            yield
        finally:
            _WORKERS.reset(token)


@contextmanager
def results_of_parts(
    dataset: Dataset, parts: Sequence[PartFile], function: Callable[[Dataset, PartFile], R]
) -> Iterator[Iterator[R]]:
    """Results of a function for some parts, in order: from this process, others or a cluster."""
    address, made = cluster_address(), _WORKERS.get()
    if len(parts) < 2 or (address is None and made is None):
        yield (function(dataset, part) for part in parts)
        return
    there = dataclasses.replace(dataset, folder=dataset.folder.absolute(), parts=())
    jobs = [(function, there, part) for part in parts]
    if address is None:
        assert made is not None
        yield made.map(_of_part, jobs)
        return
    with connected(address):
        yield map_tasks(_of_part, jobs)


def _of_part(function: Callable[[Dataset, PartFile], R], dataset: Dataset, part: PartFile) -> R:
    return function(dataset, part)  # Ray takes no partial functions


def _sum(
    summed: Callable[[Trajectories, EnvironmentSpec], S], dataset: Dataset, part: PartFile
) -> S:
    return summed(dataset.part(part), dataset.spec)
