"""The place of a row: the file and the row number by which an error names it."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError


class Places:
    """The files read so far, and the number of each file's first row among all rows.

    Args:
        unit: Word for a row in messages.
    """

    def __init__(self, unit: str = "row") -> None:
        self.unit = unit
        self.paths: list[str] = []
        self.firsts: list[int] = []

    def begin(self, path: str, first: int) -> None:
        """Record that a file begins at row `first` among all rows."""
        self.paths.append(path)
        self.firsts.append(first)

    def error(self, row: int, column: str, expected: str, got: Any) -> InputError:
        """An error for a row by its number among all; files count from 1, without the header."""
        file = bisect_right(self.firsts, row) - 1
        shown = str(got) if len(str(got)) <= 80 else f"{str(got)[:77]}..."
        return InputError(
            f"{self.paths[file]}: {self.unit} {row - self.firsts[file] + 1}: {column}: expected "
            f"{expected}, got {shown}; correct the log and try again"
        )

    def refuse(
        self, wrong: Any, rows: NDArray[np.int64], column: str, expected: str, values: Any
    ) -> None:
        """Raise for the first row that is wrong.

        Args:
            wrong: (R,) True for wrong rows.
            rows: (R,) numbers of the rows among all.
            column: Name of the column in the file.
            expected: Description of a valid value.
            values: (R,) values in the column, as a NumPy or Arrow array.
        """
        mask = np.asarray(wrong, np.bool_)
        if not mask.any():
            return
        first = int(np.flatnonzero(mask)[np.argmin(rows[mask])])
        value = values[first]
        value = value.as_py() if hasattr(value, "as_py") else value
        shown = value.tolist() if hasattr(value, "tolist") else value
        raise self.error(int(rows[first]), column, expected, "none" if shown is None else shown)
