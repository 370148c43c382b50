"""The encoders of own logs: from columns to features, and from item ids to catalogue numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from slateflow.errors import InputError


@dataclass(frozen=True)
class Column:
    """A column of a table of logs, and the features that it becomes.

    Numbers are taken as they are, lists of numbers one by one, and categories one-hot. A category
    outside the vocabulary becomes zeros, and so does a missing value where it is allowed.

    Example:
        >>> country = Column("country", "categories", ("at", "de"))
        >>> country.features
        ('country=at', 'country=de')
        >>> country.encode(pa.array(["de", "fr"])).tolist()
        [[0.0, 1.0], [0.0, 0.0]]
    """

    name: str
    kind: str  # "number", "numbers" or "categories"
    vocabulary: tuple[str, ...] = ()  # of categories; booleans are "false" and "true"
    size: int = 1  # of lists

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        if self.kind == "categories":
            return tuple(f"{self.name}={category}" for category in self.vocabulary)
        if self.kind == "numbers":
            return tuple(f"{self.name}[{number}]" for number in range(self.size))
        return (self.name,)

    def encode(self, values: Any) -> NDArray[np.float32]:
        """Features (R, F) of an Arrow array or any sequence of R values.

        Raises:
            InputError: A value is not of the column's kind.
        """
        try:
            column = _combined(values)
            rows = len(column)
            if self.kind == "categories":
                place = index_in(as_text(nan_as_null(column)), self.vocabulary)
                found = np.flatnonzero(place >= 0)
                encoded = np.zeros((rows, len(self.vocabulary)), np.float32)
                encoded[found, place[found]] = 1
                return encoded
            if self.kind == "numbers":
                flat = pc.cast(pc.list_flatten(column), pa.float32(), safe=False)
                return np.asarray(flat.to_numpy(zero_copy_only=False).reshape(rows, self.size))
            if pa.types.is_string(column.type):
                column = pc.utf8_trim_whitespace(column)
            numbers = pc.cast(column, pa.float64(), safe=False)
            number = pc.fill_null(numbers.cast(pa.float32(), safe=False), 0.0)
            return np.asarray(number.to_numpy(zero_copy_only=False)[:, None])
        except (pa.ArrowException, ValueError) as error:
            expected = {
                "number": "numbers",
                "numbers": f"lists of {self.size} numbers",
                "categories": "texts, whole numbers or booleans",
            }[self.kind]
            raise InputError(
                f"{self.name}: expected {expected}, got {str(error).splitlines()[0]}"
            ) from error


@dataclass(frozen=True)
class Encoding:
    """Turns requests, or further logs, into the features that models were trained with.

    Item ids are texts, in the order of the catalogue; whole numbers are looked up by their digits.

    Example:
        >>> encoding = Encoding((Column("age", "number"),), ("7", "9"))
        >>> encoding.user_features({"age": [34, 51]}).tolist()
        [[34.0], [51.0]]
        >>> encoding.item_numbers([9, 8]).tolist()
        [1, -1]
    """

    user: tuple[Column, ...]
    items: tuple[str, ...]
    unknown_items: str = "refuse"  # or "zeros": the features of unknown items are zero
    described_by: tuple[Column, ...] = ()  # columns of items whose ids are their features

    @property
    def user_names(self) -> tuple[str, ...]:
        """Names of the U features of a user."""
        return names_of(self.user)

    def user_features(self, columns: Mapping[str, Any], rows: int | None = None) -> Any:
        """Features (R, U) float32 of R users, from their columns by name.

        Args:
            columns: Arrow or NumPy arrays, or lists, of R values; other columns are ignored.
            rows: R, where the recipe has no columns of the user.

        Raises:
            InputError: A column is missing, or a value is not of its column's kind.
        """
        for one in self.user:
            if one.name not in columns:
                raise InputError(
                    f"user: expected the columns {', '.join(each.name for each in self.user)}, "
                    f"got none named {one.name}"
                )
        return encode(self.user, columns, rows or 0)

    def item_numbers(self, ids: Any) -> NDArray[np.int32]:
        """Catalogue numbers (R,) of items; −1 for an id that the catalogue lacks."""
        return index_in(as_text(_combined(ids)), self._known)

    @cached_property
    def _known(self) -> pa.Array:
        return pa.array(self.items, pa.string())

    def to_dict(self) -> dict[str, Any]:
        """The encoders, ready for JSON."""
        document = {
            "user": [_document(column) for column in self.user],
            "items": list(self.items),
            "unknown_items": self.unknown_items,
        }
        if self.described_by:
            document["described_by"] = [_document(column) for column in self.described_by]
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        user, described_by = (
            tuple(
                Column(**{**one, "vocabulary": tuple(one["vocabulary"])})
                for one in document.get(key, ())
            )
            for key in ("user", "described_by")
        )
        return cls(user, tuple(document["items"]), document["unknown_items"], described_by)


def _document(column: Column) -> dict[str, Any]:
    return {**dataclasses.asdict(column), "vocabulary": list(column.vocabulary)}


def names_of(columns: Iterable[Column]) -> tuple[str, ...]:
    """Names of the features of columns, in their order."""
    return tuple(name for column in columns for name in column.features)


def encode(columns: Sequence[Column], values: Mapping[str, Any], rows: int) -> NDArray[np.float32]:
    """Features (R, F) of columns, side by side."""
    parts = [column.encode(values[column.name]) for column in columns]
    return np.concatenate(parts, axis=1) if parts else np.zeros((rows, 0), np.float32)


def index_in(values: pa.Array, known: pa.Array | Sequence[str]) -> NDArray[np.int32]:
    """(R,) place of each text among the known ones; −1 for an unknown text."""
    value_set = known if isinstance(known, pa.Array) else pa.array(known, pa.string())
    found = pc.index_in(values, value_set=value_set, skip_nulls=True)
    return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int32)


def nan_as_null(column: pa.Array) -> pa.Array:
    """Numbers with null for NaN, pandas' mark of a missing value; other values unchanged."""
    if not pa.types.is_floating(column.type):
        return column
    return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)


def as_text(column: pa.Array) -> pa.Array:
    """Categories or ids as texts: whole numbers by their digits, booleans as false and true.

    Raises:
        pa.ArrowException: A value cannot be cast, such as a number with a fraction.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):
        column = column.cast(pa.int64())  # whole numbers only
    return column.cast(pa.string())


def _combined(values: Any) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    return values if isinstance(values, pa.Array) else pa.array(values)
