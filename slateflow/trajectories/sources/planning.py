"""The plan of a dataset of own logs: days to take over, days to read, and the order of rows."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from slateflow.trajectories.files.dataset import DatasetDay
from slateflow.trajectories.files.part_files import part_path
from slateflow.trajectories.sources.days import (
    Day,
    Shared,
    day_keys,
    first_numbers,
    shared_sessions,
)
from slateflow.trajectories.sources.dsjson import DsjsonReader
from slateflow.trajectories.sources.earlier_days import Earlier, EarlierDay, Form
from slateflow.trajectories.sources.files import SourceFile, SourceFiles
from slateflow.trajectories.sources.order import Order, PlannedRows
from slateflow.trajectories.sources.places import Places
from slateflow.trajectories.sources.recipe import LoggedRecipe
from slateflow.trajectories.sources.sample_batches import SampleBatchReader
from slateflow.trajectories.sources.survey import Keys, Reader, Survey
from slateflow.trajectories.sources.table import TableReader

COPIED_ROWS = 100
"""Fewest rows with which two equal files are copies; fewer rows may be equal by chance."""


@dataclass(frozen=True, eq=False)
class PlannedDay:
    """A day of the dataset, and the origin of its parts."""

    day: Day
    entry: DatasetDay
    begins: NDArray[Any] | None  # (E,) time at which each session begins, if that decides
    policies: tuple[str, ...]  # of each part
    earlier: EarlierDay | None  # from which it is taken; None where its files are read
    order: Order | None  # of its rows, where files are read
    parts: tuple[PlannedRows, ...] = ()
    paths: tuple[str, ...] = ()  # of each part

    @classmethod
    def taken(cls, day: Day, earlier: EarlierDay, first: int) -> PlannedDay:
        """A day taken from an earlier dataset; its episodes are numbered from `first`."""
        entry = dataclasses.replace(earlier.entry, first=first)
        policies = tuple(part.policy for part in earlier.parts)
        return cls(day, entry, earlier.begins, policies, earlier, None)

    @classmethod
    def read(cls, day: Day, key: str, first: int, size: int, order: Order) -> PlannedDay:
        """A day whose files are read."""
        entry = DatasetDay(key, vars(day.file), first, size, order.longest)
        parts = tuple(order.parts(size))
        policies = tuple(part.policy for part in parts)
        return cls(day, entry, order.begins, policies, None, order, parts)


@dataclass(frozen=True)
class Group:
    """Days that are read together, because they share sessions."""

    files: tuple[int, ...]  # files with their rows, by the places of the days
    days: tuple[int, ...]  # days whose parts are made

    @classmethod
    def grouped(cls, days: Iterable[int], shared: Sequence[Shared]) -> list[Group]:
        """Groups of days that have a file in common, with all files that contain their rows."""
        groups: list[Group] = []
        for day in days:
            files, members = {day, *shared[day].coming}, [day]
            for one in [group for group in groups if files & {*group.files}]:
                groups.remove(one)
                files, members = files | {*one.files}, [*one.days, *members]
            groups.append(cls(tuple(sorted(files)), tuple(members)))
        return groups


class Surveyed:
    """The days of a recipe, and the keys of the rows in surveyed files."""

    def __init__(self, recipe: LoggedRecipe) -> None:
        self.recipe = recipe
        self._keys: dict[SourceFile, Keys] = {}
        self._days: list[Day] = []

    def days(self, earlier: Earlier) -> list[Day]:
        """All days, sorted by their first times, then by name.

        Reads the keys of days that are missing from earlier datasets.

        Raises:
            InputError: A row does not fit, a file has rows twice, or two are copies or overlap.
        """
        for file in self.recipe.files.files:
            self._days.append(earlier.facts(file) or self._survey(file))
        many = [day for day in self._days if day.facts.rows >= COPIED_ROWS]
        self.recipe.files.check_repeats({day.file: day.facts.copied for day in many})
        self.recipe.files.check_copies({day.file: day.facts.content for day in many})
        columns, timed = self.recipe.columns, all(day.facts.times for day in many)
        if timed or columns.episode:
            self.recipe.files.check_overlaps({day.file: day.facts.sample for day in many}, timed)
        self._days.sort(key=lambda day: day.facts.begin)
        return self._days

    def planned(
        self, earlier: Earlier, form: Form, size: int, *, whole: bool
    ) -> tuple[list[PlannedDay], list[Group]]:
        """Plan which days are taken from an earlier dataset and which are read.

        Args:
            earlier: Datasets of the recipe.
            form: Form of the new dataset.
            size: Number of rows at which parts are closed.
            whole: Whether to read taken parts completely, to find damaged ones.

        Returns:
            The days in order, and the groups of those that are read.

        Raises:
            InputError: A row does not fit.
        """
        days, shared = self._days, shared_sessions(self._days)
        keys, firsts = day_keys(days, shared), first_numbers(days)
        planned: dict[int, PlannedDay] = {}
        for number, (day, key, first) in enumerate(zip(days, keys, firsts, strict=True)):
            found = earlier.day(key, size)
            if found is not None and found.can_be_taken(form, day, first, whole=whole):
                planned[number] = PlannedDay.taken(day, found, first)
        missing = [number for number in range(len(days)) if number not in planned]
        groups = Group.grouped(missing, shared)
        for group in groups:
            for number, order in self._orders(group, shared):
                made = PlannedDay.read(days[number], keys[number], firsts[number], size, order)
                planned[number] = made
        return [planned[number] for number in range(len(days))], groups

    def _survey(self, file: SourceFile) -> Day:
        reader = reader_of(self.recipe, [file])
        survey = Survey.of(reader)
        self._keys[file] = survey.keys
        return Day.of(file, survey, dict(+Counter(reader.passed_by)))

    def _orders(self, group: Group, shared: Sequence[Shared]) -> Iterator[tuple[int, Order]]:
        """Each day of a group, and the order of its rows, numbered from those of the first file."""
        reader = reader_of(self.recipe)
        places, by_time = Places(reader.places.unit), self.recipe.held_out == "last"
        keys: dict[int, Keys] = {}
        count = 0
        for number in group.files:
            file = self._days[number].file
            if file not in self._keys:
                self._survey(file)
            found = self._keys.pop(file)
            places.begin(self.recipe.files.path(file), count)
            keys[number] = dataclasses.replace(found, rows=found.rows + count)
            count += len(found.rows)
        for day in group.days:
            of_day = [
                keys[file].where(shared[day].chosen(keys[file], own=file == day, file=file))
                for file in sorted({day, *shared[day].coming})
            ]
            yield day, Order.of(Keys.joined(of_day), places, reader.names(), by_time=by_time)


def reader_of(recipe: LoggedRecipe, files: Sequence[SourceFile] | None = None) -> Reader:
    """A reader of some of a recipe's files, or of all."""
    chosen = recipe.files if files is None else SourceFiles(recipe.files.folder, tuple(files))
    if recipe.format == "dsjson":
        return DsjsonReader(chosen, recipe.held_out == "last")
    kind = SampleBatchReader if recipe.format == "rllib" else TableReader
    return kind(chosen, recipe.columns)


def with_paths(days: list[PlannedDay]) -> list[PlannedDay]:
    """The days with the paths of their parts, numbered consecutively within a policy."""
    numbers: Counter[str] = Counter()
    named = []
    for day in days:
        paths = []
        for policy in day.policies:
            paths.append(part_path(policy, numbers[policy]))
            numbers[policy] += 1
        named.append(dataclasses.replace(day, paths=tuple(paths)))
    return named
