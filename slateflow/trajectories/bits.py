"""Vectors of zeros and ones in a bit a number, as one-hot features are kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Bits:
    """Vectors (R, L) of zeros and ones.

    Example:
        >>> bits = Bits.of(np.array([[0, 1, 0], [1, 0, 0]], np.float32))
        >>> bits.packed
        array([10], dtype=uint8)
        >>> Bits.of(np.array([[0, 0.5]], np.float32)) is None
        True
    """

    packed: NDArray[np.uint8]  # all numbers one after the other, the lowest bit of a byte first
    rows: int  # R
    length: int  # L

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> Bits | None:
        """None if another number than 0 and 1 is among them; the zero of negative sign is one."""
        words = np.ascontiguousarray(values).view(np.uint32)
        if not (_binary(words[:1]) and _binary(words)):  # mostly the first row tells
            return None
        return cls(np.packbits(words != 0, bitorder="little"), *values.shape)

    def __len__(self) -> int:
        return self.rows

    def numbers(self) -> NDArray[np.float32]:
        """The vectors (R, L) as they were."""
        ones = np.unpackbits(self.packed, count=self.rows * self.length, bitorder="little")
        return ones.reshape(self.rows, self.length).astype(np.float32)

    def __getitem__(self, rows: slice) -> Bits:
        """Some of the rows, in the same memory, from a multiple of eight on."""
        first, end, _ = rows.indices(self.rows)
        end = max(first, end)
        packed = self.packed[first * self.length // 8 : -(-end * self.length // 8)]
        return Bits(packed, end - first, self.length)


_ONE = np.ones((), np.float32).view(np.uint32)


def _binary(words: NDArray[np.uint32]) -> bool:
    return bool(((words == 0) | (words == _ONE)).all())
