"""From the files of a source to a published dataset: two passes, part by part."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from slateflow.environments.logged import LoggedSpec
from slateflow.errors import InputError
from slateflow.trajectories.catalogue import CATALOGUE, Catalogue
from slateflow.trajectories.contract import check_rows
from slateflow.trajectories.encoding import Encoding, encode
from slateflow.trajectories.files.dataset import REMEDY, Dataset
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.hold_out import HELD_OUT, HoldOut
from slateflow.trajectories.files.part_files import PartFile, kept_part, write_part
from slateflow.trajectories.schema import Trajectories, column_digest
from slateflow.trajectories.sources.dsjson import DsjsonReader
from slateflow.trajectories.sources.items import read_items
from slateflow.trajectories.sources.order import Order, PlannedRows, in_order
from slateflow.trajectories.sources.recipe import NAME, LoggedRecipe
from slateflow.trajectories.sources.survey import Reader, Survey
from slateflow.trajectories.sources.table import USER, TableReader

PART_ROWS = 60_000
"""Rows at which a part is closed; it ends with a session."""

PART_NUMBERS = 20_000_000
"""Numbers of the largest array of a part, at which it is closed before."""

MOST_CANDIDATES = 10_000
"""In a row."""

Progress = Callable[[int, int], None]


def publish_source(recipe: LoggedRecipe, data: Folder, progress: Progress) -> Dataset:
    """Read the logs of a recipe, check them, and publish them unless that was done before.

    The digest depends on the rows and their order, not on how files cut them.

    Args:
        recipe: With a source.
        data: Folder that holds the datasets.
        progress: Called with the number of finished parts and that of all parts.

    Raises:
        InputError: A row does not fit; the message names file, row and column. Nothing of the
            dataset is left then.
    """
    folder = data / recipe.dataset_name
    content = json.dumps(recipe.to_dict(), sort_keys=True).encode()
    dataset = Dataset.make_once(folder, content, lambda: _make(recipe, folder, progress))
    if dataset.recipe != recipe.to_dict():
        given = dataset.recipe
        changed = [key for key, value in recipe.to_dict().items() if given.get(key) != value]
        raise InputError(
            f"{dataset.path}: expected the dataset of this recipe, found one with other "
            f"{', '.join(changed)}; a published dataset never changes, so rename the recipe or "
            "delete the dataset"
        )
    return dataset.check()


def _make(recipe: LoggedRecipe, folder: Folder, progress: Progress) -> Dataset:
    reader: Reader = TableReader(recipe.files, recipe.columns)
    if recipe.format == "dsjson":
        reader = DsjsonReader(recipe.files, recipe.held_out == "last")
    logs = Logs.of(recipe, reader)
    made: list[PartFile] = []
    for part, rows, key, kept in _encoded(recipe, reader, logs, folder):
        digest = (
            column_digest(rows) if kept else write_part(folder, part.path, rows, logs.spec, key)
        )
        episodes = len(rows.starts)
        made.append(PartFile(part.path, part.policy, len(made), episodes, len(rows), digest))
        progress(len(made), len(logs.parts))
    sessions = sum(part.episodes for part in made)
    last = sessions - sessions // HELD_OUT
    rule = HoldOut("last", last) if recipe.held_out == "last" else HoldOut("hash")
    return Dataset(
        folder, logs.spec, recipe.to_dict(), tuple(made), logs.catalogue, logs.encoding, rule
    ).publish()


def _encoded(
    recipe: LoggedRecipe, reader: Reader, logs: Logs, folder: Folder
) -> Iterator[tuple[PlannedRows, Trajectories, dict[str, Any], bool]]:
    """Each part with its rows, its key, and whether an interrupted run has left it.

    What was written is removed when a row does not fit.
    """
    try:
        for part, table in in_order(_plain(reader, logs), logs.order, logs.parts):
            key = {**dataclasses.asdict(part), "recipe": recipe.to_dict()}
            rows = kept_part(folder, part.path, logs.spec, key, REMEDY, logs.catalogue)
            kept = rows is not None
            yield part, logs.rows(part, table, reader) if rows is None else rows, key, kept
    except InputError:
        folder.remove([CATALOGUE, *(one.path for one in logs.parts)])
        raise


def _plain(reader: Reader, logs: Logs) -> Iterator[pa.Table]:
    """Batches of decisions with the same columns and types, whatever the files have."""
    kinds = {"number": pa.float64(), "numbers": pa.list_(pa.float64()), "categories": pa.string()}
    for batch in reader.decisions():
        for column in logs.encoding.user:
            name = USER + column.name
            if name not in batch.column_names:
                missing = pa.nulls(batch.num_rows, kinds[column.kind])
                batch = batch.append_column(name, missing)
            place, values = batch.column_names.index(name), batch[name]
            if values.type != kinds[column.kind]:  # numbers of CSV are texts so far
                trimmed = pc.utf8_trim_whitespace(values).cast(kinds[column.kind])
                batch = batch.set_column(place, name, trimmed)
        yield batch.select(sorted(batch.column_names))


@dataclass(frozen=True)
class Logs:
    """Findings of the first pass, and how rows are made by them."""

    spec: LoggedSpec
    encoding: Encoding
    catalogue: Catalogue
    order: Order
    parts: list[PlannedRows]
    names: dict[str, str]  # the files' names of the standard columns

    @classmethod
    def of(cls, recipe: LoggedRecipe, reader: Reader) -> Logs:
        """Pass over the keys of all rows.

        Raises:
            InputError: A row does not fit, or there is too much of something.
        """
        survey, names = Survey.of(reader), reader.names()
        ids, item_names, features = read_items(recipe, survey.ids)
        order = Order.of(survey, recipe.held_out == "last", reader.places, names)
        most, fewest = survey.most or len(ids), survey.fewest or len(ids)
        _check_sizes(survey, most, names)
        encoding = Encoding(survey.user, ids, recipe.unknown_items)
        spec = LoggedSpec(
            name=recipe.name,
            num_candidates=most,
            slate_size=survey.shown,
            fewest_candidates=fewest,
            user_features=encoding.user_names,
            item_features=item_names,
            item_count=len(ids),
            most_steps=order.longest,
        )
        size = min(PART_ROWS, max(1, PART_NUMBERS // max(most, spec.user_size)))
        return cls(spec, encoding, Catalogue(features), order, order.parts(size), names)

    def rows(self, part: PlannedRows, table: pa.Table, reader: Reader) -> Trajectories:
        """Encode and check the rows of a part.

        Raises:
            InputError: A row does not fit.
        """
        chosen, count = slice(part.start, part.stop), table.num_rows
        check = Checks(table["row"].to_numpy(), self.names, reader)
        user = encode(
            self.encoding.user,
            {one.name: table[USER + one.name] for one in self.encoding.user},
            count,
        )
        check.refuse(~np.isfinite(user).all(axis=1), "user", "finite numbers", user)
        candidates, slate = self._offers(table, check)
        reward = table["reward"].to_numpy()
        ends = self.order.last(chosen)
        rows = Trajectories(
            episode=self.order.episode[chosen],
            step=self.order.step[chosen],
            user=user,
            candidates=candidates,
            slate=slate,
            propensity=table["propensity"].to_numpy(),
            clicked=self._clicked(table, check),
            reward=np.asarray(reward, np.float32),
            responses={},
            terminated=ends,
            truncated=np.zeros(count, np.bool_),
            catalogue=self.catalogue,
        )
        return check_rows(rows, self.spec, part.path)

    def _offers(
        self, table: pa.Table, check: Checks
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Offered items (R, N), and the positions of the shown among them (R, K)."""
        count, size = table.num_rows, self.spec.slate_size
        if "candidates" not in table.column_names:
            shown = self._numbers(table, "item", check).reshape(count, size)
            everything = np.arange(self.spec.item_count, dtype=np.int32)
            candidates = np.broadcast_to(everything, (count, len(everything)))
            slate = shown.copy()
        else:
            lists = table["candidates"].combine_chunks()
            lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
            candidates = np.full((count, self.spec.num_candidates), -1, np.int32)
            offered = np.arange(self.spec.num_candidates) < lengths[:, None]
            candidates[offered] = self._numbers(table, "candidates", check)
            ordered = np.sort(candidates, axis=1)
            twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
            check.refuse(twice, "candidates", "each id once in a row", table["candidates"])
            shown = self._numbers(table, "item", check).reshape(count, size)
            slate = np.empty_like(shown)
            for place in range(size):
                same = candidates == shown[:, place, None]
                missing = ~same.any(axis=1)
                expected = "an item among the candidates of its row"
                check.refuse(missing, "item", expected, table["item"])
                slate[:, place] = same.argmax(axis=1)
        ordered = np.sort(slate, axis=1)
        twice = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
        check.refuse(twice, "item", "different items in a slate", table["item"])
        return candidates, slate

    def _numbers(self, table: pa.Table, key: str, check: Checks) -> NDArray[np.int32]:
        """Items of all ids of a column of lists, one after the other."""
        lists = table[key].combine_chunks()
        flat = lists.flatten()
        numbers = self.encoding.item_numbers(flat)
        unknown = np.flatnonzero(numbers < 0)
        if len(unknown):
            lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
            row = int(np.searchsorted(np.cumsum(lengths), unknown[0], side="right"))
            wrong = np.arange(len(lists)) == row
            values = np.full(len(lists), flat[int(unknown[0])].as_py(), object)
            expected = f"items of the catalogue, which has {len(self.encoding.items):,}"
            check.refuse(wrong, key, expected, values)
        return numbers

    def _clicked(self, table: pa.Table, check: Checks) -> NDArray[np.int32]:
        if not self.spec.user_chooses:
            return np.zeros(table.num_rows, np.int32)
        clicked = table["clicked"].to_numpy()
        size = self.spec.slate_size
        wrong = (clicked < -1) | (clicked >= size)
        expected = f"a place from 0 to {size - 1}, or nothing"
        check.refuse(wrong, "clicked", expected, clicked)
        return np.asarray(clicked, np.int32)


def _check_sizes(survey: Survey, most: int, names: dict[str, str]) -> None:
    """Refuse what there is too much of, and slates without clicks."""
    if most > MOST_CANDIDATES:
        raise InputError(
            f"candidates: expected at most {MOST_CANDIDATES:,} in a row, got {most:,}; log those "
            "that the recommender chose from, and name their column in [columns] candidates"
        )
    if survey.shown > 1 and "clicked" not in names:
        raise InputError(
            f"clicked: expected the clicked place of slates of {survey.shown}, got no column; name "
            "it in [columns] clicked"
        )
    for policy in survey.policies:
        if not NAME.fullmatch(policy):
            raise InputError(
                f"{names['policy']}: expected names of letters, digits, '.', '_' and '-', "
                f"got {policy!r}; rename the policy, because its rows get a folder of that name"
            )


@dataclass(frozen=True)
class Checks:
    """Rows of a part, and how an error names them."""

    numbers: NDArray[np.int64]  # (R,) among all rows of the source
    names: dict[str, str]
    reader: Reader

    def refuse(self, wrong: Any, key: str, expected: str, values: Any) -> None:
        """Raise for the first row that is wrong (R,)."""
        name = self.names.get(key, key)
        self.reader.places.refuse(wrong, self.numbers, name, expected, values)
