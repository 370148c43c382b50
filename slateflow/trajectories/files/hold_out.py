"""The rule that decides which episodes of a dataset are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.trajectories.hashes import mixed
from slateflow.trajectories.schema import Trajectories

HELD_OUT = 5
"""One in this many episodes is held out."""


@dataclass(frozen=True)
class HoldOut:
    """Every fifth episode by its place, one in five by a hash, or the last episodes.

    Places count from 0, and 4, 9, 14 … are held out, so every policy gives its share. The hash is
    for own logs, in which every fifth row may be of one kind, and for several nights, in which
    places change from night to night. It is the hash of the episode's number, or of the visitor,
    whose episodes are then held out together. The last episodes are those from a certain number on
    where numbers are in the order of time, otherwise those in some ranges of numbers.
    """

    by: str = "place"  # or "hash", "visitor" or "last"
    # For "last": episode numbers at which the held-out ranges begin, end, begin again …
    edges: tuple[int, ...] = ()

    def mask(self, rows: Trajectories, earlier: int = 0) -> NDArray[np.bool_]:
        """(R,) True where a row belongs to an episode that is held out.

        Args:
            rows: All rows of a dataset, or those of a part.
            earlier: Number of episodes in the parts before.
        """
        if self.by == "last":
            passed = np.searchsorted(self.edges, rows.episode, side="right")
            return np.asarray(passed % 2 == 1)
        if self.by == "place":
            return np.asarray((earlier + rows.sessions) % HELD_OUT == HELD_OUT - 1)
        hashed = rows.visitor if self.by == "visitor" else rows.episode
        if hashed is None:
            raise InputError(
                "held_out: expected logs that name their visitors, got some that do not; generate "
                "them again"
            )
        return np.asarray(mixed(hashed) % HELD_OUT == HELD_OUT - 1)

    def within(self, first: int, episodes: int, earlier: int) -> str:
        """The rule as it applies to some episodes; while it is unchanged, so are those held out.

        Args:
            first: Number of the first of these episodes.
            episodes: How many there are, with consecutive numbers.
            earlier: Number of episodes in the parts before.
        """
        if self.by != "last":
            return f"place {earlier % HELD_OUT}" if self.by == "place" else self.by
        inside = [edge - first for edge in self.edges if first < edge < first + episodes]
        held = sum(edge <= first for edge in self.edges) % 2
        return " ".join(map(str, ["all" if held else "none", *inside]))

    def to_dict(self) -> dict[str, Any]:
        """The rule, as the manifest stores it."""
        if self.by == "last":
            edges = list(self.edges)
            return {"from_episode": edges[0]} if len(edges) == 1 else {"episodes": edges}
        return {"every": HELD_OUT, **({} if self.by == "place" else {"by": self.by})}

    @classmethod
    def from_dict(cls, document: Any) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ValueError: The document is not a rule.
        """
        options = [cls(), cls("hash"), cls("visitor")]
        if isinstance(document, dict) and {"from_episode", "episodes"} & set(document):
            edges = document.get("episodes", [document.get("from_episode")])
            if all(isinstance(edge, int) for edge in edges) and edges == sorted(edges):
                options.append(cls("last", tuple(edges)))
        for rule in options:
            if rule.to_dict() == document:
                return rule
        raise ValueError(f"held_out {document}, not 1 in {HELD_OUT}")

    @classmethod
    def latest(cls, days: Sequence[tuple[int, NDArray[Any]]]) -> Self:
        """Hold out the fifth of the episodes that begin last.

        Args:
            days: Number of the first episode of each day, and the sorted times (E,) at which its
                episodes begin. Among episodes that begin at one time, those of earlier days come
                first.
        """
        counts = [len(begins) for _, begins in days]
        every = np.concatenate([begins for _, begins in days])
        held = np.argsort(every, kind="stable")[len(every) - len(every) // HELD_OUT :]
        day = np.searchsorted(np.cumsum(counts), held, side="right")
        taken = np.bincount(day, minlength=len(days)).tolist()
        edges: list[int] = []
        ends = [first + count for (first, _), count in zip(days, counts, strict=True)]
        for end, count in sorted(zip(ends, taken, strict=True)):
            if not count:
                continue
            if edges and edges[-1] == end - count:
                edges[-1] = end
            else:
                edges += [end - count, end]
        last = max(ends)
        return cls("last", tuple(edges[:-1] if edges and edges[-1] == last else edges or [last]))


BY_PLACE = HoldOut()
"""The rule of simulated logs of one night."""
