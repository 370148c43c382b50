"""What a world is made of: the part that all specs have, and long-term satisfaction's."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from slateflow.errors import InputError

_LISTS = {"tuple[float, ...]": 1, "tuple[tuple[float, ...], ...]": 2}  # and their depths


def _checked(name: str, value: Any, expected: str) -> Any:
    """The value, with lists, as TOML and JSON have them, made tuples."""
    if expected in _LISTS:
        return _tuples(name, value, _LISTS[expected])
    fits = {
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool),
    }[expected]
    if not fits:
        raise InputError(f"{name}: expected {expected}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{name}: expected a finite number, got {value!r}")
    return value


def _tuples(name: str, value: Any, depth: int) -> Any:
    if depth == 0:
        return _checked(name, value, "float")
    wanted = "a list of numbers" if depth == 1 else "a list of lists of numbers"
    if not isinstance(value, list | tuple) or not value:
        raise InputError(f"{name}: expected {wanted}, got {value!r}")
    return tuple(_tuples(name, one, depth - 1) for one in value)


def _lists(value: Any) -> Any:
    return [_lists(one) for one in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class EnvironmentSpec(ABC):
    """The part of a spec that every world has.

    Attributes:
        name: Preset it was made from; names the dataset and the registered model.
        num_candidates: Documents offered at each step (N).
        slate_size: Documents shown (K), distinct.
        resample_documents: Draw new candidates at every step, or keep those of the reset.
    """

    world: ClassVar[str]
    response_columns: ClassVar[tuple[str, ...]]  # what the user's response reveals, float32
    user_chooses: ClassVar[bool] = True  # from the slate; else the first place is clicked

    name: str
    num_candidates: int
    slate_size: int
    resample_documents: bool = True

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _checked(field.name, getattr(self, field.name), str(field.type))
            object.__setattr__(self, field.name, value)  # the way of frozen dataclasses
        if self.slate_size < 1:
            raise InputError(f"slate_size: expected at least 1, got {self.slate_size}")
        if self.num_candidates < self.slate_size:
            raise InputError(
                f"num_candidates: expected at least slate_size ({self.slate_size}), "
                f"got {self.num_candidates}"
            )

    @property
    @abstractmethod
    def user_size(self) -> int:
        """U, the number of features observed of the user; 0 where nothing is."""

    @property
    @abstractmethod
    def document_size(self) -> int:
        """D, the number of features of a candidate."""

    @property
    @abstractmethod
    def horizon(self) -> int:
        """Most steps in an episode; a user who would stay longer is cut off (truncated) there."""

    @property
    def user_bounds(self) -> tuple[float, float]:
        """Smallest and largest value that is observed of a user."""
        return 0.0, 1.0

    @property
    def candidate_bounds(self) -> tuple[float, float]:
        """Smallest and largest feature of a candidate."""
        return 0.0, 1.0

    def to_dict(self) -> dict[str, Any]:
        """All fields and the world, as JSON can hold them."""
        fields = {key: _lists(value) for key, value in dataclasses.asdict(self).items()}
        return {"world": self.world, **fields}


@dataclass(frozen=True)
class LongTermSatisfactionSpec(EnvironmentSpec):
    """RecSim's long-term satisfaction: chocolate is clicked now, kale keeps the user.

    Field names and defaults are those of RecSim's `LTSStaticUserSampler`.

    Attributes:
        satisfaction_observed: Whether the observation shows the user's satisfaction.
        memory_discount: Share of net positive exposure that stays from step to step.
        sensitivity: Slope of satisfaction in net positive exposure.
        innovation_stddev: Noise of net positive exposure at each step.
        choc_mean: Mean log watch time of a document with clickbait score 1, at satisfaction 1.
        choc_stddev: Its standard deviation.
        kale_mean: The same for clickbait score 0.
        kale_stddev: Its standard deviation.
        time_budget: Steps in an episode.
    """

    world: ClassVar[str] = "long_term_satisfaction"
    response_columns: ClassVar[tuple[str, ...]] = ("watch_time",)
    user_chooses: ClassVar[bool] = False

    satisfaction_observed: bool = False
    memory_discount: float = 0.7
    sensitivity: float = 0.01
    innovation_stddev: float = 0.05
    choc_mean: float = 5.0
    choc_stddev: float = 1.0
    kale_mean: float = 4.0
    kale_stddev: float = 1.0
    time_budget: int = 60

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("innovation_stddev", "choc_stddev", "kale_stddev"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if not 0 <= self.memory_discount < 1:
            raise InputError(f"memory_discount: expected [0, 1), got {self.memory_discount}")
        if self.time_budget < 1:
            raise InputError(f"time_budget: expected at least 1, got {self.time_budget}")

    @property
    def user_size(self) -> int:
        """1 where the satisfaction is observed."""
        return int(self.satisfaction_observed)

    @property
    def document_size(self) -> int:
        """1, the clickbait score."""
        return 1

    @property
    def horizon(self) -> int:
        """The time budget: every click costs one."""
        return self.time_budget
