"""Days that an earlier dataset of a recipe has, so that they need not be read again.

A day whose parts would have the same bytes is taken over by hard link. Where only numbers in them
would differ, because items, categories or days were added or removed, its parts are rewritten from
those of the earlier dataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slateflow.environments.logged import LoggedSpec
from slateflow.errors import InputError
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.encoding import Encoding
from slateflow.trajectories.files.dataset import (
    Dataset,
    DatasetDay,
    differing_keys,
    newest_datasets,
)
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.part_files import PartFile, read_part
from slateflow.trajectories.schema import Trajectories, arrow_schema, column_digest
from slateflow.trajectories.sources.days import UNREADABLE, Day
from slateflow.trajectories.sources.files import SourceFile
from slateflow.trajectories.sources.recipe import LoggedRecipe

KEYS_OF_DAYS = ("files", "days")
"""Keys of a recipe that decide which days a dataset has, not their contents."""


@dataclass(frozen=True, eq=False)
class Form:
    """Everything except the rows themselves that determines the bytes of a day's parts."""

    spec: LoggedSpec
    encoding: Encoding
    catalogue: Catalogue
    offers_all: bool  # whether every row offers all items

    @classmethod
    def of(cls, dataset: Dataset, *, offers_all: bool) -> Form:
        """The form of a dataset's parts."""
        spec, encoding, catalogue = dataset.spec, dataset.encoding, dataset.catalogue
        if not isinstance(spec, LoggedSpec) or encoding is None or catalogue is None:
            raise InputError(f"{dataset.path}: expected a dataset of own logs, got another")
        return cls(spec, encoding, catalogue, offers_all)

    def same(self, other: Form, ids: frozenset[str]) -> bool:
        """True if rows with these ids have the same bytes in both forms."""
        if self.encoding.user != other.encoding.user or self.schema != other.schema:
            return False
        if self.offers_all and len(self.encoding.items) != len(other.encoding.items):
            return False
        known = pa.array(sorted(ids), pa.string())
        mine, theirs = self.encoding.item_numbers(known), other.encoding.item_numbers(known)
        return bool((mine == theirs).all())

    def takes(self, other: Form, ids: frozenset[str]) -> bool:
        """True if rows with these ids can be converted from the other form to this one."""
        kinds = {one.name: (one.kind, one.size) for one in other.encoding.user}
        same = all(
            kinds.get(one.name, (one.kind, one.size)) == (one.kind, one.size)
            for one in self.encoding.user
        )  # a column that only one form has is left out in these rows
        known = self.encoding.item_numbers(pa.array(sorted(ids), pa.string()))
        return same and bool((known >= 0).all())

    @property
    def schema(self) -> pa.Schema:
        """Columns of the parts."""
        return arrow_schema(self.spec)

    def brought(self, rows: Trajectories, other: Form, shift: int) -> Trajectories:
        """Convert rows of the other form to this one.

        Args:
            rows: Rows of a part.
            other: Their form, which this one `takes`.
            shift: Added to the episode numbers.
        """
        number = self.encoding.item_numbers(pa.array(other.encoding.items, pa.string()))
        count, size = len(rows), self.spec.num_candidates
        slate = rows.slate
        if self.offers_all:
            slate = number[np.take_along_axis(rows.candidates, slate, axis=1)]
            candidates = np.broadcast_to(np.arange(size, dtype=np.int32), (count, size))
        else:
            candidates = np.full((count, size), -1, np.int32)
            given = rows.candidates[:, :size]  # the rest is empty
            candidates[:, : given.shape[1]] = np.where(given < 0, -1, number[given])
        return replace(
            rows,
            episode=rows.episode + shift,
            user=self._user(rows.user, other),
            candidates=candidates,
            slate=slate,
            catalogue=self.catalogue,
        )

    def _user(self, features: NDArray[np.float32], other: Form) -> NDArray[np.float32]:
        """The user's features (R, U), matched by name; a new category is zeros."""
        place = {name: place for place, name in enumerate(_named(other.encoding))}
        found = np.array([place.get(name, -1) for name in _named(self.encoding)], np.intp)
        brought = np.zeros((len(features), len(found)), np.float32)
        brought[:, found >= 0] = features[:, found[found >= 0]]
        return brought


def _named(encoding: Encoding) -> Iterator[tuple[str, int | str]]:
    """Column and category, or place, of each feature: names alone may coincide."""
    for column in encoding.user:
        for number in range(len(column.features)):
            known = column.vocabulary
            yield column.name, known[number] if column.kind == "categories" else number


@dataclass(frozen=True, eq=False)
class EarlierDay:
    """A day of an earlier dataset, and its parts there."""

    dataset: Dataset
    entry: DatasetDay
    parts: tuple[PartFile, ...]  # by policy, then number
    begins: NDArray[Any] | None  # (E,) time at which each session begins, if ordered by time

    def can_be_taken(self, form: Form, day: Day, first: int, *, whole: bool) -> bool:
        """True if the day can be taken over in a form.

        Args:
            form: Form of the new dataset.
            day: Facts about the day.
            first: Number of its first episode there.
            whole: Whether to read all of the parts, even where they are linked.
        """
        theirs, ids = Form.of(self.dataset, offers_all=form.offers_all), day.facts.ids
        if first == self.entry.first and form.same(theirs, ids):
            return self.intact(form, whole=whole)
        return form.takes(theirs, ids) and self.intact(theirs, whole=True)

    def intact(self, form: Form, *, whole: bool) -> bool:
        """True if all parts exist; `whole` reads them, otherwise only their footers."""
        return all(self._intact(part, form, whole=whole) for part in self.parts)

    def _intact(self, part: PartFile, form: Form, *, whole: bool) -> bool:
        if not whole:
            return self.dataset.has(part, form.schema)
        try:
            return column_digest(self.read(part, form)) == part.sha256
        except InputError:
            return False

    def read(self, part: PartFile, form: Form) -> Trajectories:
        """The rows of a part, which has the schema of this form."""
        dataset = self.dataset
        return read_part(dataset.folder, part.path, form.spec, dataset.remedy, form.catalogue)


class Earlier:
    """The days of a recipe's newest datasets.

    Args:
        recipe: The recipe whose days are wanted.
        data: Folder of the datasets.
    """

    def __init__(self, recipe: LoggedRecipe, data: Folder) -> None:
        wanted = recipe.to_dict()

        def alike(dataset: Dataset) -> bool:
            changed = differing_keys(dataset.recipe, wanted)
            return {*changed} <= {*KEYS_OF_DAYS} and dataset.spec.name == recipe.name

        self.datasets = newest_datasets(data, f"{recipe.name}.", recipe.dataset_name, alike)
        self._days: dict[str, EarlierDay] = {}
        self._facts: dict[SourceFile, Day] = {}
        for dataset in self.datasets:
            for entry in dataset.days:
                if entry.key not in self._days:
                    self._add(dataset, entry)

    def _add(self, dataset: Dataset, entry: DatasetDay) -> None:
        try:
            day, begins = Day.from_bytes(dataset.folder.read(entry.facts))
        except UNREADABLE:  # it is read again
            return
        parts = tuple(part for part in dataset.parts if part.day == entry.key)
        self._days[entry.key] = EarlierDay(dataset, entry, parts, begins)
        self._facts.setdefault(day.file, day)

    def facts(self, file: SourceFile) -> Day | None:
        """Facts about a file; None where no earlier dataset has them."""
        return self._facts.get(file)

    def day(self, key: str, size: int) -> EarlierDay | None:
        """The day of a key; None unless its parts were closed at `size` rows."""
        found = self._days.get(key)
        return found if found is not None and found.entry.size == size else None
