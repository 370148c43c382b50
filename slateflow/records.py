"""Lists of worlds and learners, whose entries are imported on demand."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from slateflow.errors import unknown

T = TypeVar("T")


def resolve(reference: T | str) -> T:
    """The object behind "package.module:name"; anything but a string is returned unchanged."""
    return cast(T, pkgutil.resolve_name(reference)) if isinstance(reference, str) else reference


class Records(Mapping[str, T], Generic[T]):
    """A mapping from names to objects, or to references such as "package.module:name".

    Other packages add entries with `register`, or with an entry point of the group in their
    metadata, which every process finds by itself.

    Args:
        kind: Name of an entry, for error messages.
        group: Group of the entry points.
        lines: The entries of this package, in the order in which they are listed.

    Example:
        >>> numbers: Records[int] = Records("number", "example.numbers", {"pi": "math:pi"})
        >>> numbers.register("two", 2)
        >>> list(numbers), round(numbers["pi"], 2)
        (['pi', 'two'], 3.14)
    """

    def __init__(self, kind: str, group: str, lines: Mapping[str, str | T]) -> None:
        self.kind, self.group = kind, group
        self._entries: dict[str, str | T] = dict(lines)
        self._complete = False

    def register(self, name: str, entry: str | T) -> None:
        """Add an entry, or replace it."""
        self._entries[name] = entry

    def __getitem__(self, name: str) -> T:
        """The entry of that name.

        Raises:
            InputError: There is none; the message lists those that there are.
        """
        if name not in self:
            raise unknown(self.kind, name, list(self))
        return resolve(self._entries[name])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._entries or name in self._all())

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, str | T]:
        """The entries, those of other packages' metadata included."""
        if not self._complete:
            for point in entry_points(group=self.group):
                self._entries.setdefault(point.name, point.value)
            self._complete = True
        return self._entries
