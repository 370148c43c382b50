"""Kinds of a table's columns, and their categories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.trajectories.encoding import Column
from slateflow.trajectories.sources.csv_texts import CODE, NUMBER
from slateflow.trajectories.sources.table import GIVEN

MOST_CATEGORIES = 2_000
"""Most categories of a column; each is a feature."""

_SPACE = r"[\s\x{a0}\x{202f}]"
_UNIT = rf"(?:{_SPACE}*(?:\p{{Sc}}|%|EUR|USD|GBP|CHF){_SPACE}*)?"
_GROUPS = rf"\d{{1,3}}(?:(?:\.\d{{3}})+|(?:,\d{{3}})+|(?:(?:{_SPACE}|['’])\d{{3}})+)"

OTHER_NOTATION = rf"^{_UNIT}[+\-−]?{_UNIT}(?:(?:\d+|{_GROUPS})(?:[.,]\d*)?|[.,]\d+){_UNIT}$"
"""A text that is a number, perhaps with a decimal comma, groups of thousands, or a currency."""

PLAIN = "numbers such as 1234.5, as in most rows, or the column's name in `categories`"
"""Expected value of a column whose texts are mostly numbers, for messages."""


@dataclass(frozen=True)
class ColumnFacts:
    """Findings about a column's values in one file or several."""

    name: str
    kind: str  # "number", "numbers", "categories", or "untyped": texts of CSV, or no values
    size: int = 1  # of lists
    numbers: int = 0  # untyped texts that are numbers, in whatever notation
    texts: int = 0  # other untyped texts
    vocabulary: tuple[str, ...] = ()  # sorted; at most one more than `MOST_CATEGORIES`
    codes: int = 0  # untyped texts of digits that begin with 0, as post codes do
    gaps: int = 0  # missing untyped values
    elsewise: int = 0  # those of `numbers` in another notation, such as 1,50

    @property
    def final_kind(self) -> str:
        """Kind of all values: untyped texts are numbers if most of them are and none is a code."""
        if self.kind != "untyped":
            return self.kind
        if self.codes:
            return "categories"
        return "number" if self.numbers > self.texts else "categories"

    @property
    def mixed(self) -> bool:
        """True if the column has texts among numbers, numbers in another notation, or gaps."""
        unfit = self.texts + self.elsewise + self.gaps
        return self.final_kind in ("number", "numbers") and unfit > 0

    def joined(self, other: ColumnFacts) -> ColumnFacts | None:
        """Findings about the values of both; None where their kinds do not fit together."""
        typed = [one for one in (self, other) if one.kind != "untyped"]
        if len({(one.kind, one.size) for one in typed}) > 1:
            return None
        first = typed[0] if typed else self
        if first.kind == "numbers" and len(typed) < 2:
            return None
        known = tuple(sorted({*self.vocabulary, *other.vocabulary})[: MOST_CATEGORIES + 1])
        numbers, texts = self.numbers + other.numbers, self.texts + other.texts
        others = self.codes + other.codes, self.gaps + other.gaps, self.elsewise + other.elsewise
        return ColumnFacts(self.name, first.kind, first.size, numbers, texts, known, *others)

    def column(self) -> Column:
        """The column that the values make.

        Raises:
            InputError: It has too many categories, or no values at all.
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

    A text column of CSV holds numbers if all of its values are numbers, and categories if most are
    not; if only some are not, it is an error. So are numbers in another notation, such as 1,50.
    Digits that begin with 0 are a code, which makes the column categories.

    Args:
        name: The column's name.
        refuse: As `Places.refuse`.
        code: Whether the recipe lists the column under `categories`, even if it holds numbers.
    """

    def __init__(self, name: str, refuse: Callable[..., None], *, code: bool = False) -> None:
        self.name, self.refuse, self.code = name, refuse, code
        self.kind = ""
        self.size = 1
        self.numbers = 0  # texts that are numbers
        self.texts = 0
        self.codes = 0
        self.gaps = 0
        self.elsewise = 0
        self.first_text: tuple[pa.Array, NDArray[np.int64]] | None = None
        self.first_gap: NDArray[np.int64] | None = None
        self.vocabulary: set[str] = set()

    def add(
        self, values: pa.Array, rows: NDArray[np.int64], *, typed: bool, coded: Any = None
    ) -> None:
        """Add the values of some rows (R,), with their dictionary in `coded` if they have one.

        A missing value is not a category; `typed` files distinguish numbers from texts.
        """
        typed = typed or self.code
        typed = typed and values.null_count < len(values)  # without a value the kind is unknown
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
        plain = int(np.count_nonzero(number))
        self.codes += int(np.count_nonzero(code))
        elsewise = 0
        if plain < len(number):
            elsewise = int(np.count_nonzero(~number & _matches(values, coded, OTHER_NOTATION)))
        self.elsewise += elsewise
        self.numbers += plain + elsewise
        self.texts += len(number) - plain - elsewise
        if self.first_text is None and plain < len(number):
            first = int(np.argmin(number))
            self.first_text = values[first : first + 1], rows[first : first + 1]

    @property
    def facts(self) -> ColumnFacts:
        """Findings so far."""
        known = tuple(sorted(self.vocabulary)[: MOST_CATEGORIES + 1])
        counts = self.numbers, self.texts
        others = self.codes, self.gaps, self.elsewise
        return ColumnFacts(self.name, self.kind, self.size, *counts, known, *others)

    def column(self) -> Column:
        """The column, once all rows have been added.

        Raises:
            InputError: It mixes numbers and texts, or has too many categories.
        """
        facts = self.facts
        if facts.mixed and self.first_text is not None:
            values, rows = self.first_text
            self.refuse(np.ones(1, np.bool_), rows, self.name, PLAIN, values)
        if facts.mixed and self.first_gap is not None:
            self.refuse(np.ones(1, np.bool_), self.first_gap, self.name, GIVEN, [None])
        return facts.column()


def _matches(texts: pa.Array, coded: Any, pattern: str) -> NDArray[np.bool_]:
    """(R,) which texts match; only the few distinct texts of a dictionary are compared."""
    different = texts if coded is None else coded.dictionary
    found = pc.match_substring_regex(different, pattern).to_numpy(zero_copy_only=False)
    return np.asarray(found if coded is None else found[coded.indices.drop_null().to_numpy()])
