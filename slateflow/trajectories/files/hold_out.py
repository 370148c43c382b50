"""The rule by which a dataset knows which of its episodes are held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from slateflow.trajectories.schema import Trajectories

HELD_OUT = 5
"""One in so many episodes is held out."""


@dataclass(frozen=True)
class HoldOut:
    """Every fifth episode by its place, one in five by a hash of its number, or the last ones.

    Of the places, counted from 0, 4, 9, 14 … are held out, so every policy gives its share. The
    hash is for own logs, in which every fifth row may be of one kind. The last ones are those from
    an episode on, where numbers are in the order of time.
    """

    by: str = "place"  # or "hash" or "last"
    first: int = 0  # number of the first episode that is held out, by "last"

    def mask(self, rows: Trajectories, earlier: int = 0) -> NDArray[np.bool_]:
        """(R,) whether a row belongs to an episode that is held out.

        Args:
            rows: All rows of a dataset, or those of a part.
            earlier: Episodes in the parts before.
        """
        if self.by == "last":
            return np.asarray(rows.episode >= self.first)
        number = earlier + rows.sessions if self.by == "place" else _mixed(rows.episode)
        return np.asarray(number % HELD_OUT == HELD_OUT - 1)

    def to_dict(self) -> dict[str, Any]:
        """The rule, as the manifest has it."""
        if self.by == "last":
            return {"from_episode": self.first}
        return {"every": HELD_OUT, **({"by": "hash"} if self.by == "hash" else {})}

    @classmethod
    def from_dict(cls, document: Any) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ValueError: It is no such rule.
        """
        first = document.get("from_episode") if isinstance(document, dict) else None
        options = [cls(), cls("hash"), *([cls("last", first)] if isinstance(first, int) else [])]
        for rule in options:
            if rule.to_dict() == document:
                return rule
        raise ValueError(f"held_out {document}, not 1 in {HELD_OUT}")


BY_PLACE = HoldOut()
"""The rule of simulated logs."""


def _mixed(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hashes of whole numbers: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
