"""The first pass over a source: vocabularies, item ids, sizes, and the keys of the order."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.trajectories.sources.column_survey import ColumnFacts, ColumnSurvey
from slateflow.trajectories.sources.places import Places
from slateflow.trajectories.sources.row_digest import RowDigest, coded_texts
from slateflow.trajectories.sources.row_sample import NO_SAMPLE, RowSample
from slateflow.trajectories.sources.table import TYPED, USER


class Reader(Protocol):
    """Reads the decisions of a source in batches of standard columns; see `sources.table`."""

    places: Places  # of the current pass

    @property
    def categories(self) -> Collection[str]:
        """Columns of the user whose numbers are codes."""

    @property
    def passed_by(self) -> Mapping[str, int]:
        """Numbers of lines that are not decisions, by reason."""

    @property
    def dropped(self) -> float | None:
        """Share of the decisions that were not logged; None where the log does not record it."""

    def outline(self) -> Iterator[pa.Table]:
        """The columns that the first pass needs: ids, the user, the order, the reward."""

    def decisions(self) -> Iterator[pa.Table]:
        """All columns except the keys of the order."""

    def names(self) -> dict[str, str]:
        """The files' names of the standard columns."""


@dataclass(frozen=True)
class Facts:
    """Facts about all rows that encoding needs before it starts; facts of days can be joined."""

    columns: tuple[ColumnFacts, ...] = ()  # of the user, in order of first occurrence
    ids: frozenset[str] = frozenset()  # shown or offered
    shown: int = 0  # K
    fewest: int = 0  # candidates in a row; 0 where all items are candidates
    most: int = 0
    rows: int = 0
    times: str = ""  # kind of the times
    begin: float = 0  # the first time; 0 where there is none
    policies: tuple[str, ...] = ("logged",)  # sorted
    dropped: float | None = None  # share of the decisions that were not logged
    content: str = ""  # digest of a file's rows in any order; empty if they are too few
    sample: RowSample = NO_SAMPLE  # of one file's rows; empty where it was not taken
    copied: float = 0  # share of one file's rows that copy an earlier one; 0 where times are few

    @classmethod
    def joined(cls, several: Sequence[Facts]) -> Facts | None:
        """Facts about all rows together; None where some facts contradict others."""
        found = [one for one in several if one.rows] or [cls()]
        columns: dict[str, ColumnFacts | None] = {}
        for column in (column for one in found for column in one.columns):
            known = columns.get(column.name, column)
            columns[column.name] = known and (known if known is column else known.joined(column))
        whole = [column for column in columns.values() if column and not column.mixed]
        same = ({one.shown for one in found}, {one.times for one in found},
                {one.dropped for one in found})  # fmt: skip
        if len(whole) < len(columns) or any(len(values) > 1 for values in same):
            return None
        return cls(
            columns=tuple(whole),
            ids=frozenset().union(*(one.ids for one in found)),
            shown=found[0].shown,
            fewest=min(one.fewest for one in found),
            most=max(one.most for one in found),
            rows=sum(one.rows for one in found),
            times=found[0].times,
            begin=min(one.begin for one in found),
            policies=tuple(sorted({name for one in found for name in one.policies})),
            dropped=found[0].dropped,
        )

    def to_dict(self) -> dict[str, Any]:
        """The facts, ready for JSON."""
        columns = [dataclasses.asdict(one) for one in self.columns]
        sample = dataclasses.asdict(self.sample)
        plain = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return {**plain, "columns": columns, "ids": sorted(self.ids), "sample": sample}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Facts:
        """The inverse of `to_dict`."""
        columns = tuple(
            ColumnFacts(**{**one, "vocabulary": tuple(one["vocabulary"])})
            for one in document["columns"]
        )
        ids, policies = frozenset(document["ids"]), tuple(document["policies"])
        sample = RowSample(
            **{name: tuple(some) for name, some in document.get("sample", {}).items()}
        )
        made = {"columns": columns, "ids": ids, "policies": policies, "sample": sample}
        return cls(**{**document, **made})


@dataclass(frozen=True)
class Keys:
    """Keys by which R rows are sorted."""

    rows: NDArray[np.int64]  # (R,) numbers in the files
    episode: NDArray[np.uint64] | None  # (R,) hashes of the sessions; None: each row is one
    time: NDArray[Any] | None  # (R,); None: the order of the files
    policy: NDArray[np.int32] | None  # (R,) places in `policies`; None: all are of the first
    policies: tuple[str, ...]
    event: NDArray[np.uint64] | None = None  # (R,) hashes of their ids; 0: a row without one

    def where(self, chosen: NDArray[np.bool_]) -> Keys:
        """Some of the rows, by a mask (R,)."""
        arrays: dict[str, Any] = {
            name: values[chosen]
            for name, values in vars(self).items()
            if isinstance(values, np.ndarray)
        }
        return dataclasses.replace(self, **arrays)

    @classmethod
    def joined(cls, several: Sequence[Keys]) -> Keys:
        """The keys of several sets of rows, one set after the other."""
        policies = tuple(sorted({name for one in several for name in one.policies}))
        places = {name: place for place, name in enumerate(policies)}
        named = ("rows", "episode", "time", "policy", "event")
        arrays: dict[str, list[Any]] = {name: [] for name in named}
        for one in several:
            number = np.array([places[name] for name in one.policies], np.int32)
            policy = None if one.policy is None else number[one.policy]
            for name, values in {**vars(one), "policy": policy}.items():
                if name in arrays and values is not None:
                    arrays[name].append(values)
        rows, episode, time, policy, event = (
            np.concatenate(values) if values else None for values in arrays.values()
        )
        rows = np.zeros(0, np.int64) if rows is None else rows
        return cls(rows, episode, time, policy, policies, event)


@dataclass(frozen=True)
class Survey:
    """Findings of a first pass over the rows of some files."""

    facts: Facts
    keys: Keys

    @classmethod
    def of(cls, reader: Reader, *, whole: bool = False) -> Survey:
        """Read the keys of all rows.

        Args:
            reader: Reader of the files.
            whole: Whether these are all files: then having no row, or texts among numbers, is an
                error.

        Raises:
            InputError: A row does not fit; the message names file, row and column.
        """
        found, content = _Found(reader), RowDigest()
        for table in reader.outline():
            rows = table["row"].to_numpy()
            coded = found.add_user(table, rows) | found.add_ids(table, rows)
            content.add(table, found.add_keys(table, rows), coded)
            found.rows += len(rows)
        if whole and not found.rows:
            raise InputError(f"{reader.places.paths[0]}: expected rows, got none")
        for column in found.columns.values() if whole else ():
            column.column()
        keys = found.joined_keys()
        facts = Facts(
            columns=tuple(column.facts for column in found.columns.values()),
            ids=frozenset(found.ids),
            shown=found.shown,
            fewest=found.fewest,
            most=found.most,
            rows=found.rows,
            times=found.times,
            begin=0 if keys.time is None else keys.time.min().item(),
            policies=keys.policies,
            dropped=reader.dropped,
            content=content.text,
            sample=content.sampling.sample,
            copied=0 if keys.time is None else content.sampling.copied(keys.time),
        )
        return cls(facts, keys)


def _kind_of_times(kind: pa.DataType) -> str:
    if not pa.types.is_timestamp(kind):
        return "numbers"
    return f"points in time {'without' if kind.tz is None else 'with'} a time zone"


class _Found:
    """Findings of a pass so far; batches of R rows are added to them."""

    def __init__(self, reader: Reader) -> None:
        self.reader, self.names = reader, reader.names()
        self.columns: dict[str, ColumnSurvey] = {}  # of the user
        self.ids: set[str] = set()
        self.shown = self.fewest = self.most = self.rows = 0
        self.times = ""
        self.keys: dict[str, list[Any]] = {"episode": [], "time": [], "policy": [], "event": []}

    def add_user(self, table: pa.Table, rows: NDArray[np.int64]) -> dict[str, Any]:
        """Add the columns of the user, and return those that are texts as dictionaries."""
        typed = (table.schema.metadata or {}).get(TYPED.encode()) != b"False"
        coded: dict[str, Any] = {}
        for key in (key for key in table.column_names if key.startswith(USER)):
            values, name = table[key].combine_chunks(), key.removeprefix(USER)
            if name not in self.columns:
                self.columns[name] = ColumnSurvey(
                    name, self._refuse, code=name in self.reader.categories
                )
            if (texts := coded_texts(values)) is not None:
                coded[key] = texts
            self.columns[name].add(values, rows, typed=typed, coded=texts)
        return coded

    def add_ids(self, table: pa.Table, rows: NDArray[np.int64]) -> dict[str, pa.DictionaryArray]:
        """Add the shown and the offered ids, and return them as dictionaries."""
        coded: dict[str, pa.DictionaryArray] = {}
        for key in ("item", "candidates"):
            if key not in self.names:
                continue
            lists = table[key].combine_chunks()
            coded[key] = lists.flatten().dictionary_encode()
            self.ids.update(coded[key].dictionary.to_pylist())
            lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
            if key == "item":
                self.shown = self.shown or int(lengths[0])
                expected = f"{self.shown} ids, as in the first row"
                self._refuse(lengths != self.shown, rows, self.names[key], expected, lists)
            else:
                fewest = int(lengths.min())
                self.fewest = min(self.fewest or fewest, fewest)
                self.most = max(self.most, int(lengths.max()))
        return coded

    def add_keys(self, table: pa.Table, rows: NDArray[np.int64]) -> dict[str, NDArray[np.uint64]]:
        """Add the keys of the order, and return hashes (R,) of the sessions."""
        known: dict[str, NDArray[np.uint64]] = {}
        if "time" in self.names:
            values = table["time"].combine_chunks()
            kind = _kind_of_times(values.type)
            wrong = np.full(len(rows), kind != (self.times or kind))
            expected = f"{self.times}, as in rows before"
            self._refuse(wrong, rows, self.names["time"], expected, values)
            self.times = kind
            values = values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values
            self.keys["time"].append(values.to_numpy(zero_copy_only=False))
        if "episode" in self.names:
            known["episode"] = text_hashes(table["episode"])
            self.keys["episode"].append(known["episode"])
        if "policy" in self.names:
            self.keys["policy"].append(table["policy"].dictionary_encode().combine_chunks())
        if "event" in table.column_names:
            self.keys["event"].append(table["event"].to_numpy())
        return known

    def joined_keys(self) -> Keys:
        """Keys of all rows so far."""
        policies, policy = _numbered(self.keys["policy"])
        episode, time, event = (
            np.concatenate(self.keys[key]) if self.keys[key] else None
            for key in ("episode", "time", "event")
        )
        return Keys(np.arange(self.rows), episode, time, policy, policies, event)

    def _refuse(self, *what: Any) -> None:
        """Refuse values at places in the current file; see `Places.refuse`."""
        self.reader.places.refuse(*what)


def _numbered(
    encoded: list[pa.DictionaryArray],
) -> tuple[tuple[str, ...], NDArray[np.int32] | None]:
    """Names of the policies, and their numbers (R,) in these; None where all are of one."""
    if not encoded:
        return ("logged",), None
    policies = tuple(sorted({name for one in encoded for name in one.dictionary.to_pylist()}))
    places = {name: place for place, name in enumerate(policies)}
    numbers = [
        np.array([places[name] for name in one.dictionary.to_pylist()], np.int32)[
            one.indices.to_numpy()
        ]
        for one in encoded
    ]
    return policies, np.concatenate(numbers)


def text_hashes(texts: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Hashes (R,) of 64 bits: ten million sessions collide by chance once in 400,000 times."""
    encoded = texts.dictionary_encode().combine_chunks()
    names = np.array(encoded.dictionary.to_pylist(), object)
    hashes = np.asarray(pd.util.hash_array(names, categorize=False), np.uint64)
    return np.asarray(hashes[encoded.indices.to_numpy()])
