"""Statistics that add up, over parts, workers, folds and days."""

from __future__ import annotations

import dataclasses
from typing import Any, Self


class Additive:
    """A dataclass whose sum is that of its fields.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Clicks(Additive):
        ...     shown: int
        ...     clicked: int
        >>> Clicks(3, 1) + Clicks(4, 0)
        Clicks(shown=7, clicked=1)
    """

    def __add__(self, other: Self) -> Self:
        fields: Any = dataclasses.fields(self)  # type: ignore[arg-type]
        return type(self)(*(getattr(self, f.name) + getattr(other, f.name) for f in fields))
