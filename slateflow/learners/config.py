"""The list of learners, and the part of a configuration that all learners share.

Importing this, or any configuration in the list, imports neither torch nor Ray.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import json
import time
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

from pydantic import Field

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError, unknown
from slateflow.learners.code_digest import code_digest
from slateflow.learners.search_space import Space
from slateflow.policies import AnyScorer
from slateflow.progress import Progress
from slateflow.records import Records
from slateflow.validation import validated

if TYPE_CHECKING:
    from slateflow.trajectories import Dataset

# Bounds that settings share
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Curves(dict[str, list[float]]):
    """Training curves: the points of each metric, and when each was measured.

    Attributes:
        times: Seconds since 1970 of the points, by metric.
    """

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        """Add a point, measured now."""
        self.setdefault(name, []).append(value)
        self.times.setdefault(name, []).append(time.time())


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        scorer: The learnt scores.
        curves: Training curves by metric; empty for a closed form.
        earlier_seconds: Wall-clock seconds of earlier runs of this training that were killed.
        live_steps: Steps with live users.
    """

    scorer: AnyScorer
    curves: Curves = dataclasses.field(default_factory=Curves)
    earlier_seconds: float = 0.0
    live_steps: int = 0


@validated
class LearnerConfig:
    """A learner and its settings; each learner is a subclass in a file of its own.

    Attributes:
        learner: Name of the learner.
        live: Whether the learner learns with live users, instead of from logs.
        user_chooses: Whether it is made for users who choose from the slate (True), who click the
            first place (False), or both (None).
        on_rllib: Whether a training imports Ray and torch.
        search_space: Ranges from which a study draws settings; empty where held-out logs cannot
            evaluate the learner.
    """

    learner: ClassVar[str]
    live: ClassVar[bool] = False
    user_chooses: ClassVar[bool | None] = False
    on_rllib: ClassVar[bool] = False
    search_space: ClassVar[Space] = {}

    @classmethod
    def made_for(cls, spec: EnvironmentSpec) -> bool:
        """True if the learner is made for the spec's users."""
        return cls.user_chooses in (None, spec.user_chooses)

    @classmethod
    def holds(cls, spec: EnvironmentSpec) -> bool:
        """True if users and candidates have few enough features for the learner."""
        return True

    def parameters(self) -> dict[str, Any]:
        """The settings by name; the names are the same everywhere."""
        return dataclasses.asdict(self)

    def training_digest(self, dataset: Dataset, seed: int) -> str:
        """Digest of everything on which a training's weights depend.

        Libraries count by their versions, our own code by the modules that the learner imports.
        """
        libraries = ("numpy", "scipy", *(("ray", "torch") if self.on_rllib else ()))
        versions = {name: version(name) for name in libraries}
        code = code_digest(type(self).__module__)
        identity = [dataset.digest, self.learner, code, self.parameters(), seed, versions]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def checkpoint(self, folder: Path, dataset: Dataset, seed: int) -> Path:
        """Folder of this training's checkpoint; trainings with other weights have other folders."""
        return folder / f"{self.learner}-{self.training_digest(dataset, seed)[:16]}"

    def train(
        self, dataset: Dataset, seed: int, progress: Progress, checkpoints: Path | None
    ) -> Trained:
        """Train from logs; see `slateflow.learners.train`."""
        raise InputError(
            f"{self.learner}: expected a learner that learns from logs, got one that needs live "
            "users; call train_live"
        )

    def train_live(self, spec: EnvironmentSpec, seed: int, progress: Progress) -> Trained:
        """Train with live users; see `slateflow.learners.train_live`."""
        raise InputError(
            f"{self.learner}: expected a learner that needs live users, got one that learns from "
            "logs; call train"
        )


LEARNERS: Records[type[LearnerConfig]] = Records(
    "learner",
    "slateflow.learners",
    {
        "linucb": "slateflow.learners.bandits:LinUCBConfig",
        "lints": "slateflow.learners.bandits:LinTSConfig",
        "logistic": "slateflow.learners.logistic:LogisticConfig",
        "bc": "slateflow.learners.rllib.bc:BCConfig",
        "marwil": "slateflow.learners.rllib.marwil:MARWILConfig",
        "cql": "slateflow.learners.rllib.cql:CQLConfig",
        "iql": "slateflow.learners.rllib.iql:IQLConfig",
        "fitted-q": "slateflow.learners.fitted_q:FittedQConfig",
        "slateq": "slateflow.learners.slateq:SlateQConfig",
        "ppo": "slateflow.learners.rllib.ppo:PPOConfig",
        "dqn": "slateflow.learners.rllib.dqn:DQNConfig",
    },
)


def learners_for(spec: EnvironmentSpec) -> list[str]:
    """The learners that are made for a world and learn from its logs.

    Raises:
        InputError: The world's users and items have too many features for every learner.

    Example:
        >>> from slateflow.environments import preset
        >>> learners_for(preset("interest-evolution"))
        ['linucb', 'lints', 'logistic', 'slateq']
    """
    found = [name for name, config in _from_logs(spec).items() if config.holds(spec)]
    if not found:
        raise InputError(
            f"{spec.name}: expected few enough features for a learner, got {spec.user_size:,} of "
            f"the user and {spec.document_size:,} of an item; describe them by fewer"
        )
    return found


def learners_left_out(spec: EnvironmentSpec) -> list[str]:
    """The learners that are made for a world, but not for as many features as it has."""
    return [name for name, config in _from_logs(spec).items() if not config.holds(spec)]


def _from_logs(spec: EnvironmentSpec) -> dict[str, type[LearnerConfig]]:
    """Learners from logs of users like the spec's."""
    return {
        name: config
        for name, config in LEARNERS.items()
        if config.made_for(spec) and not config.live
    }


def learner_config(learner: str, /, **settings: Any) -> LearnerConfig:
    """The configuration of a learner, with some settings replaced.

    Raises:
        InputError: The learner or a setting does not exist, or a value does not fit.

    Example:
        >>> learner_config("fitted-q", degree=4).parameters()["degree"]
        4
    """
    config = LEARNERS[learner]
    known = [field.name for field in dataclasses.fields(config)]
    for name in settings:
        if name not in known:
            raise unknown(f"setting of {learner}", name, known)
    try:
        return config(**settings)
    except InputError as error:
        raise InputError(f"{learner}.{error}") from None


@dataclass(frozen=True)
class Setting:
    """A setting of a learner, for the command line and for documentation."""

    name: str
    type: str  # "int", "float" or "str"
    default: Any
    bounds: str  # such as "at least 1" or "'optimal' or 'greedy'"; empty without any
    meaning: str


def settings_of(config: type[LearnerConfig]) -> tuple[Setting, ...]:
    """The settings of a learner, each with its default, bounds and docstring."""
    meanings: dict[str, str] = {}
    for kind in reversed(config.__mro__[:-1]):
        meanings |= _docstrings(kind)
    found = []
    for field in dataclasses.fields(config):
        checked = config.__pydantic_fields__[field.name]  # type: ignore[attr-defined]
        choices = get_args(checked.annotation)  # of a Literal
        words = {"Ge": "at least", "Gt": "more than", "Le": "at most", "Lt": "less than"}
        bounds = [
            f"{words[type(bound).__name__]} {getattr(bound, type(bound).__name__.lower()):g}"
            for bound in checked.metadata
            if type(bound).__name__ in words
        ]
        found.append(
            Setting(
                name=field.name,
                type=(type(choices[0]) if choices else checked.annotation).__name__,
                default=field.default,
                bounds=" or ".join(map(repr, choices)) if choices else ", ".join(bounds),
                meaning=meanings.get(field.name, ""),
            )
        )
    return tuple(found)


def _docstrings(kind: type) -> dict[str, str]:
    """The strings below the fields of a class, by field."""
    try:
        (tree,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(kind))).body
    except (OSError, TypeError, SyntaxError):
        return {}
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    return {
        field.target.id: inspect.cleandoc(text.value.value).replace("\n", " ")
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
