"""Sums of finished days in files, so that a training reads only new days."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from slateflow.trajectories import Dataset, Folder, PartFile
from slateflow.user_models.bilinear import places_seen
from slateflow.user_models.storable import Storable

S = TypeVar("S", bound=Storable)

SUMS = "sums-of-days"
"""Folder beside the checkpoints that keeps the sums of days for the next training."""

_UNREADABLE = (EOFError, OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile)


@dataclass(frozen=True)
class KeptDays(Generic[S]):
    """The sums of days in a folder, each in a file named by a digest of all that determines them.

    A file's modification time is that of its last use.
    """

    kind: type[S]
    folder: Path
    context: str  # digest of kind, sizes, catalogue, code and settings

    @classmethod
    def of(
        cls, kind: type[S], dataset: Dataset, checkpoints: Path, code: str, *settings: Any
    ) -> KeptDays[S]:
        """The sums that belong to a dataset.

        Args:
            kind: Class of the sums.
            dataset: The dataset with the days.
            checkpoints: Folder of checkpoints, in which the sums are kept.
            code: Digest of the code that makes the sums.
            settings: Everything else that determines them, ready for JSON.
        """
        spec = dataset.spec
        sizes = [spec.user_size, spec.document_size, places_seen(spec)]
        items = None if dataset.catalogue is None else dataset.catalogue.digest
        document = json.dumps([kind.__name__, sizes, items, code, np.__version__, *settings])
        return cls(kind, checkpoints / SUMS, hashlib.sha256(document.encode()).hexdigest())

    def has(self, parts: Sequence[PartFile]) -> bool:
        """True if the sums of the parts of a day are kept."""
        return (self.folder / self._name(parts)).exists()

    def load(self, parts: Sequence[PartFile]) -> S | None:
        """Sums of the parts of a day; None if they are damaged."""
        path = self.folder / self._name(parts)
        try:
            sums = self.kind.from_bytes(path.read_bytes())
            os.utime(path)
        except _UNREADABLE:
            return None
        return sums

    def save(self, parts: Sequence[PartFile], sums: S) -> None:
        """Keep the sums of the parts of a day."""
        Folder(str(self.folder)).write(self._name(parts), sums.to_bytes())

    def _name(self, parts: Sequence[PartFile]) -> str:
        digest = hashlib.sha256("\n".join([self.context, *(p.sha256 for p in parts)]).encode())
        return f"{digest.hexdigest()[:32]}.npz"
