"""Statistics that can be kept in files."""

from __future__ import annotations

import dataclasses
import io
from typing import Any, Self

import numpy as np


class Storable:
    """A dataclass of arrays and numbers that can be kept as bytes.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Clicks(Storable):
        ...     rows: int
        >>> Clicks.from_bytes(Clicks(3).to_bytes())
        Clicks(rows=3)
    """

    def to_bytes(self) -> bytes:
        """All fields as an `.npz` that loads without pickle."""
        sink, fields = io.BytesIO(), dataclasses.fields(self)  # type: ignore[arg-type]
        np.savez(sink, **{one.name: getattr(self, one.name) for one in fields})
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`."""
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            fields: dict[str, Any] = dict(stored.items())
        return cls(**{name: one if one.ndim else one.item() for name, one in fields.items()})
