"""The order of a dataset's rows, and a way to sort them with little memory.

Rows of a session may be spread over files. Sorting goes through temporary files on the disk, each
with the rows of some neighbouring parts; rows already in order are passed on as they come. The
temporary files have no names, so they vanish with the process, however it ends.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slateflow.trajectories.sources.places import Places
from slateflow.trajectories.sources.survey import Keys

MOST_FILES = 256
"""Most temporary files that are open at once."""


@dataclass(frozen=True)
class PlannedRows:
    """A part before it is made: the rows from `start` to below `stop`, whole sessions."""

    policy: str
    start: int
    stop: int
    number: int  # place among the parts of the policy


@dataclass(frozen=True)
class Order:
    """The order of R rows: by policy, then session, then time.

    Sessions are numbered by the time at which they begin, or in the order of the files.
    """

    source: NDArray[np.int64]  # (R,) numbers in the files
    episode: NDArray[np.int64]  # (R,) from 0
    step: NDArray[np.int32]  # (R,)
    bounds: NDArray[np.int64]  # (policies + 1,) first row of each policy, and R
    policies: tuple[str, ...]
    begins: NDArray[Any] | None  # (E,) time at which each session begins, if ordered by time

    @classmethod
    def of(cls, keys: Keys, places: Places, names: dict[str, str], *, by_time: bool) -> Order:
        """Order rows.

        Args:
            keys: Keys of the rows.
            places: Places of the rows, for messages.
            names: The files' names of the columns.
            by_time: Whether sessions of one row are numbered by time, too.

        Raises:
            InputError: Two rows of a session have the same time, or different policies.
        """
        rows = np.arange(len(keys.rows))
        time = keys.time if keys.time is not None else rows
        if keys.episode is None:
            episode = rows
            if by_time:
                episode = np.empty_like(rows)
                episode[np.argsort(time, kind="stable")] = rows
        else:
            episode = _by_beginning(keys.episode, time)
        policy = np.zeros(len(rows), np.int32) if keys.policy is None else keys.policy
        order = np.lexsort((time, episode, policy))
        if keys.episode is not None:
            _check_sessions(keys, episode, time, policy, places, names)
        ordered = episode[order]
        first = np.flatnonzero(np.diff(ordered, prepend=-1))
        lengths = np.diff(np.append(first, len(rows)))
        step = (rows - np.repeat(first, lengths)).astype(np.int32)
        bounds = np.searchsorted(policy[order], np.arange(len(keys.policies) + 1))
        begins = None
        if by_time:
            begins = np.empty_like(time, shape=len(first))
            begins[ordered[first]] = time[order][first]
        return cls(keys.rows[order], ordered, step, bounds, keys.policies, begins)

    @property
    def longest(self) -> int:
        """Rows of the longest session."""
        return int(self.step.max(initial=-1)) + 1

    def last(self, chosen: slice) -> NDArray[np.bool_]:
        """Mask of the slice's rows that end their session; the slice itself ends with a session."""
        return np.append(self.step[chosen][1:] == 0, True)

    def parts(self, size: int) -> list[PlannedRows]:
        """The parts, each closed before the first session that begins after `size` rows."""
        starts = np.flatnonzero(self.step == 0)
        planned = []
        for policy, first, end in zip(
            self.policies, self.bounds[:-1], self.bounds[1:], strict=True
        ):
            wanted = np.searchsorted(starts, np.arange(first + size, end, size))
            cuts = np.append(starts, len(self.step))[wanted]
            edges = np.unique([first, *cuts[cuts < end], end]).tolist()
            planned += [
                PlannedRows(policy, start, stop, number)
                for number, (start, stop) in enumerate(pairwise(edges))
            ]
        return planned


def _by_beginning(session: NDArray[np.uint64], time: NDArray[Any]) -> NDArray[np.int64]:
    """(R,) number of each row's session: by its first time, then by its first row."""
    _, first, member = np.unique(session, return_index=True, return_inverse=True)
    beginning = time[first]
    np.minimum.at(beginning, member, time)
    rank = np.empty(len(first), np.int64)
    rank[np.lexsort((first, beginning))] = np.arange(len(first))
    return np.asarray(rank[member])


def _check_sessions(
    keys: Keys,
    episode: NDArray[np.int64],
    time: NDArray[Any],
    policy: NDArray[np.int32],
    places: Places,
    names: dict[str, str],
) -> None:
    """Refuse two rows of a session at the same time, and sessions of two policies."""
    order = np.lexsort((time, episode))
    same = episode[order][1:] == episode[order][:-1]
    later = order[1:]
    again = same & (time[order][1:] == time[order][:-1])
    if keys.time is not None:
        expected = "one row of a session at a time, points in time to the microsecond"
        got = np.broadcast_to(np.array("another at the same one", object), len(later))
        places.refuse(again, keys.rows[later], names["time"], expected, got)
    other = same & (policy[order][1:] != policy[order][:-1])
    if other.any():
        values = np.array(keys.policies, object)[policy[later]]
        places.refuse(other, keys.rows[later], names["policy"], "one policy in a session", values)


def in_order(
    batches: Iterator[pa.Table], source: NDArray[np.int64], parts: list[PlannedRows], rows: int
) -> Iterator[tuple[PlannedRows, pa.Table]]:
    """The rows of each part in turn, from batches in the order of the files.

    Args:
        batches: All rows of some files.
        source: (S,) numbers, in the files, of the wanted rows, in their final order.
        parts: Parts that the wanted rows become.
        rows: Number of rows in the files.
    """
    if len(source) == rows and bool((source == np.arange(rows)).all()):
        yield from _as_they_come(batches, parts)
        return
    place = np.full(rows, -1, np.int64)
    place[source] = np.arange(len(source))
    at_once = -(-len(parts) // MOST_FILES)
    groups = [parts[first : first + at_once] for first in range(0, len(parts), at_once)]
    starts = np.array([group[0].start for group in groups])
    with ExitStack() as opened:
        files = [opened.enter_context(tempfile.TemporaryFile()) for _ in groups]
        writers: dict[int, Any] = {}
        for batch in batches:
            where = place[batch["row"].to_numpy()]
            file = np.searchsorted(starts, where, side="right") - 1  # -1 for unwanted rows
            for number in np.unique(file[file >= 0]).tolist():
                chosen = batch.filter(pa.array(file == number))
                if number not in writers:
                    writers[number] = pa.ipc.new_stream(files[number], chosen.schema)
                writers[number].write_table(chosen)
        for number, group in enumerate(groups):
            writers.pop(number).close()
            files[number].seek(0)
            found = pa.ipc.open_stream(files[number]).read_all()
            files[number].close()
            found = found.take(np.argsort(place[found["row"].to_numpy()]))
            for part in group:
                yield part, found.slice(part.start - group[0].start, part.stop - part.start)


def _as_they_come(
    batches: Iterator[pa.Table], parts: list[PlannedRows]
) -> Iterator[tuple[PlannedRows, pa.Table]]:
    held, count = [], 0
    waiting = iter(parts)
    part = next(waiting)
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        while part.stop <= count:
            rows = pa.concat_tables(held, promote_options="permissive")
            size = part.stop - part.start
            yield part, rows.slice(0, size)
            held = [rows.slice(size)]
            following = next(waiting, None)
            if following is None:
                return
            part = following
