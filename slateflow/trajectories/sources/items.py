"""The catalogue of own logs: from the file of the items, or from the ids in the logs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.trajectories.encoding import Column, encode, names_of
from slateflow.trajectories.sources.column_survey import ColumnSurvey
from slateflow.trajectories.sources.dsjson import feature_array, feature_columns, flat_features
from slateflow.trajectories.sources.places import Places
from slateflow.trajectories.sources.planning import reader_of
from slateflow.trajectories.sources.recipe import LoggedRecipe, TableColumns
from slateflow.trajectories.sources.survey import Reader
from slateflow.trajectories.sources.table import LISTS, USER, TableReader

MOST_ONE_HOT = 5_000
"""Most items without features of their own; each is a feature."""

MOST_DESCRIBED = 100_000
"""Most items that have features."""


@dataclass(frozen=True)
class Items:
    """The items of a recipe.

    Attributes:
        ids: Ids of the M items, in the order of the catalogue.
        names: Names of the features.
        features: (M, D).
        described_by: Columns of which the features are made, where an item's id contains all its
            features.
        own_id: Name of the ids where they may be added to the columns of a file that describes
            items; empty otherwise.
        known: Number of items in that file; they come first.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    features: NDArray[np.float32]
    described_by: tuple[Column, ...] = ()
    own_id: str = ""
    known: int = 0

    def with_ids(self) -> Items:
        """The items with their one-hot ids after the columns that describe them."""
        own = _one_hot(self.ids, self.own_id, self.known)
        features = np.concatenate([self.features, own.features], axis=1)
        return Items(self.ids, self.names + own.names, features)


def read_items(recipe: LoggedRecipe, seen: set[str]) -> Items:
    """The items of a recipe.

    Args:
        recipe: With or without a file of items.
        seen: Ids in the logs.

    Raises:
        InputError: The file does not fit, or there are too many items to distinguish each by id.
    """
    found = _items(recipe, seen)
    finite = np.isfinite(found.features)
    wrong = np.flatnonzero(~finite.all(axis=1))
    if len(wrong):
        name = found.names[int(np.argmin(finite[wrong[0]]))]
        raise InputError(
            f"item {found.ids[wrong[0]]}: {name}: expected a finite number, got one too large for "
            "float32 or none at all; correct the items and try again"
        )
    return found


def _items(recipe: LoggedRecipe, seen: set[str]) -> Items:
    if recipe.format == "dsjson":
        return _described(_sorted_ids(seen))
    if recipe.items is None:
        _check_written(seen, recipe)
        return _one_hot(_sorted_ids(seen), recipe.columns.item)
    ids, columns, values = _read_file(recipe)
    name = recipe.items.id or recipe.columns.item
    _check_written(seen.union(ids), recipe)
    extra: tuple[str, ...] = ()
    if recipe.unknown_items == "zeros":
        extra = _sorted_ids(seen.difference(ids))
    if not columns:
        return _one_hot(ids + extra, name, len(ids))
    names, features = names_of(columns), encode(columns, values, len(ids))
    features = _with_zeros(features, len(extra))
    named, never = name in recipe.items.features, recipe.items.tell_apart == "never"
    own_id = name if named or not never else ""
    found = Items(ids + extra, names, features, own_id=own_id, known=len(ids))
    return found.with_ids() if named else found


def _described(ids: tuple[str, ...]) -> Items:
    """Items whose ids are their features, as JSON."""
    if len(ids) > MOST_DESCRIBED:
        raise InputError(
            f"c._multi: expected at most {MOST_DESCRIBED:,} different actions, got {len(ids):,}; "
            "leave features out that are new at every decision"
        )
    places, rows = Places("action"), np.arange(len(ids))
    places.begin("actions", 0)
    columns, values = [], {}
    for name, given in feature_columns([flat_features(json.loads(one)) for one in ids]).items():
        values[name] = feature_array(given, rows, name, places)
        survey = ColumnSurvey(name, places.refuse)
        survey.add(values[name], rows, typed=True)
        columns.append(survey.column())
    return Items(ids, names_of(columns), encode(columns, values, len(ids)), tuple(columns))


def _one_hot(ids: tuple[str, ...], name: str, known: int | None = None) -> Items:
    """Items with a feature for each of the first `known`; the others have only zeros."""
    if len(ids) > MOST_ONE_HOT:
        raise InputError(
            f"{name}: expected at most {MOST_ONE_HOT:,} items without features, got {len(ids):,}; "
            "describe them by a file: [items] file, id, features"
        )
    count = len(ids) if known is None else known
    features = _with_zeros(np.eye(count, dtype=np.float32), len(ids) - count)
    return Items(ids, tuple(f"{name}={one}" for one in ids[:count]), features)


def _with_zeros(features: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    return np.concatenate([features, np.zeros((rows, features.shape[1]), np.float32)])


def _sorted_ids(ids: set[str]) -> tuple[str, ...]:
    """Ids sorted as numbers if all are whole numbers, otherwise as texts."""
    found = sorted(ids)
    whole = all(re.fullmatch(r"-?\d{1,18}", one) for one in found)
    return tuple(sorted(found, key=int)) if whole else tuple(found)


def _check_written(ids: set[str], recipe: LoggedRecipe) -> None:
    """Refuse an id that is written in two ways, as by pandas where one of the files has gaps."""
    pointed = (one for one in sorted(ids) if re.fullmatch(r"-?\d+\.0", one) and one[:-2] in ids)
    wrong = next(pointed, None)
    if wrong is None:
        return
    log = reader_of(recipe)
    passes: list[tuple[Reader, Iterator[pa.Table]]] = [(log, log.outline())]
    if recipe.items is not None:
        name = recipe.items.id or recipe.columns.item
        catalogue = TableReader(recipe.items_file, TableColumns(item=name))
        passes.insert(0, (catalogue, catalogue.described()))
    expected = f"{wrong[:-2]}, as elsewhere (from pandas by the type Int64)"
    for reader, tables in passes:
        for table in tables:
            for key in (key for key in LISTS if key in table.column_names):
                lists = table[key].combine_chunks()
                place = pc.index(lists.flatten(), wrong).as_py()
                if place >= 0:
                    row = table["row"][pc.list_parent_indices(lists)[place].as_py()].as_py()
                    raise reader.places.error(row, reader.names()[key], expected, wrong)


def _read_file(recipe: LoggedRecipe) -> tuple[tuple[str, ...], list[Column], dict[str, pa.Array]]:
    """Ids, columns of features, and the values of the columns."""
    assert recipe.items is not None
    file = recipe.items
    path = recipe.items_path
    id_column = file.id or recipe.columns.item
    features, categories = (
        tuple(name for name in names if name != id_column)
        for names in (file.features, file.categories)
    )
    named = TableColumns(user=features, item=id_column, categories=categories)
    reader = TableReader(recipe.items_file, named)
    surveys = {
        name: ColumnSurvey(name, lambda *what: reader.places.refuse(*what), code=name in categories)
        for name in features
    }
    tables = []
    for table in reader.described():
        rows = table["row"].to_numpy()
        for name, survey in surveys.items():
            survey.add(table[USER + name].combine_chunks(), rows, typed=path.endswith(".parquet"))
        lists = table["item"].combine_chunks()
        several = pc.list_value_length(lists).to_numpy(zero_copy_only=False) != 1
        reader.places.refuse(several, rows, named.item, "one id", lists)
        tables.append(table)
    if not tables:
        raise InputError(f"{path}: expected items, got none")
    columns = [survey.column() for survey in surveys.values()]
    whole = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    ids = whole["item"].combine_chunks().flatten()
    twice = np.ones(len(ids), np.bool_)
    twice[np.unique(np.array(ids.to_pylist(), object), return_index=True)[1]] = False
    reader.places.refuse(twice, whole["row"].to_numpy(), named.item, "each id once", ids)
    values = {name: whole[USER + name].combine_chunks() for name in features}
    return tuple(ids.to_pylist()), columns, values
