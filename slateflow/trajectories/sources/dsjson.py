"""Decisions as VW and Azure Personalizer write them: one JSON document per line.

`c` has the features: those of the situation under its namespaces, those of the actions in `_multi`.
`a` ranks the actions, from 1, with the probabilities `p`; `_label_Action` was shown, and
`_label_cost` is minus the reward. Actions have no ids, so an item is a distinct set of features,
and its id is that set as JSON. The reader skips and counts lines without a label, which are not
decisions, decisions that were never shown (`_skipLearn`, `DeferredAction`), and those whose
`EventId` occurred earlier in the file. `event` has hashes of the other ids, by which decisions that
an earlier file had are left out.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import compress, islice
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from slateflow.errors import InputError, refused
from slateflow.trajectories.contract import FITS_FLOAT32, LEAST_PROPENSITY, WEIGHABLE
from slateflow.trajectories.sources.files import SourceFiles
from slateflow.trajectories.sources.lines_passed_by import reason_of
from slateflow.trajectories.sources.places import Places
from slateflow.trajectories.sources.table import USER, Cells, as_time

BATCH_LINES = 20_000
"""Lines that are in memory at once."""

TOLERANCE = 1e-3
"""Largest relative difference of probabilities: they are written as float32."""

Features = dict[str, Any]
"""Values by name: numbers, texts and booleans."""


class DsjsonReader:
    """Reads the decisions of a source.

    Args:
        files: The source's files.
        by_time: Whether to read the time.

    Attributes:
        passed_by: Number of lines skipped so far, by reason; see `sources.lines_passed_by`.
    """

    def __init__(self, files: SourceFiles, by_time: bool) -> None:
        self.files, self.by_time, self.places = files, by_time, Places("decision")
        self.dropped: float | None = None
        self.categories: tuple[str, ...] = ()  # JSON distinguishes numbers from texts
        self.passed_by: Counter[str] = Counter()

    def names(self) -> dict[str, str]:
        """The files' names of the standard columns."""
        names = {
            "item": "_label_Action", "candidates": "c._multi", "propensity": "_label_probability",
            "reward": "_label_cost", "user": "c",
        }  # fmt: skip
        return names | ({"time": "Timestamp"} if self.by_time else {})

    def outline(self) -> Iterator[pa.Table]:
        """Batches of all columns, as reading fewer of them would save nothing."""
        return self.decisions()

    def decisions(self) -> Iterator[pa.Table]:
        """Batches of all columns."""
        self.places, count = Places("decision"), 0
        self.dropped, self.passed_by = None, Counter()
        for file in self.files.files:
            path = self.files.path(file)
            self.places.begin(path, count)
            delivered, begin = Delivered(), count
            for batch in _batches(self._documents(file.name, path)):
                lines, events = delivered.new(batch)
                rows = np.arange(count, count + len(lines))
                for row, line in zip(rows.tolist(), lines, strict=True):
                    share = self._number(line.get("pdrop", 0.0), "pdrop", row)
                    self.dropped = share if self.dropped is None else self.dropped
                    if share != self.dropped:
                        expected = f"{self.dropped}, as in decisions before"
                        raise self.places.error(row, "pdrop", expected, share)
                if lines:
                    yield self._standard(lines, rows).append_column("event", pa.array(events))
                count += len(lines)
            self.passed_by["sent_again"] += delivered.again
            if delivered.again > count - begin:
                raise InputError(
                    f"{path}: expected an EventId of its own for each decision, got "
                    f"{delivered.again:,} times one that came before, and {count - begin:,} new "
                    "ones; leave it out where decisions have none"
                )

    def _documents(self, name: str, path: str) -> Iterator[dict[str, Any]]:
        """The lines of a file that are decisions, parsed."""
        kinds = (OSError, UnicodeDecodeError, pa.ArrowException)
        with refused(f"{path}: expected lines of JSON", *kinds):
            stream = io.TextIOWrapper(self.files.folder.stream(name), encoding="utf-8-sig")
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                where = f"{path}: line {number}"
                with refused(f"{where}: expected a JSON object", ValueError):
                    document = orjson.loads(line)
                if not isinstance(document, dict):
                    raise InputError(f"{where}: expected a JSON object, got {line[:40].strip()}")
                if "_outcomes" in document:
                    raise InputError(
                        f"{where}: _outcomes: expected one decision a line, got several slots; "
                        "write a table of slates"
                    )
                reason = reason_of(document)
                if reason is None:
                    yield document
                else:
                    self.passed_by[reason] += 1

    def _standard(self, lines: list[dict[str, Any]], rows: np.ndarray[Any, Any]) -> pa.Table:
        chosen, offered, propensity, reward, situation = [], [], [], [], []
        for row, line in zip(rows.tolist(), lines, strict=True):
            actions, place, probability = self._choice(line, row)
            offered.append(actions)
            chosen.append([actions[place]])
            propensity.append(probability)
            reward.append(-self._number(line["_label_cost"], "_label_cost", row))
            context = {key: value for key, value in line["c"].items() if key[:1] != "_"}
            situation.append(flat_features(context))
        rewards = pa.array(reward, pa.float64()).cast(pa.float32(), safe=False)
        wrong, costs = ~np.isfinite(rewards.to_numpy()), [line["_label_cost"] for line in lines]
        self.places.refuse(wrong, rows, "_label_cost", FITS_FLOAT32, costs)
        columns: dict[str, Any] = {
            "row": pa.array(rows),
            "item": pa.array(chosen, pa.list_(pa.string())),
            "candidates": pa.array(offered, pa.list_(pa.string())),
            "propensity": pa.array(propensity, pa.float64()),
            "reward": rewards,
        }
        if self.by_time:
            name = "Timestamp"
            times = [line.get(name) for line in lines]
            untimely = [not isinstance(one, str | None) for one in times]
            self.places.refuse(untimely, rows, name, "a point in time, as text", times)
            columns["time"] = as_time(Cells(pa.array(times, pa.string()), rows, name, self.places))
        for name, values in feature_columns(situation).items():
            columns[USER + name] = feature_array(values, rows, name, self.places)
        return pa.table(columns)

    def _choice(self, line: dict[str, Any], row: int) -> tuple[list[str], int, float]:
        """Ids of the actions, the place of the shown action among them, and its probability."""
        found = line.get("c")
        multi = found.get("_multi") if isinstance(found, dict) else None
        actions = multi if isinstance(multi, list) else []
        if not actions or not all(isinstance(one, dict) for one in actions):
            raise self.places.error(row, "c._multi", "a list of actions", multi)
        probabilities = self._probabilities(line, len(actions), row)
        label = line.get("_label_Action", line["a"][0])
        if not isinstance(label, int) or label not in probabilities:
            expected = f"an action from 1 to {len(actions)}"
            raise self.places.error(row, "_label_Action", expected, label)
        index = line.get("_labelIndex", label - 1)
        if index != label - 1:
            expected = f"{label - 1}, as _label_Action has it"
            raise self.places.error(row, "_labelIndex", expected, index)
        given, name = probabilities[label], "_label_probability"
        stated = self._number(line.get(name, given), name, row)
        if not 0 < stated <= 1:
            raise self.places.error(row, name, "a probability in (0, 1]", stated)
        if stated < LEAST_PROPENSITY:
            raise self.places.error(row, name, WEIGHABLE, stated)
        if abs(stated - given) > TOLERANCE * max(stated, given):
            raise self.places.error(row, name, f"{given:g}, as `p` has it", stated)
        return [item_id(one) for one in actions], label - 1, stated

    def _probabilities(self, line: dict[str, Any], count: int, row: int) -> dict[int, float]:
        """The probability of each action, by its number from 1."""
        ranked, given = line.get("a"), line.get("p")
        whole = isinstance(ranked, list) and all(isinstance(one, int) for one in ranked)
        if not isinstance(ranked, list) or not whole or sorted(ranked) != [*range(1, count + 1)]:
            raise self.places.error(row, "a", f"each action from 1 to {count} once", ranked)
        if not isinstance(given, list) or len(given) != count:
            raise self.places.error(row, "p", f"{count} probabilities", given)
        numbers = [self._number(one, "p", row) for one in given]
        if min(numbers) < 0 or abs(sum(numbers) - 1) > TOLERANCE:
            expected = "probabilities that add up to 1"
            raise self.places.error(row, "p", expected, f"{sum(numbers):g}")
        return dict(zip(ranked, numbers, strict=True))

    def _number(self, value: Any, name: str, row: int) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            got = f"the text {value!r}" if isinstance(value, str) else value
            raise self.places.error(row, name, "a finite number", got)
        return float(value)


class Delivered:
    """The decisions of a file so far, by hashes of their ids.

    Attributes:
        again: Number of decisions that were delivered again.
    """

    def __init__(self) -> None:
        self._known = np.zeros(0, np.uint64)  # sorted
        self.again = 0

    def new(self, lines: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], NDArray[np.uint64]]:
        """The decisions that did not come before, and their hashes, which are 0 without an id."""
        given = [line.get("EventId") for line in lines]
        ids = np.array(["" if one is None else str(one) for one in given], object)
        hashes = np.asarray(pd.util.hash_array(ids, categorize=False), np.uint64)
        hashes[ids == ""] = 0
        found, first = np.unique(hashes, return_index=True)
        place = np.searchsorted(self._known, found)
        before = np.append(self._known, np.uint64(0))[place] == found
        new = hashes == 0
        new[first[~before]] = True
        joined = np.concatenate([self._known, found[~before & (found > 0)]])
        self._known = np.sort(joined, kind="stable")  # merges sorted runs
        self.again += int(np.count_nonzero(~new))
        return list(compress(lines, new.tolist())), hashes[new]


def item_id(action: dict[str, Any]) -> str:
    """The features of an action as JSON; keys that begin with `_` are not features.

    Example:
        >>> item_id({"_tag": "x", "j": {"price": 2.0, "hot": True}, "i": {"id": "tea"}})
        '{"i":{"id":"tea"},"j":{"hot":true,"price":2.0}}'
    """
    return _item_id(orjson.dumps(action))


@lru_cache(maxsize=2**17)
def _item_id(action: bytes) -> str:
    """The id of an action from its bytes, cached, as actions are far fewer than decisions.

    Consumers make ids with Python's own `json`, which writes some floats differently from orjson.
    """
    features = {key: value for key, value in orjson.loads(action).items() if key[:1] != "_"}
    return json.dumps(features, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def flat_features(document: Any, name: str = "") -> Features:
    """The leaves of nested objects and lists, by their paths.

    Example:
        >>> flat_features({"from": [{"day": "monday", "hot": True}], "i": {"size": [1, 2.5]}})
        {'from.day': 'monday', 'from.hot': True, 'i.size[0]': 1, 'i.size[1]': 2.5}
    """
    found: Features = {}
    if isinstance(document, dict):
        for key, value in document.items():
            found |= flat_features(value, f"{name}.{key}" if name else key)
    elif isinstance(document, list):
        for place, value in enumerate(document):
            # A list of objects is one object in pieces, a list of numbers a vector
            found |= flat_features(value, name if isinstance(value, dict) else f"{name}[{place}]")
    elif document is not None:
        found[name] = document
    return found


def feature_columns(rows: list[Features]) -> dict[str, list[Any]]:
    """The values of each feature, in order of first occurrence; None where one is missing."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def feature_array(
    values: list[Any], rows: np.ndarray[Any, Any], name: str, places: Places
) -> pa.Array:
    """The values of a feature as float64 or texts, null where one is missing.

    Raises:
        InputError: The feature has both numbers and texts.
    """
    text = [isinstance(value, str | bool) for value in values]
    given = [value is not None for value in values]
    first = text[given.index(True)]
    wrong = np.array(given) & (np.array(text) != first)
    places.refuse(wrong, rows, name, "texts" if first else "numbers", np.array(values, object))
    if first:
        return pa.array([None if v is None else _text(v) for v in values], pa.string())
    return pa.array([None if v is None else float(v) for v in values], pa.float64())


def _text(value: str | bool) -> str:
    """Booleans as Arrow writes them."""
    return str(value).lower() if isinstance(value, bool) else value


def _batches(documents: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    waiting = iter(documents)
    while batch := list(islice(waiting, BATCH_LINES)):
        yield batch
