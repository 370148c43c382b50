"""Requests of own logs: from the user's columns and item ids, as the logs have them, to features.

Versions of recipes with own logs carry this file beside `recommender.py`, and it runs in the
consumer's process as well: mlflow, NumPy and pandas, nothing else.
"""

import json
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

BLOCK_NUMBERS = 2**22
"""Features of candidates that are in memory at once."""


@dataclass(frozen=True)
class Requests:
    """B requests in numbers.

    Items are numbered as in the catalogue, and behind it those that it lacks.
    """

    users: np.ndarray  # (B, U)
    counts: np.ndarray  # (B,) candidates of each row; 0 for the whole catalogue
    offered: np.ndarray  # items of the others, one row after the other
    known: int  # size of the catalogue
    ids: np.ndarray  # (M,) texts
    features: np.ndarray  # (M, D)

    def groups(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Rows (R,) with as many candidates, features (R, N, D) and ids (R, N), block by block.

        Features and ids that all rows have in common are one in memory.
        """
        starts = np.cumsum(self.counts) - self.counts
        whole, ids = self.features[: self.known], self.ids[: self.known]
        for count in np.unique(self.counts):
            rows = np.flatnonzero(self.counts == count)
            numbers = count * self.features.shape[1] if count else self.known
            size = max(1, BLOCK_NUMBERS // max(1, numbers))
            for block in (rows[start : start + size] for start in range(0, len(rows), size)):
                if not count:
                    features = np.broadcast_to(whole, (len(block), *whole.shape))
                    yield block, features, np.broadcast_to(ids, (len(block), self.known))
                    continue
                items = self.offered[starts[block, None] + np.arange(count)]
                ordered = np.sort(items, axis=1)
                twice = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
                if twice.any():
                    where = f"items, row {block[twice.argmax()]}"
                    raise _invalid(f"{where}: expected each id once, got one twice")
                yield block, self.features[items], self.ids[items]


class Encoder:
    """Turns requests into the features that the model was trained with.

    Args:
        encoding: JSON file: the user's columns with their vocabularies, the ids of the items, the
            way of unknown ones, and the format of the logs. Of dsjson `user` and items may be
            objects as the logs have them; left out, or new in an item, is zero.
        catalogue: `.npz` file: `features` (M, D) of the items.
    """

    def __init__(self, encoding: str | Path, catalogue: str | Path) -> None:
        document = json.loads(Path(encoding).read_text(encoding="utf-8"))
        self.columns: list[dict[str, Any]] = document["user"]
        self.names = [column["name"] for column in self.columns]
        self.refuses = document["unknown_items"] == "refuse"
        self.described_by: list[dict[str, Any]] = document.get("described_by", [])
        self.objects = document["format"] == "dsjson"
        self.ids = np.array(document["items"], dtype=object)
        self.places = _places(document["items"])
        for number, item in enumerate(self.ids if self.objects else ()):
            self.places.setdefault(_action_id(_action(item)), number)
        with np.load(catalogue, allow_pickle=False) as stored:
            self.features = stored["features"]

    def requests(self, frame: pd.DataFrame) -> Requests:
        """The requests of a frame with `user` and `items`.

        Raises:
            MlflowException: A row does not fit; the message names it.
        """
        users, rows = self.users(frame), len(frame)
        if "candidates" in frame:
            raise _invalid("column candidates: expected item ids in a column items, got features")
        lists = frame["items"].tolist() if "items" in frame else [None] * rows
        listed = np.array([not _missing(one) for one in lists], dtype=bool)
        counts, offered = np.zeros(rows, int), np.zeros(0, int)
        ids, features = self.ids, self.features
        if listed.any():
            given = [one for one in lists if not _missing(one)]
            found = self._items(given, "items", np.flatnonzero(listed))
            counts[listed], offered, ids, features = found
        return Requests(users, counts, offered, len(self.ids), ids, features)

    def users(self, frame: pd.DataFrame) -> np.ndarray:
        """Features (B, U) of the users."""
        if not self.columns:
            return np.zeros((len(frame), 0), np.float32)
        expected = f"{', '.join(self.names)} as a list or by name"
        if "user" not in frame:
            raise _invalid(f"column user: expected {expected}, got {list(frame)}")
        return self._users(frame["user"].tolist(), expected, "user")

    def history(self, frame: pd.DataFrame, slate_size: int) -> pd.Series:
        """Each row's steps in numbers: user, shown items, clicked place, reward (S, U + K·D + 2).

        A step is a mapping: `items` (the shown ids), `reward`, `clicked` (may be left out where one
        item is shown) and `user` (that of the request where it is left out).
        """
        sessions = [() if _missing(one) else one for one in frame["history"]]
        lengths = np.array([_length(one, "history", row) for row, one in enumerate(sessions)], int)
        steps, rows = list(chain.from_iterable(sessions)), np.repeat(np.arange(len(frame)), lengths)
        expected = f"steps with items ({slate_size} ids), clicked and reward"
        for row, step in zip(rows, steps, strict=True):
            fits = isinstance(step, Mapping) and "items" in step and "reward" in step
            if not fits or (slate_size > 1 and "clicked" not in step):
                raise _invalid(f"history, row {row}: expected {expected}, got {step!s:.60}")
        shown = [step["items"] for step in steps]
        counts, items, _, features = self._items(shown, "history", rows)
        if (counts != slate_size).any():
            row = rows[(counts != slate_size).argmax()]
            raise _invalid(f"history, row {row}: expected {expected}, got another number of ids")
        own = [step.get("user", user) for step, user in zip(steps, _of(frame, rows), strict=True)]
        users = self._users(own, "the user as in the request", "history", rows)
        candidates = features[items].reshape(len(steps), slate_size * features.shape[1])
        numbers = [
            _numbers(column, list(of_steps), "history", rows, np.float64)
            for column, of_steps in (
                ({"name": "clicked", "kind": "number"}, (step.get("clicked", 0) for step in steps)),
                ({"name": "reward", "kind": "number"}, (step["reward"] for step in steps)),
            )
        ]
        whole = np.concatenate([users, candidates, *numbers], axis=1)
        return pd.Series(np.split(whole, np.cumsum(lengths))[:-1], dtype=object)

    def _users(
        self, values: list[Any], expected: str, where: str, rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Features (B, U) of users that are lists in the recipe's order, or mappings by name."""
        if not self.columns:
            return np.zeros((len(values), 0), np.float32)
        rows = np.arange(len(values)) if rows is None else rows
        absent = None if self.objects else _NOTHING
        given = values
        if self.objects:
            given = [_flat(one) if isinstance(one, Mapping) else one for one in values]
        lists = [
            [one.get(name, absent) for name in self.names] if isinstance(one, Mapping) else one
            for one in given
        ]
        for row, one, got in zip(rows, lists, values, strict=True):
            listed = isinstance(one, list | tuple | np.ndarray) and len(one) == len(self.names)
            if not listed or any(value is _NOTHING for value in one):
                got = "nothing" if _missing(got) else f"{got!s:.60}"
                raise _invalid(f"{where}, row {row}: expected {expected}, got {got}")
        columns = zip(*lists, strict=True) if lists else [()] * len(self.names)
        return np.concatenate(
            [
                _encoded(column, self._filled(column, list(of_column)), where, rows)
                for column, of_column in zip(self.columns, columns, strict=True)
            ],
            axis=1,
        )

    def _filled(self, column: dict[str, Any], values: list[Any]) -> list[Any]:
        """The values, with 0 for numbers that may be left out."""
        if not self.objects or column["kind"] != "number":
            return values
        return [0.0 if _missing(value) else value for value in values]

    def _items(
        self, lists: list[Any], where: str, rows: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Counts (B,), items of all lists in a row, ids and features that the items number."""
        rows = np.arange(len(lists)) if rows is None else rows
        counts = np.array(
            [_length(one, where, row) for row, one in zip(rows, lists, strict=True)], int
        )
        if not counts.all():
            raise _invalid(f"{where}, row {rows[counts.argmin()]}: expected ids, got an empty list")
        given = list(chain.from_iterable(lists))
        if self.objects:
            given = [_action_id(one) if isinstance(one, Mapping) else one for one in given]
        codes, texts = _texts(given, where, np.repeat(rows, counts))
        number = _found(texts, self.places)
        unknown = np.flatnonzero(number < 0)
        wrong = np.isin(codes, unknown if self.refuses else []) | (codes < 0)
        if wrong.any():
            place = int(wrong.argmax())
            row = np.repeat(rows, counts)[place]
            got = "nothing" if codes[place] < 0 else texts[codes[place]]
            expected = f"items of the catalogue, which has {len(self.ids):,}"
            raise _invalid(f"{where}, row {row}: expected {expected}, got {got!s:.60}")
        number[unknown] = len(self.ids) + np.arange(len(unknown))
        ids, features = self.ids, self.features
        if len(unknown):
            new = [texts[one] for one in unknown]
            ids = np.concatenate([ids, np.array(new, object)])
            first = np.unique(codes, return_index=True)[1][unknown]
            described = self._described(new, where, np.repeat(rows, counts)[first])
            features = np.concatenate([features, described])
        return counts, number[codes], ids, features

    def _described(self, ids: list[str], where: str, rows: np.ndarray) -> np.ndarray:
        """Features (B, D) of items that the catalogue lacks, as far as their ids tell them."""
        if not self.described_by:
            return np.zeros((len(ids), self.features.shape[1]), self.features.dtype)
        found = [_flat(_action(one)) for one in ids]
        parts = []
        for column in self.described_by:
            values = self._filled(column, [one.get(column["name"]) for one in found])
            parts.append(_encoded(column, values, where, rows))
        return np.concatenate(parts, axis=1)


_NOTHING = object()


def _of(frame: pd.DataFrame, rows: np.ndarray) -> list[Any]:
    """The user of each of these rows."""
    return frame["user"].iloc[rows].tolist() if "user" in frame else [None] * len(rows)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """The leaves of an object by their paths, as the logs' columns are named."""
    if isinstance(value, Mapping):
        parts = [(f"{name}.{key}" if name else key, one) for key, one in value.items()]
    elif isinstance(value, list | np.ndarray):  # objects in a list are one object in pieces
        parts = [
            (name if isinstance(one, Mapping) else f"{name}[{place}]", one)
            for place, one in enumerate(value)
        ]
    else:
        return {} if _missing(value) else {name: value}
    return dict(chain.from_iterable(_flat(one, path).items() for path, one in parts))


def _action_id(action: Mapping[str, Any]) -> str:
    """The features of an action as JSON, by which it is known; keys that begin with `_` are none.

    It is the same for an action of the logs and for that in Parquet, where keys are null that other
    actions have, and whole numbers may be floats.
    """
    features = _bare({key: value for key, value in action.items() if key[:1] != "_"})
    return json.dumps(features, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _bare(value: Any) -> Any:
    """A value of JSON without the keys that are null, and with whole floats as integers."""
    if isinstance(value, Mapping):
        return {key: _bare(one) for key, one in value.items() if not _missing(one)}
    if isinstance(value, list | np.ndarray):
        return [_bare(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**63
    return int(value) if whole else value


def _action(item: str) -> dict[str, Any]:
    """The features that an id has as JSON; nothing is known of an item whose id is another text."""
    try:
        found = json.loads(item)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _encoded(column: dict[str, Any], values: list[Any], where: str, rows: np.ndarray) -> np.ndarray:
    """Features (B, F) of one column, as the logs were encoded for the training."""
    if column["kind"] == "categories":
        vocabulary = _places(column["vocabulary"])
        codes, texts = _texts(values, where, rows, f" as {column['name']}")
        texts = [_boolean_of(one, column["vocabulary"]) for one in texts]
        place = np.append(_found(texts, vocabulary), -1)[codes]  # −1 where it is missing
        found = np.flatnonzero(place >= 0)
        encoded = np.zeros((len(values), len(vocabulary)), np.float32)
        encoded[found, place[found]] = 1
        return encoded
    return _numbers(column, values, where, rows, np.float32)


def _numbers(
    column: dict[str, Any], values: list[Any], where: str, rows: np.ndarray, kept: type
) -> np.ndarray:
    """The numbers (B, F) of one column, of the type in which they are kept."""
    size = column["size"] if column["kind"] == "numbers" else 1
    kind = f"a list of {size} numbers" if column["kind"] == "numbers" else "a number"
    try:
        numbers = np.array(values)
    except ValueError:
        numbers = np.empty(0)
    listed = column["kind"] == "numbers"
    shape = (len(values), size) if listed else (len(values),)
    whole = numbers.shape == shape and numbers.dtype.kind in "iuf"
    if not whole or {*map(type, values)} & {bool, np.bool_}:
        numbers = np.concatenate(
            [[np.nan], *(_row_of_numbers(one, size * listed) for one in values)]
        )[1:]
    with np.errstate(over="ignore"):  # infinite then, as is what the logs could not hold
        numbers = numbers.reshape(len(values), size).astype(kept)
    wrong = ~np.isfinite(numbers).all(axis=1)
    if wrong.any():
        place = int(wrong.argmax())
        value = values[place]
        got = "nothing" if _missing(value) else repr(value) if isinstance(value, str) else value
        got = f"{got!s:.60}"
        raise _invalid(
            f"{where}, row {rows[place]}: expected {kind} as {column['name']}, got {got}"
        )
    return numbers


def _row_of_numbers(value: Any, size: int) -> np.ndarray:
    """A row that may not fit, as not a number then; a size of 0 is that of a number by itself."""
    try:
        numbers = np.array(value)
        if numbers.dtype == object and {*map(type, numbers.flat)} <= {Decimal, float, int}:
            numbers = numbers.astype(np.float64)
    except (ValueError, OverflowError):
        numbers = np.empty(0)
    fits = numbers.shape == ((size,) if size else ()) and numbers.dtype.kind in "iuf"
    return numbers.astype(np.float64).reshape(-1) if fits else np.full(max(size, 1), np.nan)


def _places(texts: list[str]) -> dict[str, int]:
    """Places by texts; an index of pandas takes none with half a character of UTF-16."""
    return {one: place for place, one in enumerate(texts)}


def _found(texts: list[str], places: dict[str, int]) -> np.ndarray:
    """Places (B,) of these texts, −1 where they have none."""
    return np.array([places.get(one, -1) for one in texts], dtype=int)


def _texts(
    values: list[Any], where: str, rows: np.ndarray, name: str = ""
) -> tuple[np.ndarray, list[str]]:
    """Numbers (B,) of values among the different ones, −1 for what is missing, and their texts."""
    if {*map(type, values)} & {bool, np.bool_}:  # of which True is as good as 1
        values = [_text(one) if isinstance(one, bool | np.bool_) else one for one in values]
    column = np.empty(len(values), dtype=object)
    column[:] = values
    try:
        codes, found = pd.factorize(column)
    except TypeError:
        wrong = (place for place, one in enumerate(values) if not isinstance(one, Hashable))
        place = next(wrong, 0)
        expected, got = f"a text or a whole number{name}", f"{values[place]!s:.60}"
        raise _invalid(f"{where}, row {rows[place]}: expected {expected}, got {got}") from None
    texts = [_text(one) for one in found]
    if len({*texts}) < len(texts):  # 9 and "9"
        same, found = pd.factorize(np.array(texts, dtype=object))
        codes, texts = np.append(same, -1)[codes], found.tolist()
    return codes, texts


def _text(value: Any) -> str:
    """A category or an id as text: whole numbers by their digits, booleans as false and true."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, float | np.floating) and value.is_integer():
        value = int(value)
    return str(value)


def _boolean_of(text: str, vocabulary: list[str]) -> str:
    """A boolean as the logs write it, who may have had it as True, TRUE or true."""
    if text.lower() not in ("true", "false") or text in vocabulary:
        return text
    return next((one for one in vocabulary if one.lower() == text.lower()), text)


def _length(value: Any, where: str, row: int) -> int:
    if isinstance(value, list | tuple | np.ndarray):
        return len(value)
    raise _invalid(f"{where}, row {row}: expected a list, got {value!s:.60}")


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _invalid(message: str) -> MlflowException:
    """An error that a model server answers with 400 and this sentence, as UTF-8."""
    message = message.encode(errors="replace").decode()
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)
