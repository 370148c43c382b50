"""The first pass over a source: vocabularies, item ids, sizes, and the keys of the order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.trajectories.encoding import Column
from slateflow.trajectories.sources.places import Places
from slateflow.trajectories.sources.table import NUMBER, TYPED, USER

MOST_CATEGORIES = 2_000
"""Of a column; each is a feature."""


class Reader(Protocol):
    """Reads the decisions of a source in batches of standard columns; see `sources.table`."""

    places: Places  # of the pass that is under way

    def outline(self) -> Iterator[pa.Table]:
        """All that has to be known of all rows: ids, the user, and the order."""

    def decisions(self) -> Iterator[pa.Table]:
        """Everything but the keys of the order."""

    def names(self) -> dict[str, str]:
        """The files' names of the standard columns."""


class ColumnSurvey:
    """Kind and categories of one column's values.

    A text column of CSV is numbers if all of its values are, categories if most are not, and an
    error where some are not.

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
        self.first_text: tuple[pa.Array, NDArray[np.int64]] | None = None
        self.vocabulary: set[str] = set()

    def add(self, values: pa.Array, rows: NDArray[np.int64], typed: bool) -> None:
        """Look at the values of some rows (R,)."""
        everywhere = np.ones(len(rows), np.bool_)
        kind = "categories" if pa.types.is_string(values.type) else "number"
        kind = "numbers" if pa.types.is_list(values.type) else kind
        untyped = kind == "categories" and not typed
        if self.kind in ("", "untyped") and not untyped:
            self.kind = kind
        elif untyped:
            self.kind = self.kind or "untyped"
        elif kind != self.kind:
            self.refuse(everywhere, rows, self.name, f"{self.kind}, as in rows before", values)
        if kind == "numbers":
            self._add_lists(values, rows)
        if kind == "categories":
            self._add_texts(values, rows, untyped)

    def _add_lists(self, values: pa.Array, rows: NDArray[np.int64]) -> None:
        lengths = pc.list_value_length(values).to_numpy(zero_copy_only=False)
        self.size = self.size if self.vocabulary else int(lengths[0])
        self.vocabulary = {"lists"}  # the length is known now
        expected = f"lists of {self.size} finite numbers"
        self.refuse(lengths != self.size, rows, self.name, expected, values)
        flat = pc.fill_null(pc.list_flatten(values), np.nan).to_numpy().reshape(-1, self.size)
        self.refuse(~np.isfinite(flat).all(axis=1), rows, self.name, expected, values)

    def _add_texts(self, values: pa.Array, rows: NDArray[np.int64], untyped: bool) -> None:
        if untyped:
            number = pc.match_substring_regex(values, NUMBER).to_numpy(zero_copy_only=False)
            self.numbers += int(np.count_nonzero(number))
            self.texts += int(np.count_nonzero(~number))
            if self.first_text is None and not number.all():
                first = int(np.argmin(number))
                self.first_text = values[first : first + 1], rows[first : first + 1]
        if len(self.vocabulary) <= MOST_CATEGORIES:
            self.vocabulary.update(pc.unique(values).to_pylist())

    def column(self) -> Column:
        """The column, once all rows were seen.

        Raises:
            InputError: It has numbers and texts, or too many categories.
        """
        kind = self.kind
        if self.numbers and (not self.texts or kind == "number" or self.numbers > self.texts):
            kind = "number"
        if kind == "number" and self.first_text is not None:
            values, rows = self.first_text
            self.refuse(np.ones(1, np.bool_), rows, self.name, "numbers, as in most rows", values)
        if kind in ("number", "numbers"):
            return Column(self.name, kind, size=self.size)
        if len(self.vocabulary) > MOST_CATEGORIES:
            raise InputError(
                f"{self.name}: expected at most {MOST_CATEGORIES:,} categories, got more; leave "
                "the column out, or give groups or numbers in its place"
            )
        return Column(self.name, "categories", tuple(sorted(self.vocabulary)))


@dataclass
class Survey:
    """Facts about all R rows that have to be known before the first is encoded."""

    user: tuple[Column, ...] = ()
    ids: set[str] = field(default_factory=set)  # shown or offered
    shown: int = 0  # K
    fewest: int = 0  # candidates in a row; 0 where all items are
    most: int = 0
    rows: int = 0
    episode: NDArray[np.uint64] | None = None  # (R,) hashes of the sessions
    time: NDArray[Any] | None = None  # (R,)
    policy: NDArray[np.int32] | None = None  # (R,) places in `policies`
    policies: tuple[str, ...] = ("logged",)  # sorted

    @classmethod
    def of(cls, reader: Reader) -> Survey:
        """Read the keys of all rows.

        Raises:
            InputError: A row does not fit; the message names file, row and column.
        """
        survey, names = cls(), reader.names()
        columns: dict[str, ColumnSurvey] = {}
        keys: dict[str, list[Any]] = {"episode": [], "time": [], "policy": []}
        times = ""
        for table in reader.outline():
            rows = table["row"].to_numpy()
            typed = (table.schema.metadata or {}).get(TYPED.encode()) != b"False"
            for key in (key for key in table.column_names if key.startswith(USER)):
                values, name = table[key].combine_chunks(), key.removeprefix(USER)
                given = values.is_valid()  # dsjson leaves features out
                if name not in columns:
                    columns[name] = ColumnSurvey(name, lambda *what: reader.places.refuse(*what))
                columns[name].add(values.filter(given), rows[given.to_numpy(False)], typed)
            survey._add_ids(table, rows, reader, names)
            if "time" in names:
                values = table["time"].combine_chunks()
                kind = "points in time" if pa.types.is_timestamp(values.type) else "numbers"
                wrong = np.full(len(rows), kind != (times or kind))
                expected = f"{times}, as in rows before"
                reader.places.refuse(wrong, rows, names["time"], expected, values)
                times = kind
                values = values.cast(pa.int64()) if kind == "points in time" else values
                keys["time"].append(values.to_numpy(zero_copy_only=False))
            if "episode" in names:
                keys["episode"].append(_hashes(table["episode"]))
            if "policy" in names:
                keys["policy"].append(table["policy"].dictionary_encode().combine_chunks())
            survey.rows += len(rows)
        if not survey.rows:
            raise InputError(f"{reader.places.paths[0]}: expected rows, got none")
        survey.user = tuple(column.column() for column in columns.values())
        for name in ("episode", "time"):
            if keys[name]:
                setattr(survey, name, np.concatenate(keys[name]))
        if keys["policy"]:
            survey._number_policies(keys["policy"])
        return survey

    def _add_ids(
        self, table: pa.Table, rows: NDArray[np.int64], reader: Reader, names: dict[str, str]
    ) -> None:
        for key in ("item", "candidates"):
            if key not in names:
                continue
            lists = table[key].combine_chunks()
            self.ids.update(pc.unique(lists.flatten()).to_pylist())
            lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
            if key == "item":
                self.shown = self.shown or int(lengths[0])
                expected = f"{self.shown} ids, as in the first row"
                reader.places.refuse(lengths != self.shown, rows, names[key], expected, lists)
            else:
                fewest = int(lengths.min())
                self.fewest = min(self.fewest or fewest, fewest)
                self.most = max(self.most, int(lengths.max()))

    def _number_policies(self, encoded: list[pa.DictionaryArray]) -> None:
        self.policies = tuple(
            sorted({name for one in encoded for name in one.dictionary.to_pylist()})
        )
        places = {name: place for place, name in enumerate(self.policies)}
        self.policy = np.concatenate(
            [
                np.array([places[name] for name in one.dictionary.to_pylist()], np.int32)[
                    one.indices.to_numpy()
                ]
                for one in encoded
            ]
        )


def _hashes(sessions: pa.ChunkedArray) -> NDArray[np.uint64]:
    """64 bits for each text: ten million sessions meet by chance once in 400,000 times."""
    encoded = sessions.dictionary_encode().combine_chunks()
    names = np.array(encoded.dictionary.to_pylist(), object)
    hashes = np.asarray(pd.util.hash_array(names, categorize=False), np.uint64)
    return np.asarray(hashes[encoded.indices.to_numpy()])
