"""A sample of a dataset's rows, by which logs are recognised under another name."""

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
    """

    sample: RowSample
    timed: bool

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """The rows that a dataset of own logs was read from."""
        with suppress(InputError, *UNREADABLE):
            read = [dataset.folder.read(name) for name in {day.facts for day in dataset.days}]
            facts = [Day.from_bytes(one)[0].facts for one in read]
            sample = RowSample.joined([one.sample for one in facts])
            return cls(sample, all(one.times for one in facts))
        return cls(NO_SAMPLE, False)

    def among(self, others: LoggedRows) -> bool:
        """Whether some of these rows are among others; see `OVERLAPPING` for how many."""
        return any(overlapping([self.sample, others.sample], self.timed and others.timed))

    def to_dict(self) -> dict[str, Any]:
        """The sample, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        sample = {name: tuple(some) for name, some in document["sample"].items()}
        return cls(RowSample(**sample), document["timed"])
