"""The first pass over a source: vocabularies, item ids, sizes, and the keys of the order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.trajectories.encoding import Column
from slateflow.trajectories.sources.places import Places
from slateflow.trajectories.sources.row_digest import RowDigest, coded_texts
from slateflow.trajectories.sources.table import CODE, GIVEN, NUMBER, TYPED, USER

MOST_CATEGORIES = 2_000
"""Of a column; each is a feature."""


class Reader(Protocol):
    """Reads the decisions of a source in batches of standard columns; see `sources.table`."""

    places: Places  # of the pass that is under way

    @property
    def dropped(self) -> float | None:
        """Share of the decisions that were not logged, where the log has it."""

    def outline(self) -> Iterator[pa.Table]:
        """All that has to be known of all rows: ids, the user, the order, the reward."""

    def decisions(self) -> Iterator[pa.Table]:
        """Everything but the keys of the order."""

    def names(self) -> dict[str, str]:
        """The files' names of the standard columns."""


@dataclass(frozen=True)
class ColumnFacts:
    """Findings about a column's values, of one file or of several."""

    name: str
    kind: str  # "number", "numbers", "categories", or "untyped": texts of CSV, or no values
    size: int = 1  # of lists
    numbers: int = 0  # untyped texts that are numbers
    texts: int = 0  # other untyped texts
    vocabulary: tuple[str, ...] = ()  # sorted; not more than one above `MOST_CATEGORIES`
    codes: int = 0  # untyped texts of digits that begin with 0, as post codes do
    gaps: int = 0  # missing untyped values

    @property
    def final_kind(self) -> str:
        """Kind of all values: untyped texts are numbers if most are, and none is a code."""
        if self.kind != "untyped":
            return self.kind
        if self.codes:
            return "categories"
        number = self.numbers and (not self.texts or self.numbers > self.texts)
        return "number" if number else "categories"

    @property
    def mixed(self) -> bool:
        """Whether there are texts among numbers, or gaps."""
        return self.final_kind in ("number", "numbers") and self.texts + self.gaps > 0

    def joined(self, other: ColumnFacts) -> ColumnFacts | None:
        """Findings about the values of both; None where they do not go together."""
        typed = [one for one in (self, other) if one.kind != "untyped"]
        if len({(one.kind, one.size) for one in typed}) > 1:
            return None
        first = typed[0] if typed else self
        if first.kind == "numbers" and len(typed) < 2:
            return None
        known = tuple(sorted({*self.vocabulary, *other.vocabulary})[: MOST_CATEGORIES + 1])
        numbers, texts = self.numbers + other.numbers, self.texts + other.texts
        codes, gaps = self.codes + other.codes, self.gaps + other.gaps
        return ColumnFacts(self.name, first.kind, first.size, numbers, texts, known, codes, gaps)

    def column(self) -> Column:
        """The column.

        Raises:
            InputError: It has too many categories, or nothing at all.
        """
        kind = self.final_kind
        if kind in ("number", "numbers"):
            return Column(self.name, kind, size=self.size)
        if len(self.vocabulary) > MOST_CATEGORIES:
            raise InputError(
                f"{self.name}: expected at most {MOST_CATEGORIES:,} categories, got more; leave "
                "the column out, or give groups or numbers in its place"
            )
        if not self.vocabulary:
            raise InputError(f"{self.name}: expected values, got none; leave the column out")
        return Column(self.name, "categories", self.vocabulary)


class ColumnSurvey:
    """Kind and categories of one column's values.

    A text column of CSV is numbers if all of its values are, categories if most are not, and an
    error where some are not. Where digits begin with 0 they are a code, and the column categories.

    Args:
        name: The column's.
        refuse: As `Places.refuse`.
    """

    def __init__(self, name: str, refuse: Callable[..., None]) -> None:
        self.name, self.refuse = name, refuse
        self.kind = ""
        self.size = 1
        self.numbers = 0  # texts that are numbers
        self.texts = 0
        self.codes = 0
        self.gaps = 0
        self.first_text: tuple[pa.Array, NDArray[np.int64]] | None = None
        self.first_gap: NDArray[np.int64] | None = None
        self.vocabulary: set[str] = set()

    def add(
        self, values: pa.Array, rows: NDArray[np.int64], typed: bool, coded: Any = None
    ) -> None:
        """Look at the values of some rows (R,), `coded` as a dictionary if there is one.

        A missing category is none; files that are `typed` tell numbers from texts.
        """
        typed = typed and values.null_count < len(values)  # without a value no kind is known
        if values.null_count:
            given = values.is_valid().to_numpy(zero_copy_only=False)
            if not typed:
                self.gaps += int(np.count_nonzero(~given))
                self.first_gap = rows[~given][:1] if self.first_gap is None else self.first_gap
            values, rows = values.drop_null(), rows[given]
        everywhere = np.ones(len(rows), np.bool_)
        kind = "categories" if pa.types.is_string(values.type) else "number"
        kind = "numbers" if pa.types.is_list(values.type) else kind
        untyped = kind == "categories" and not typed
        if self.kind in ("", "untyped") and not untyped:
            self.kind = kind
        elif untyped:
            self.kind = self.kind or "untyped"
        elif kind != self.kind:
            known = {"number": "a number", "numbers": "numbers", "categories": "a text"}[self.kind]
            given = values
            if kind == "categories":  # it may look like a number
                given = np.array([f"the text {one!r}" for one in values.to_pylist()], object)
            expected = f"{known}, as in rows or files before"
            self.refuse(everywhere, rows, self.name, expected, given)
        if kind == "numbers":
            self._add_lists(values, rows)
        if kind == "categories":
            if untyped:
                self._add_untyped(values, rows, coded)
            if len(self.vocabulary) <= MOST_CATEGORIES:
                known = pc.unique(values) if coded is None else coded.dictionary
                self.vocabulary.update(known.to_pylist())

    def _add_lists(self, values: pa.Array, rows: NDArray[np.int64]) -> None:
        lengths = pc.list_value_length(values).to_numpy(zero_copy_only=False)
        self.refuse(lengths == 0, rows, self.name, "lists of one or more numbers", values)
        self.size = self.size if self.vocabulary else int(lengths[0])
        self.vocabulary = {"lists"}  # the length is known now
        expected = f"lists of {self.size} finite numbers"
        self.refuse(lengths != self.size, rows, self.name, expected, values)
        flat = pc.fill_null(pc.list_flatten(values), np.nan).to_numpy().reshape(-1, self.size)
        self.refuse(~np.isfinite(flat).all(axis=1), rows, self.name, expected, values)

    def _add_untyped(self, values: pa.Array, rows: NDArray[np.int64], coded: Any) -> None:
        number, code = (_matches(values, coded, pattern) for pattern in (NUMBER, CODE))
        self.numbers += int(np.count_nonzero(number))
        self.texts += int(np.count_nonzero(~number))
        self.codes += int(np.count_nonzero(code))
        if self.first_text is None and not number.all():
            first = int(np.argmin(number))
            self.first_text = values[first : first + 1], rows[first : first + 1]

    @property
    def facts(self) -> ColumnFacts:
        """Findings so far."""
        known = tuple(sorted(self.vocabulary)[: MOST_CATEGORIES + 1])
        counts = self.numbers, self.texts
        return ColumnFacts(self.name, self.kind, self.size, *counts, known, self.codes, self.gaps)

    def column(self) -> Column:
        """The column, once all rows were seen.

        Raises:
            InputError: It has numbers and texts, or too many categories.
        """
        facts = self.facts
        if facts.mixed and self.first_text is not None:
            values, rows = self.first_text
            self.refuse(np.ones(1, np.bool_), rows, self.name, "numbers, as in most rows", values)
        if facts.mixed and self.first_gap is not None:
            self.refuse(np.ones(1, np.bool_), self.first_gap, self.name, GIVEN, [None])
        return facts.column()


@dataclass(frozen=True)
class Facts:
    """Facts about rows that have to be known before the first is encoded; those of days add up."""

    columns: tuple[ColumnFacts, ...] = ()  # of the user, in the order in which they come up
    ids: frozenset[str] = frozenset()  # shown or offered
    shown: int = 0  # K
    fewest: int = 0  # candidates in a row; 0 where all items are
    most: int = 0
    rows: int = 0
    times: str = ""  # kind of the times
    begin: float = 0  # the first time; 0 where there is none
    policies: tuple[str, ...] = ("logged",)  # sorted
    dropped: float | None = None  # share of the decisions that were not logged
    content: str = ""  # digest of a file's rows in any order; empty where it tells no copy

    @classmethod
    def joined(cls, several: Sequence[Facts]) -> Facts | None:
        """Facts about all rows; None where some do not go with the others."""
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
        """The facts, as JSON can hold them."""
        columns = [dataclasses.asdict(one) for one in self.columns]
        plain = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return {**plain, "columns": columns, "ids": sorted(self.ids)}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Facts:
        """The inverse of `to_dict`."""
        columns = tuple(
            ColumnFacts(**{**one, "vocabulary": tuple(one["vocabulary"])})
            for one in document["columns"]
        )
        ids, policies = frozenset(document["ids"]), tuple(document["policies"])
        return cls(**{**document, "columns": columns, "ids": ids, "policies": policies})


@dataclass(frozen=True)
class Keys:
    """Keys by which R rows are put in order."""

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
        """Keys of some rows, then those of others."""
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
    def of(cls, reader: Reader, whole: bool = False) -> Survey:
        """Read the keys of all rows.

        Args:
            reader: Of the files.
            whole: Whether these are all files, so that there has to be a row, and texts among
                numbers are an error.

        Raises:
            InputError: A row does not fit; the message names file, row and column.
        """
        names, found, content = reader.names(), _Found(), RowDigest()
        columns: dict[str, ColumnSurvey] = {}
        keys: dict[str, list[Any]] = {"episode": [], "time": [], "policy": [], "event": []}
        times = ""
        for table in reader.outline():
            rows = table["row"].to_numpy()
            typed = (table.schema.metadata or {}).get(TYPED.encode()) != b"False"
            known: dict[str, NDArray[np.uint64]] = {}
            coded: dict[str, Any] = {}
            for key in (key for key in table.column_names if key.startswith(USER)):
                values, name = table[key].combine_chunks(), key.removeprefix(USER)
                if name not in columns:
                    columns[name] = ColumnSurvey(name, lambda *what: reader.places.refuse(*what))
                if (texts := coded_texts(values)) is not None:
                    coded[key] = texts
                columns[name].add(values, rows, typed, texts)
            coded |= found.add_ids(table, rows, reader, names)
            if "time" in names:
                values = table["time"].combine_chunks()
                kind = _kind_of_times(values.type)
                wrong = np.full(len(rows), kind != (times or kind))
                expected = f"{times}, as in rows before"
                reader.places.refuse(wrong, rows, names["time"], expected, values)
                times = kind
                values = values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values
                keys["time"].append(values.to_numpy(zero_copy_only=False))
            if "episode" in names:
                known["episode"] = text_hashes(table["episode"])
                keys["episode"].append(known["episode"])
            if "policy" in names:
                keys["policy"].append(table["policy"].dictionary_encode().combine_chunks())
            if "event" in table.column_names:
                keys["event"].append(table["event"].to_numpy())
            content.add(table, known, coded)
            found.rows += len(rows)
        if whole and not found.rows:
            raise InputError(f"{reader.places.paths[0]}: expected rows, got none")
        for column in columns.values() if whole else ():
            column.column()
        policies, policy = _numbered(keys["policy"])
        episode, time, event = (
            np.concatenate(keys[key]) if keys[key] else None for key in ("episode", "time", "event")
        )
        facts = Facts(
            columns=tuple(column.facts for column in columns.values()),
            ids=frozenset(found.ids),
            shown=found.shown,
            fewest=found.fewest,
            most=found.most,
            rows=found.rows,
            times=times,
            begin=0 if time is None else time.min().item(),
            policies=policies,
            dropped=reader.dropped,
            content=content.text,
        )
        return cls(facts, Keys(np.arange(found.rows), episode, time, policy, policies, event))


def _kind_of_times(kind: pa.DataType) -> str:
    if not pa.types.is_timestamp(kind):
        return "numbers"
    return f"points in time {'without' if kind.tz is None else 'with'} a time zone"


class _Found:
    """Findings of a pass so far."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.shown = self.fewest = self.most = self.rows = 0

    def add_ids(
        self, table: pa.Table, rows: NDArray[np.int64], reader: Reader, names: dict[str, str]
    ) -> dict[str, pa.DictionaryArray]:
        """Look at the shown and the offered ids of some rows (R,), which it returns."""
        coded: dict[str, pa.DictionaryArray] = {}
        for key in ("item", "candidates"):
            if key not in names:
                continue
            lists = table[key].combine_chunks()
            coded[key] = lists.flatten().dictionary_encode()
            self.ids.update(coded[key].dictionary.to_pylist())
            lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
            if key == "item":
                self.shown = self.shown or int(lengths[0])
                expected = f"{self.shown} ids, as in the first row"
                reader.places.refuse(lengths != self.shown, rows, names[key], expected, lists)
            else:
                fewest = int(lengths.min())
                self.fewest = min(self.fewest or fewest, fewest)
                self.most = max(self.most, int(lengths.max()))
        return coded


def _matches(texts: pa.Array, coded: Any, pattern: str) -> NDArray[np.bool_]:
    """(R,) which texts match; those that are coded match as their few different ones do."""
    different = texts if coded is None else coded.dictionary
    found = pc.match_substring_regex(different, pattern).to_numpy(zero_copy_only=False)
    return np.asarray(found if coded is None else found[coded.indices.drop_null().to_numpy()])


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
    """64 bits for each text: ten million sessions meet by chance once in 400,000 times."""
    encoded = texts.dictionary_encode().combine_chunks()
    names = np.array(encoded.dictionary.to_pylist(), object)
    hashes = np.asarray(pd.util.hash_array(names, categorize=False), np.uint64)
    return np.asarray(hashes[encoded.indices.to_numpy()])
