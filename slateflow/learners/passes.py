"""Passes over a dataset whose rows need not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from slateflow.trajectories import Dataset, Trajectories
from slateflow.trajectories.schema import no_rows

Part = TypeVar("Part")


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


def repeatable(read: Callable[[], Iterator[Part]], keep: bool) -> Callable[[], Iterable[Part]]:
    """A source of parts for many passes; where `keep`, they are read once and stay in memory."""
    kept: list[Part] = []

    def read_once() -> list[Part]:
        if not kept:
            kept.extend(read())
        return kept

    return read_once if keep else read
