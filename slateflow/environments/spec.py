"""What a world is made of: frozen specs, and the presets under their public names."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from slateflow.errors import InputError, unknown


def _check_type(name: str, value: object, expected: str) -> None:
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


@dataclass(frozen=True)
class EnvironmentSpec:
    """The part of a spec that every world has.

    Attributes:
        name: Preset it was made from; names the dataset and the registered model.
        num_candidates: Documents offered at each step (N).
        slate_size: Documents shown (K), distinct.
        resample_documents: Draw new candidates at every step, or keep those of the reset.
    """

    world: ClassVar[str]
    document_size: ClassVar[int]  # D, features of a candidate
    response_columns: ClassVar[tuple[str, ...]]  # what the user's response reveals, float32

    name: str
    num_candidates: int
    slate_size: int
    resample_documents: bool = True

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), str(field.type))
        if self.slate_size < 1:
            raise InputError(f"slate_size: expected at least 1, got {self.slate_size}")
        if self.num_candidates < self.slate_size:
            raise InputError(
                f"num_candidates: expected at least slate_size ({self.slate_size}), "
                f"got {self.num_candidates}"
            )

    @property
    def user_size(self) -> int:
        """U, the number of features observed of the user; 0 where nothing is."""
        raise NotImplementedError  # pragma: no cover - every world defines it

    @property
    def horizon(self) -> int:
        """Steps in an episode."""
        raise NotImplementedError  # pragma: no cover - every world defines it

    def to_dict(self) -> dict[str, Any]:
        """All fields and the world, as JSON can hold them."""
        return {"world": self.world, **dataclasses.asdict(self)}


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
    document_size: ClassVar[int] = 1  # the clickbait score
    response_columns: ClassVar[tuple[str, ...]] = ("watch_time",)

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
    def horizon(self) -> int:
        """The time budget: every click costs one."""
        return self.time_budget


_MODIFIED = {
    "satisfaction_observed": True,
    "sensitivity": 0.058,
    "time_budget": 120,
    "choc_stddev": 0.1,
    "kale_stddev": 0.1,
}

PRESETS: dict[str, EnvironmentSpec] = {
    spec.name: spec
    for spec in (
        LongTermSatisfactionSpec("modified-lts-20-2", 20, 2, **_MODIFIED),  # type: ignore[arg-type]
        LongTermSatisfactionSpec("modified-lts-10-1", 10, 1, **_MODIFIED),  # type: ignore[arg-type]
        LongTermSatisfactionSpec("lts-20-2", 20, 2),
        LongTermSatisfactionSpec("lts-10-1", 10, 1),
    )
}
DEFAULT_PRESET = "modified-lts-20-2"


def preset(name: str, /, **overrides: Any) -> EnvironmentSpec:
    """The preset of that name, with some fields replaced.

    Raises:
        InputError: The preset or a field does not exist, or a value does not fit.

    Example:
        >>> preset("modified-lts-20-2", num_candidates=5).num_candidates
        5
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise unknown("environment", name, list(PRESETS))
    spec = PRESETS[name]
    fields = [field.name for field in dataclasses.fields(spec) if field.name != "name"]
    for key in overrides:
        if key not in fields:
            raise unknown("environment parameter", key, fields)
    return dataclasses.replace(spec, **overrides)


def spec_from_dict(document: dict[str, Any]) -> EnvironmentSpec:
    """The inverse of `EnvironmentSpec.to_dict`, for specs that were stored with a dataset."""
    if not isinstance(document, dict):
        raise InputError(f"environment spec: expected a table of fields, got {document!r}")
    fields = {key: value for key, value in document.items() if key != "world"}
    worlds = {LongTermSatisfactionSpec.world: LongTermSatisfactionSpec}
    if document.get("world") not in worlds:
        raise unknown("world", document.get("world"), list(worlds))
    try:
        return worlds[document["world"]](**fields)
    except TypeError as error:
        raise InputError(f"environment spec: {error}") from error
