"""Hashes of a dataset's rows and files, by which logs are recognised under another name."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Self

from slateflow.errors import InputError
from slateflow.trajectories.files.dataset import Dataset
from slateflow.trajectories.sources.days import UNREADABLE, Day
from slateflow.trajectories.sources.row_sample import NO_SAMPLE, RowSample, overlapping


@dataclass(frozen=True)
class LoggedRows:
    """Rows as they stood in the files of a source.

    Attributes:
        sample: A sample of their hashes; empty where the facts of a day are unreadable.
        timed: Whether all of them have a time.
        files: A digest of each file's rows, sorted; none of a file with few different rows.
    """

    sample: RowSample = NO_SAMPLE
    timed: bool = False
    files: tuple[str, ...] = ()

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """The rows that a dataset of own logs was read from."""
        with suppress(InputError, *UNREADABLE):
            read = [dataset.folder.read(name) for name in {day.facts for day in dataset.days}]
            facts = [Day.from_bytes(one)[0].facts for one in read]
            sample = RowSample.joined([one.sample for one in facts])
            files = sorted({one.content for one in facts if one.content})
            return cls(sample, all(one.times for one in facts), tuple(files))
        return cls()

    def among(self, others: LoggedRows) -> bool:
        """Whether a whole file is among others, or as many rows as `OVERLAPPING` says."""
        if set(self.files).intersection(others.files):
            return True
        return any(overlapping([self.sample, others.sample], self.timed and others.timed))

    def to_dict(self) -> dict[str, Any]:
        """The sample, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        sample = {name: tuple(some) for name, some in document["sample"].items()}
        return cls(RowSample(**sample), document["timed"], tuple(document["files"]))
