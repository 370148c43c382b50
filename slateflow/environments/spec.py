"""The parameters that every world has."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar

from pydantic import Field

from slateflow.errors import InputError
from slateflow.validation import validated

Steps = Annotated[int, Field(ge=1, le=10_000)]
"""Steps of an episode; limited, because 500 episodes are in memory at once."""


def _lists(value: Any) -> Any:
    return [_lists(item) for item in value] if isinstance(value, tuple) else value


@validated
class EnvironmentSpec(ABC):
    """Parameters of a world; each world's own spec adds fields to these."""

    world: ClassVar[str]
    response_columns: ClassVar[tuple[str, ...]]  # shown by the user's response, float32
    user_bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)  # of the observed user
    simulated: ClassVar[bool] = True  # whether it can be played; otherwise there are logs only
    user_chooses: ClassVar[bool] = True  # from the slate; otherwise the first place is clicked

    name: str  # preset from which the spec was made
    num_candidates: Annotated[int, Field(le=10_000)]  # candidates offered at each step (N)
    slate_size: Annotated[int, Field(ge=1)]  # candidates shown (K), distinct
    resample_documents: bool = True  # draw new candidates at every step, or keep those of the reset

    def __post_init__(self) -> None:
        if self.num_candidates < self.slate_size:
            raise InputError(
                f"num_candidates: expected at least slate_size ({self.slate_size}), "
                f"got {self.num_candidates}"
            )

    @property
    @abstractmethod
    def user_size(self) -> int:
        """U, the number of observed features of the user; 0 where nothing is observed."""

    @property
    @abstractmethod
    def document_size(self) -> int:
        """D, the number of features of a candidate."""

    @property
    @abstractmethod
    def horizon(self) -> int:
        """Most steps in an episode; a user who would stay longer is cut off there (truncated)."""

    @property
    def features_match(self) -> bool:
        """True if users are observed in the features of the candidates, in the same order."""
        return self.user_size == self.document_size > 1

    @property
    def offers_vary(self) -> bool:
        """True if steps differ in the number of candidates; N is then the largest number."""
        return False

    @property
    def visitors(self) -> bool:
        """True if logs show which sessions are of the same visitor."""
        return False

    @property
    def items(self) -> int:
        """Entries of the candidates' catalogue; 0 where candidates are fresh at each step."""
        return 0

    @property
    def candidate_bounds(self) -> tuple[float, float]:
        """Smallest and largest value of a candidate's features."""
        return 0.0, 1.0

    def lasting(self) -> dict[str, Any]:
        """Fields that must not change while a champion is in use: by default all of them."""
        return self.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """All fields and the world, ready for JSON."""
        fields = {key: _lists(value) for key, value in dataclasses.asdict(self).items()}
        return {"world": self.world, **fields}
