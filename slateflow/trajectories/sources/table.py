"""Tables of decisions, Parquet or CSV with a row for each, as batches of standard columns.

A batch has `row`, the row's number among all, and, as far as the recipe names them, `item` and
`candidates` (lists of ids), `propensity`, `reward`, `clicked`, `episode`, `time`, `policy`,
`visitor`, and the user's columns under their own names after a colon. Ids, categories and policies
are texts; missing texts of the user are null. `clicked` is −1 where nothing was clicked. The time
is an int64, a float64 or a timestamp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.trajectories.contract import FITS_FLOAT32, LEAST_PROPENSITY, WEIGHABLE
from slateflow.trajectories.encoding import as_text, nan_as_null
from slateflow.trajectories.sources.column_files import read_columns
from slateflow.trajectories.sources.csv_texts import (
    IN_BRACKETS,
    MISSING,
    NUMBER,
    WHOLE,
    WITH_POINT,
    lists_of_numbers,
    lower_booleans,
    split,
)
from slateflow.trajectories.sources.files import SourceFiles
from slateflow.trajectories.sources.places import Places
from slateflow.trajectories.sources.recipe import TableColumns

LISTS = ("item", "candidates")
"""Columns that may hold lists."""

ID = "a text or a whole number"
"""Expected value of ids and categories, for messages."""

DISTINCT = "a text, or a whole number of a type that has all its digits, such as int64"
"""Expected value of ids that may have been rounded, for messages."""

WITHIN = "a number from −2^63 to below 2^63"
"""Expected value of times that are whole numbers, for messages."""

GIVEN = "a number in every row; a column of its own may say where there was none"
"""Expected value of numbers, for messages: no number means a missing value."""

FEATURE = "numbers, texts or lists of numbers"
DATED = f"{FEATURE}; a date as a number, such as days, or as a text named in `categories`"
"""Expected values of the user's columns, for messages."""

BEYOND_MICROSECONDS = r"(:\d\d\.\d{6})\d+"
"""A second with further digits, as .NET writes seven and Go nine; the first six are a group."""

IN_A_LIST = "numbers in a list as a|b|c, or the column's name in `categories`"
"""Expected value of the user's features in brackets, for messages."""

USER = ":"
"""Prefix of the names of the user's columns."""

TYPED = "typed"
"""Key in a batch's metadata: whether the file distinguishes numbers from texts."""


class TableReader:
    """Reads the decisions of a source.

    Args:
        files: The source's files.
        columns: The recipe's names of the columns.
    """

    def __init__(self, files: SourceFiles, columns: TableColumns) -> None:
        self.files, self.columns, self.places = files, columns, Places()

    @property
    def passed_by(self) -> dict[str, int]:
        """Empty, as all rows are used."""
        return {}

    @property
    def dropped(self) -> None:
        """None: tables do not record decisions that were not logged."""
        return None

    @property
    def categories(self) -> tuple[str, ...]:
        """Columns of the user whose numbers are codes."""
        return self.columns.categories

    @property
    def user(self) -> tuple[str, ...]:
        """Names of the user's columns."""
        return self.columns.user

    def outline(self) -> Iterator[pa.Table]:
        """The columns that the first pass needs: ids, the user, the order, the reward."""
        wanted = {"user", "item", "candidates", "episode", "time", "policy", "reward"}
        return self._batches(wanted)

    def described(self) -> Iterator[pa.Table]:
        """Only ids and the user's columns."""
        return self._batches({"user", "item"})

    def decisions(self) -> Iterator[pa.Table]:
        """All columns except the keys of the order."""
        wanted = {"user", "item", "candidates", "propensity", "reward", "clicked", "visitor"}
        return self._batches(wanted)

    def names(self) -> dict[str, str]:
        """The files' names of the standard columns that the recipe has."""
        given = vars(self.columns).items()
        named = {key: name for key, name in given if isinstance(name, str)}
        return named | {USER + name: name for name in self.user}

    def _batches(self, wanted: set[str]) -> Iterator[pa.Table]:
        names = {
            key: name
            for key, name in self.names().items()
            if key in wanted or (key.startswith(USER) and "user" in wanted)
        }
        self.places, count = Places(), 0
        for file in self.files.files:
            path = self.files.path(file)
            self.places.begin(path, count)
            given = list(dict.fromkeys(names.values()))
            typed = not file.name.endswith((".csv", ".csv.gz"))
            for table in self._tables(file.name, path, given):
                if table.num_rows:
                    yield self._standard(table, names, count, typed=typed)
                count += table.num_rows

    def _tables(self, name: str, path: str, columns: list[str]) -> Iterator[pa.Table]:
        """Some columns of a file, unchanged."""
        return read_columns(self.files.folder, name, path, columns)

    def _standard(
        self, table: pa.Table, names: dict[str, str], first: int, *, typed: bool
    ) -> pa.Table:
        rows = np.arange(first, first + table.num_rows)
        columns: dict[str, Any] = {"row": pa.array(rows)}
        for key, name in names.items():
            values = table.column(name).combine_chunks()
            convert = _CONVERSIONS.get(key, _as_code if name in self.categories else _as_user)
            cells = Cells(values, rows, name, self.places)
            if not typed:
                cells = cells.of_csv(key, code=name in self.categories)
            columns[key] = convert(cells)
        return pa.table(columns, metadata={TYPED: str(typed)})


class Cells:
    """The values of a column at some rows, and how an error names them."""

    def __init__(self, values: Any, rows: np.ndarray[Any, Any], name: str, places: Places) -> None:
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if pa.types.is_string_view(values.type):
            values = values.cast(pa.string())
        self.values, self.rows, self.name, self.places = values, rows, name, places

    def of_csv(self, key: str, *, code: bool) -> Cells:
        """Texts of CSV as Parquet would have the values of a standard column.

        Items and policies may have any name; `code` is true for columns under `categories`.

        Raises:
            InputError: A list is in brackets.
        """
        values = self.values
        if key in LISTS:
            in_brackets = pc.fill_null(pc.match_substring_regex(values, IN_BRACKETS), False)
            self.refuse(in_brackets, "an id, or a list written a|b|c")
            return Cells(split(values), self.rows, self.name, self.places)
        if key != "policy":
            missing = pc.is_in(values, value_set=pa.array(MISSING))
            values = pc.if_else(missing, pa.scalar(None, values.type), values)
        if key.startswith(USER):
            values = lower_booleans(values)
            if not code:
                in_brackets = pc.fill_null(pc.match_substring_regex(values, IN_BRACKETS), False)
                self.refuse(in_brackets, IN_A_LIST)
                values = lists_of_numbers(values)
        if code or key in ("episode", "visitor"):
            values = pc.replace_substring_regex(values, WITH_POINT, r"\1")
        return Cells(values, self.rows, self.name, self.places)

    def refuse(self, wrong: Any, expected: str) -> None:
        """Raise for the first row that is wrong (R,)."""
        self.places.refuse(wrong, self.rows, self.name, expected, self.values)

    def error(self, place: int, expected: str) -> InputError:
        """An error for the row at a place."""
        value = self.values[place].as_py()
        return self.places.error(int(self.rows[place]), self.name, expected, value)

    def present(self, expected: str = "a value") -> None:
        """Raise for the first row without a value."""
        if self.values.null_count:
            self.refuse(self.values.is_null().to_numpy(zero_copy_only=False), expected)

    def cast(self, kind: pa.DataType, expected: str) -> Any:
        """The values as numbers of a kind; floating-point numbers are rounded to the nearest.

        Raises:
            InputError: A value is not a number, or does not fit into whole numbers; the message
                names its row.
        """
        values = self.values
        if is_text(values.type):
            matched = pc.fill_null(pc.match_substring_regex(values, NUMBER), True)
            self.refuse(~matched.to_numpy(zero_copy_only=False), expected)
            values = pc.utf8_trim_whitespace(values)
        elif not _is_number(values.type):
            self.refuse(np.ones(len(values), np.bool_), expected)
        if pa.types.is_floating(kind):
            return pc.cast(values, kind, safe=False)
        try:
            return pc.cast(values, kind)
        except pa.ArrowException:  # "1.0", as pandas writes whole numbers with gaps, or a misfit
            numbers = pc.cast(values, pa.float64(), safe=False)
            self.refuse(_unfit(pc.fill_null(numbers, 0.0), kind), expected)
            return pc.cast(numbers, kind)


def _unfit(numbers: Any, kind: pa.DataType) -> NDArray[np.bool_]:
    """(R,) which floating-point numbers are not whole, or outside the range of the kind."""
    values = numbers.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    limit = 2.0 ** (kind.bit_width - 1)
    return np.asarray((values != np.trunc(values)) | (values < -limit) | (values >= limit))


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """True if the type is that of texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_list(kind: pa.DataType) -> bool:
    """True if the type is that of lists, of a fixed length or not."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _text(cells: Cells) -> Any:
    cells.present()
    _check_whole(cells)
    return _as_text(cells)


def _check_whole(cells: Cells) -> None:
    """Refuse floating-point numbers that are not whole, or so large that digits are lost."""
    if pa.types.is_floating(cells.values.type):
        values = pc.fill_null(cells.values, 0.0)
        cells.refuse(_unfit(values, pa.int64()), ID)
        numbers = values.to_numpy(zero_copy_only=False)
        cells.refuse(np.abs(numbers) >= 2.0 ** (np.finfo(numbers.dtype).nmant + 1), DISTINCT)


def _as_text(cells: Cells) -> Any:
    """Values as the texts that the same values have in a request."""
    kind = cells.values.type
    alike = (is_text, _is_number, pa.types.is_boolean, pa.types.is_date, pa.types.is_null)
    if not any(one(kind) for one in alike):
        cells.refuse(np.ones(len(cells.rows), np.bool_), ID)
    try:
        return as_text(cells.values)
    except pa.ArrowException:
        return cells.refuse(np.ones(len(cells.rows), np.bool_), ID)


def _ids(cells: Cells) -> Any:
    """Lists of ids as texts, from lists or single ids."""
    cells.present()
    values = cells.values
    if not is_list(values.type):
        offsets = np.arange(len(values) + 1, dtype=np.int32)
        return pa.ListArray.from_arrays(offsets, _text(cells))
    lengths = pc.list_value_length(values).to_numpy(zero_copy_only=False)
    cells.refuse(lengths == 0, "ids")
    each = Cells(pc.list_flatten(values), np.repeat(cells.rows, lengths), cells.name, cells.places)
    each.present("ids without a gap")
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, _text(each))


def _propensity(cells: Cells) -> Any:
    expected = "a probability in (0, 1]"
    cells.present(expected)
    values = cells.cast(pa.float64(), expected)
    numbers = values.to_numpy(zero_copy_only=False)
    cells.refuse(~((numbers > 0) & (numbers <= 1)), expected)
    cells.refuse(numbers < LEAST_PROPENSITY, WEIGHABLE)
    return values


def _reward(cells: Cells) -> Any:
    cells.present("a number")
    if pa.types.is_boolean(cells.values.type):
        return pc.cast(cells.values, pa.float32())
    if is_text(cells.values.type):  # a CSV column of booleans
        with suppress(pa.ArrowException):
            values = pc.cast(pc.cast(pc.utf8_lower(cells.values), pa.bool_()), pa.float32())
            return values
    numbers = cells.cast(pa.float64(), "a number")
    cells.refuse(~np.isfinite(numbers.to_numpy(zero_copy_only=False)), "a finite number")
    values = numbers.cast(pa.float32(), safe=False)
    cells.refuse(~np.isfinite(values.to_numpy(zero_copy_only=False)), FITS_FLOAT32)
    return values


def _clicked(cells: Cells) -> Any:
    """The clicked place, −1 for no click, which files may also leave empty."""
    values = cells.values
    if pa.types.is_null(values.type):  # a file without a click
        return pa.array(np.full(len(values), -1, np.int32))
    cells = Cells(nan_as_null(values), cells.rows, cells.name, cells.places)
    return pc.fill_null(cells.cast(pa.int32(), "a place in the slate, or nothing"), -1)


def as_time(cells: Cells) -> Any:
    """Points in time as timestamps, in UTC where they have a zone; numbers as int64 or float64."""
    cells.present()
    kind, values = cells.values.type, cells.values
    expected = "a point in time, such as 2026-11-28T09:30:00Z, or a number"
    if is_text(kind):
        for pattern, number in ((WHOLE, pa.int64()), (NUMBER, pa.float64())):
            if pc.all(pc.match_substring_regex(values, pattern)).as_py():
                return cells.cast(number, WITHIN)
        if (points := _points_in_time(values)) is not None:
            return points
        number = pc.match_substring_regex(values, NUMBER).to_numpy(zero_copy_only=False)
        dated = np.array([_points_in_time(one) is not None for one in _one_by_one(values)])
        cells.refuse(~number & ~dated, expected)
        cells.refuse(number != number[0], f"{expected}, all of one kind")
        raise cells.error(0, f"{expected}, all of one form")
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        zone = "UTC" if getattr(kind, "tz", None) else None
        return pc.cast(values, pa.timestamp("us", zone), safe=False)
    if pa.types.is_integer(kind):
        return cells.cast(pa.int64(), WITHIN)
    numbers = cells.cast(pa.float64(), expected)
    cells.refuse(~np.isfinite(numbers.to_numpy(zero_copy_only=False)), "a finite number")
    return numbers


def _points_in_time(texts: Any) -> Any:
    """Texts as timestamps; None if one is not a point in time, or only some have zones."""
    texts = pc.replace_substring_regex(texts, BEYOND_MICROSECONDS, r"\1")
    for zone in (None, "UTC"):
        with suppress(pa.ArrowException):
            return pc.cast(texts, pa.timestamp("us", zone))
    return None


def _one_by_one(values: Any) -> Iterator[Any]:
    return (values.slice(place, 1) for place in range(len(values)))


def _as_user(cells: Cells) -> Any:
    """Numbers as float64, or lists of them, and all other values as texts, which may be missing.

    A column without values becomes texts, whatever its type in the file.
    """
    kind = cells.values.type
    if cells.values.null_count == len(cells.values):
        return pa.nulls(len(cells.values), pa.string())
    every = np.ones(len(cells.rows), np.bool_)
    if pa.types.is_temporal(kind) or _is_dated(cells.values):
        cells.refuse(cells.values.is_valid(), DATED)
    if pa.types.is_boolean(kind) or is_text(kind):
        return as_text(cells.values)
    cells.present(GIVEN)
    if is_list(kind):
        if not _is_number(kind.value_type):
            cells.refuse(every, FEATURE)
        return cells.values.cast(pa.list_(pa.float64()), safe=False)
    if _is_number(kind):
        values = cells.cast(pa.float64(), "finite numbers")
        cells.refuse(~np.isfinite(values.to_numpy(zero_copy_only=False)), "finite numbers")
        return values
    return cells.refuse(every, FEATURE)


def _is_dated(values: Any) -> bool:
    """True for texts that are points in time; in CSV all dates are texts."""
    given = values.drop_null()
    return (
        is_text(values.type)
        and _points_in_time(given[:1]) is not None
        and (_points_in_time(given) is not None)
    )


def _as_code(cells: Cells) -> Any:
    """Categories as texts, whole numbers by their digits; they may be missing."""
    cells = Cells(nan_as_null(cells.values), cells.rows, cells.name, cells.places)
    _check_whole(cells)
    return _as_text(cells)


_CONVERSIONS: dict[str, Callable[[Cells], Any]] = {
    "episode": _text,
    "time": as_time,
    "policy": _text,
    "item": _ids,
    "candidates": _ids,
    "propensity": _propensity,
    "reward": _reward,
    "clicked": _clicked,
    "visitor": _text,
}
