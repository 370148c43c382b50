"""From the files of a source to a published dataset: two passes over those that are new."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from slateflow.environments.logged import LoggedSpec
from slateflow.errors import InputError
from slateflow.progress import Progress
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.contract import FITS_FLOAT32, check_rows
from slateflow.trajectories.encoding import Encoding, encode
from slateflow.trajectories.files.dataset import REMEDY, Dataset, of_recipe, remove_unpublished
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.hold_out import HoldOut
from slateflow.trajectories.files.part_files import PART_ROWS, PartFile, kept_part, write_part
from slateflow.trajectories.item_effects import ids_fit, items_differ
from slateflow.trajectories.schema import Trajectories, column_digest
from slateflow.trajectories.sources.csv_texts import SEPARATOR
from slateflow.trajectories.sources.days import Day
from slateflow.trajectories.sources.dsjson import TOLERANCE
from slateflow.trajectories.sources.earlier_days import KEYS_OF_DAYS, Earlier, EarlierDay, Form
from slateflow.trajectories.sources.items import Items, read_items
from slateflow.trajectories.sources.lines_passed_by import passed_by, told
from slateflow.trajectories.sources.order import PlannedRows, in_order
from slateflow.trajectories.sources.planning import (
    Group,
    PlannedDay,
    Surveyed,
    reader_of,
    with_paths,
)
from slateflow.trajectories.sources.recipe import NAME, LoggedRecipe
from slateflow.trajectories.sources.survey import Facts, Reader, Survey, text_hashes
from slateflow.trajectories.sources.table import USER

PART_NUMBERS = 20_000_000
"""Most numbers in the largest array of a part; a part with more is closed earlier."""

MOST_CANDIDATES = 10_000
"""Most candidates in a row."""


def publish_source(recipe: LoggedRecipe, data: Folder, progress: Progress) -> Dataset:
    """Read the logs of a recipe, check them, and publish them unless they already are.

    Days that an earlier dataset has are taken over from there. Items that earn more, or less, than
    their columns predict get their ids as features, too. The digest depends on the files and the
    recipe, not on the nights in which they were read.

    Args:
        recipe: With a source.
        data: Folder that holds the datasets.
        progress: Called with the number of finished parts and the number of all parts.

    Raises:
        InputError: A row does not fit; the message names file, row and column. Nothing of the
            dataset remains in that case.
    """
    folder = data / recipe.dataset_name
    content = json.dumps(recipe.to_dict(), sort_keys=True).encode()
    dataset = Dataset.make_once(folder, content, lambda: _make(recipe, data, folder, progress))
    return of_recipe(dataset, recipe.to_dict(), None)


def _make(recipe: LoggedRecipe, data: Folder, folder: Folder, progress: Progress) -> Dataset:
    # Existing parts mean that a run was interrupted, or a part is damaged, perhaps one that an
    # earlier dataset shares
    plan = PlannedDataset.of(recipe, Earlier(recipe, data), whole=bool(folder.files()))
    total = sum(len(day.paths) for day in plan.days)
    made: list[PartFile] = []
    try:
        with recipe.files.unchanged():
            for part in plan.made(folder):
                made.append(part)
                progress(len(made), total)
        recipe.check_items()
    except InputError:
        remove_unpublished(folder, (path for day in plan.days for path in day.paths))
        raise
    made.sort(key=lambda part: (part.policy, part.path))
    made = [dataclasses.replace(part, seed_block=place) for place, part in enumerate(made)]
    for day in plan.days:
        if day.earlier is not None:
            folder.take(day.entry.facts, day.earlier.dataset.folder, day.entry.facts)
        else:
            folder.write(day.entry.facts, day.day.to_bytes(day.begins))
    rule = HoldOut("visitor" if plan.spec.visitors else "hash")
    if recipe.held_out == "last":
        begins = [(day.entry.first, day.begins) for day in plan.days if day.begins is not None]
        rule = HoldOut.latest(begins)
    form = plan.form
    dataset = Dataset(
        folder,
        plan.spec,
        recipe.to_dict(),
        tuple(made),
        form.catalogue,
        form.encoding,
        rule,
        tuple(day.entry for day in plan.days),
    )
    if plan.items.own_id and ids_fit(dataset) and items_differ(dataset):
        items = plan.items.with_ids()
        spec = dataclasses.replace(plan.spec, item_features=items.names)
        dataset = dataclasses.replace(dataset, spec=spec, catalogue=Catalogue(items.features))
    return dataset.publish()


@dataclass(frozen=True)
class PlannedDataset:
    """The result of the first pass, from which parts are written."""

    recipe: LoggedRecipe
    spec: LoggedSpec
    form: Form
    items: Items
    names: dict[str, str]  # the files' names of the standard columns
    days: list[PlannedDay]
    groups: list[Group]

    @classmethod
    def of(cls, recipe: LoggedRecipe, earlier: Earlier, *, whole: bool) -> PlannedDataset:
        """Pass over the keys of all rows that are missing from earlier datasets.

        Args:
            recipe: A recipe with a source.
            earlier: Its earlier datasets.
            whole: Whether to read taken parts completely, to find damaged ones.

        Raises:
            InputError: A row does not fit, or something exceeds its limit.
        """
        surveyed = Surveyed(recipe)
        facts = _facts(recipe, surveyed.days(earlier))
        items, names = read_items(recipe, set(facts.ids)), reader_of(recipe).names()
        form = _form(recipe, facts, items, names)
        size = part_size(max(form.spec.num_candidates, form.spec.user_size))
        planned, groups = surveyed.planned(earlier, form, size, whole=whole)
        _check_sizes(facts, form.spec.num_candidates, names)
        days = with_paths(planned)
        longest = max(day.entry.most_steps for day in days)
        spec = dataclasses.replace(form.spec, most_steps=longest)
        form = dataclasses.replace(form, spec=spec)
        return cls(recipe, spec, form, items, names, days, groups)

    def made(self, folder: Folder) -> Iterator[PartFile]:
        """Write the parts, those of taken-over days first.

        Raises:
            InputError: A row does not fit, or the folder cannot be written to.
        """
        for day in self.days:
            if day.earlier is not None:
                yield from self._taken(folder, day, day.earlier)
        for group in self.groups:
            yield from self._read(folder, group)

    def _taken(self, folder: Folder, day: PlannedDay, earlier: EarlierDay) -> Iterator[PartFile]:
        theirs = Form.of(earlier.dataset, offers_all=self.form.offers_all)
        shift = day.entry.first - earlier.entry.first
        same = not shift and self.form.same(theirs, day.day.facts.ids)
        for place, (part, path) in enumerate(zip(earlier.parts, day.paths, strict=True)):
            if same:
                folder.take(path, earlier.dataset.folder, part.path)
                yield dataclasses.replace(part, path=path)
            else:
                rows = self.form.brought(earlier.read(part, theirs), theirs, shift)
                digest = write_part(folder, path, rows, self.spec, self._key(day, place))
                yield dataclasses.replace(part, path=path, sha256=digest)

    def _read(self, folder: Folder, group: Group) -> Iterator[PartFile]:
        reader = reader_of(self.recipe, [self.days[file].day.file for file in group.files])
        count = sum(self.days[file].day.facts.rows for file in group.files)
        found: list[tuple[PlannedDay, int, PlannedRows]] = []
        sources: list[NDArray[np.int64]] = []
        for day in (self.days[number] for number in group.days):
            assert day.order is not None
            first = sum(map(len, sources))
            sources.append(day.order.source)
            for place, part in enumerate(day.parts):
                moved = dataclasses.replace(part, start=first + part.start, stop=first + part.stop)
                found.append((day, place, moved))
        if not found:
            return
        tables = in_order(
            self._plain(reader), np.concatenate(sources), [part for *_, part in found], count
        )
        for (day, place, _), (_, table) in zip(found, tables, strict=True):
            path, part, key = day.paths[place], day.parts[place], self._key(day, place)
            kept = kept_part(folder, path, self.spec, key, REMEDY, self.form.catalogue)
            if kept is not None:
                rows, digest = kept, column_digest(kept)
            else:
                rows = self.rows(day, place, table, reader)
                digest = write_part(folder, path, rows, self.spec, key)
            count = len(rows.starts)
            yield PartFile(path, part.policy, 0, count, len(rows), digest, day.entry.key)

    def _key(self, day: PlannedDay, place: int) -> dict[str, Any]:
        """Everything that determines a part, to recognise a part of an interrupted run."""
        recipe = {
            key: value for key, value in self.recipe.to_dict().items() if key not in KEYS_OF_DAYS
        }
        coded = json.dumps(self.form.encoding.to_dict(), sort_keys=True).encode()
        return {
            "day": day.entry.key,
            "first": day.entry.first,
            "size": day.entry.size,
            "place": place,
            "recipe": recipe,
            "encoding": hashlib.sha256(coded).hexdigest()[:16],
        }

    def _plain(self, reader: Reader) -> Iterator[pa.Table]:
        """Batches of decisions with the same columns and types for all files."""
        kinds = {
            "number": pa.float64(),
            "numbers": pa.list_(pa.float64()),
            "categories": pa.string(),
        }
        for batch in reader.decisions():
            for column in self.form.encoding.user:
                name = USER + column.name
                if name not in batch.column_names:
                    missing = pa.nulls(batch.num_rows, kinds[column.kind])
                    batch = batch.append_column(name, missing)
                place, values = batch.column_names.index(name), batch[name]
                if values.type != kinds[column.kind]:  # numbers of CSV are texts so far
                    batch = batch.set_column(place, name, values.cast(kinds[column.kind]))
            yield batch.select(sorted(batch.column_names))

    def rows(self, day: PlannedDay, place: int, table: pa.Table, reader: Reader) -> Trajectories:
        """Encode and check the rows of a part.

        Raises:
            InputError: A row does not fit.
        """
        part, order, encoding = day.parts[place], day.order, self.form.encoding
        assert order is not None
        chosen, count = slice(part.start, part.stop), table.num_rows
        check = Checks(table["row"].to_numpy(), self.names, reader)
        given = {one.name: table[USER + one.name] for one in encoding.user}
        user = encode(encoding.user, given, count)
        ends = np.cumsum([len(one.features) for one in encoding.user])[:-1]
        for one, features in zip(encoding.user, np.split(user, ends, axis=1), strict=False):
            wrong = ~np.isfinite(features).all(axis=1)
            check.refuse(wrong, USER + one.name, FITS_FLOAT32, given[one.name])
        candidates, slate = self._offers(table, check)
        reward = table["reward"].to_numpy()
        last = order.last(chosen)
        rows = Trajectories(
            episode=day.entry.first + order.episode[chosen],
            step=order.step[chosen],
            user=user,
            candidates=candidates,
            slate=slate,
            propensity=table["propensity"].to_numpy(),
            clicked=self._clicked(table, check),
            reward=np.asarray(reward, np.float32),
            responses={},
            terminated=last,
            truncated=np.zeros(count, np.bool_),
            visitor=text_hashes(table["visitor"]).view(np.int64) if self.spec.visitors else None,
            catalogue=self.form.catalogue,
        )
        if rows.visitor is not None:
            other = rows.visitor != rows.visitor[rows.starts][rows.sessions]
            check.refuse(other, "visitor", "the visitor of its session", table["visitor"])
        return check_rows(rows, self.spec, day.paths[place])

    def _offers(
        self, table: pa.Table, check: Checks
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Offered items (R, N), and positions (R, K) of the shown items among them."""
        count, size = table.num_rows, self.spec.slate_size
        if "candidates" not in table.column_names:
            shown = self._numbers(table, "item", check).reshape(count, size)
            everything = np.arange(self.spec.item_count, dtype=np.int32)
            candidates = np.broadcast_to(everything, (count, len(everything)))
            slate = shown.copy()
        else:
            lists = table["candidates"].combine_chunks()
            lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
            propensity = table["propensity"].to_numpy()
            uncertain = (lengths == 1) & (propensity < 1 - TOLERANCE)
            check.refuse(uncertain, "propensity", "1, as the row offers one item", propensity)
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
        """Item numbers of all ids in a column of lists, flattened."""
        lists = table[key].combine_chunks()
        flat = lists.flatten()
        numbers = self.form.encoding.item_numbers(flat)
        unknown = np.flatnonzero(numbers < 0)
        if len(unknown):
            lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
            row = int(np.searchsorted(np.cumsum(lengths), unknown[0], side="right"))
            wrong = np.arange(len(lists)) == row
            missing = flat[int(unknown[0])].as_py()
            values = np.full(len(lists), repr(missing), object)
            expected = f"an id from the catalogue of {len(self.form.encoding.items):,}"
            if SEPARATOR in missing and self.recipe.format == "table":  # CSV would be split by it
                expected += ", several of them as a list"
            zeros = 'in the recipe unknown_items = "zeros"'
            check.refuse(wrong, key, f"{expected}, or {zeros}", values)
        return numbers

    def _clicked(self, table: pa.Table, check: Checks) -> NDArray[np.int32]:
        size = self.spec.slate_size
        clicked = table["clicked"].to_numpy() if "clicked" in self.names else np.zeros(0)
        if size == 1:
            expected = "0 or nothing, as a row has one item; slates are lists, in CSV a|b|c"
            check.refuse(clicked > 0, "clicked", expected, clicked)
            return np.zeros(table.num_rows, np.int32)
        wrong = (clicked < -1) | (clicked >= size)
        expected = f"a place from 0 to {size - 1}, or nothing"
        check.refuse(wrong, "clicked", expected, clicked)
        return np.asarray(clicked, np.int32)


def _facts(recipe: LoggedRecipe, days: list[Day]) -> Facts:
    """Facts of all days together.

    Raises:
        InputError: There are no decisions.
    """
    facts = Facts.joined([day.facts for day in days])
    if facts is not None and not facts.rows and (passed := passed_by(days)):
        where = f"{recipe.source}: expected decisions that can be used, got none"
        raise InputError(f"{where}: {told(passed, 0)}; log more of them")
    if facts is None or not facts.rows:  # rows that do not go together are named, or none are
        return Survey.of(reader_of(recipe), whole=True).facts
    return facts


def _form(recipe: LoggedRecipe, facts: Facts, items: Items, names: dict[str, str]) -> Form:
    """The form of the dataset, but for the steps of its longest session.

    Args:
        recipe: With a source.
        facts: Of all days.
        items: Of the catalogue.
        names: The files' names of the standard columns.
    """
    columns = tuple(column.column() for column in facts.columns)
    encoding = Encoding(columns, items.ids, recipe.unknown_items, items.described_by)
    spec = LoggedSpec(
        name=recipe.name,
        num_candidates=facts.most or len(items.ids),
        slate_size=facts.shown,
        fewest_candidates=facts.fewest or len(items.ids),
        user_features=encoding.user_names,
        item_features=items.names,
        item_count=len(items.ids),
        visitors="visitor" in names,
    )
    return Form(spec, encoding, Catalogue(items.features), offers_all="candidates" not in names)


def part_size(widest: int) -> int:
    """Rows at which parts are closed, given the size of a row's widest column.

    The result changes only at powers of 2, so that days keep their parts when a category or an item
    is added.
    """
    return min(PART_ROWS, max(1, PART_NUMBERS >> (widest - 1).bit_length()))


def _check_sizes(facts: Facts, most: int, names: dict[str, str]) -> None:
    """Refuse too many candidates, slates without clicks, and names that no folder can have."""
    if most > MOST_CANDIDATES:
        raise InputError(
            f"candidates: expected at most {MOST_CANDIDATES:,} in a row, got {most:,}; log those "
            "that the recommender chose from, and name their column in [columns] candidates"
        )
    if facts.shown > 1 and "clicked" not in names:
        raise InputError(
            f"clicked: expected the clicked place of slates of {facts.shown}, got no column; name "
            "it in [columns] clicked"
        )
    for policy in facts.policies:
        if not NAME.fullmatch(policy):
            raise InputError(
                f"{names['policy']}: expected names of letters, digits, '.', '_' and '-', "
                f"got {policy!r}; rename the policy, because its rows get a folder of that name"
            )


@dataclass(frozen=True)
class Checks:
    """The rows of a part, and the names by which an error refers to them."""

    numbers: NDArray[np.int64]  # (R,) row numbers among all rows of the source
    names: dict[str, str]
    reader: Reader

    def refuse(self, wrong: Any, key: str, expected: str, values: Any) -> None:
        """Raise for the first row that is wrong (R,)."""
        name = self.names.get(key, key.removeprefix(USER))
        self.reader.places.refuse(wrong, self.numbers, name, expected, values)
