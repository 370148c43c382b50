"""Days of own logs: facts about each file of a source, and sessions that files share.

A session belongs to the day in whose file it begins, so some of its rows may come from other files.
A day's key is a digest of everything that determines its rows; days with the same key are the same
in any dataset.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.trajectories.sources.files import SourceFile
from slateflow.trajectories.sources.survey import Facts, Keys, Survey

DAY_VERSION = 4
"""Version of the way in which a day's rows are read; after a change all days are read again."""

NUMBERS = 2**32
"""Number of episode numbers reserved for each day."""

UNREADABLE = (EOFError, OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error)
"""Errors on reading a damaged file with the facts of a day."""


@dataclass(frozen=True, eq=False)
class Day:
    """Facts about the rows of a file."""

    file: SourceFile
    facts: Facts
    sessions: NDArray[np.uint64] | None  # (S,) hashes, sorted; None: each row is a session
    begins: NDArray[Any] | None  # (S,) first time of each; None: file order decides
    events: NDArray[np.uint64] | None = None  # hashes of the decisions' ids, sorted
    passed_by: Mapping[str, int] = field(default_factory=dict)  # lines by reason; see `passed_by`

    @classmethod
    def of(cls, file: SourceFile, survey: Survey, passed_by: Mapping[str, int]) -> Self:
        """The facts found by a survey of the file."""
        keys = survey.keys
        if keys.episode is None:
            events = None if keys.event is None else np.unique(keys.event[keys.event > 0])
            return cls(file, survey.facts, None, None, events, passed_by)
        if keys.time is None:
            return cls(file, survey.facts, np.unique(keys.episode), None)
        order = np.lexsort((keys.time, keys.episode))
        episode = keys.episode[order]
        first = np.append(True, episode[1:] != episode[:-1])
        return cls(file, survey.facts, episode[first], keys.time[order][first])

    def to_bytes(self, ordered: NDArray[Any] | None) -> bytes:
        """A file, loadable without pickle, with the facts and the beginnings of the sessions.

        `ordered` has the times (E,) at which the day's sessions begin, by number.
        """
        facts = {"form": DAY_VERSION, "file": vars(self.file), "facts": self.facts.to_dict()}
        facts |= {"passed_by": self.passed_by} if self.passed_by else {}
        document = json.dumps(facts).encode()
        arrays: dict[str, Any] = {
            "facts": np.frombuffer(zlib.compress(document), np.uint8),
            "sessions": self.sessions,
            "begins": self.begins,
            "events": self.events,
            "ordered": ordered,
        }
        sink = io.BytesIO()
        np.savez(sink, **{name: values for name, values in arrays.items() if values is not None})
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> tuple[Self, NDArray[Any] | None]:
        """The inverse of `to_bytes`.

        Raises:
            One of `UNREADABLE`: The bytes are damaged, or of another version.
        """
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            document = json.loads(zlib.decompress(stored["facts"].tobytes()))
            named = ("sessions", "begins", "events", "ordered")
            sessions, begins, events, ordered = (stored.get(name) for name in named)
        if document.get("form") != DAY_VERSION:
            raise ValueError("facts of another version")
        file, facts = SourceFile(**document["file"]), Facts.from_dict(document["facts"])
        passed_by = document.get("passed_by", {})
        return cls(file, facts, sessions, begins, events, passed_by), ordered


@dataclass(frozen=True, eq=False)
class Shared:
    """Sessions or decisions that a day shares with other files, as sorted hashes."""

    leaving: NDArray[np.uint64]  # in the day's file, but of another day
    coming: dict[int, NDArray[np.uint64]]  # of the day, but in another file, by its number

    def chosen(self, keys: Keys, *, own: bool, file: int) -> NDArray[np.bool_]:
        """(R,) True for rows of a file that belong to the day; `own` if the file is the day's."""
        if keys.episode is None:
            chosen = np.full(len(keys.rows), own)
            return chosen if keys.event is None else chosen & ~np.isin(keys.event, self.leaving)
        if own:
            return ~np.isin(keys.episode, self.leaving)
        return np.isin(keys.episode, self.coming[file])


def shared_sessions(days: Sequence[Day]) -> list[Shared]:
    """The sessions that each day shares; a session belongs to the file in which it begins.

    Sessions that begin in several files at the same time, or have no time, belong to the first of
    these files. A decision that was delivered in several files belongs to the first alone.
    """
    none = np.zeros(0, np.uint64)
    found = [Shared(none, {}) for _ in days]
    alike = [day.events if day.sessions is None else day.sessions for day in days]
    given = [
        (number, hashes, days[number].begins)
        for number, hashes in enumerate(alike)
        if hashes is not None
    ]
    ordered = np.sort(np.concatenate([none, *(sessions for _, sessions, _ in given)]))
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return found
    hashes, files, begins = [], [], []
    for number, sessions, begin in given:
        chosen = np.isin(sessions, twice)
        hashes.append(sessions[chosen])
        files.append(np.full(len(hashes[-1]), number))
        begins.append(np.zeros(len(hashes[-1])) if begin is None else begin[chosen])
    session, file = np.concatenate(hashes), np.concatenate(files)
    order = np.lexsort((file, np.concatenate(begins), session))
    session, file = session[order], file[order]
    first = np.flatnonzero(np.append(True, session[1:] != session[:-1]))
    owner = np.repeat(file[first], np.diff(np.append(first, len(file))))
    for number in np.unique(file).tolist():
        leaving = session[(file == number) & (owner != number)]
        mine = (owner == number) & (file != number)
        others = [] if days[number].sessions is None else np.unique(file[mine]).tolist()
        coming = {other: session[mine & (file == other)] for other in others}
        found[number] = Shared(leaving, coming)
    return found


def day_keys(days: Sequence[Day], shared: Sequence[Shared]) -> list[str]:
    """The key of each day: 16 hexadecimal digits."""
    files = [[day.file.name, day.file.size, day.file.modified] for day in days]
    keys = []
    for file, one in zip(files, shared, strict=True):
        coming = [[files[other], _digest(hashes)] for other, hashes in sorted(one.coming.items())]
        document = {
            "form": DAY_VERSION,
            "file": file,
            "coming": coming,
            "leaving": _digest(one.leaving),
        }
        keys.append(hashlib.sha256(json.dumps(document).encode()).hexdigest()[:16])
    return keys


def first_numbers(days: Sequence[Day]) -> list[int]:
    """The number of each day's first episode.

    A day has numbers of its own, derived from its file's name and the same in every dataset, so
    that a held-out session remains held out.

    Raises:
        InputError: Two names have the same numbers, which happens once in 10 million times.
    """
    numbers: dict[int, str] = {}
    for name in (day.file.name for day in days):
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") // 2 * NUMBERS
        if number in numbers:
            raise InputError(
                f"{name}: expected a name with a hash of its own, got the hash of "
                f"{numbers[number]}; rename one of the two"
            )
        numbers[number] = name
    return list(numbers)


def _digest(hashes: NDArray[np.uint64]) -> str:
    return hashlib.sha256(np.ascontiguousarray(hashes, "<u8").tobytes()).hexdigest()[:16]
