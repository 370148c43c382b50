"""Recipes with a source: own logs, which are read and checked instead of simulated."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import field, replace
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field

from slateflow.errors import InputError, unknown
from slateflow.trajectories.sources.files import SourceFiles, find_files, resolve_beside
from slateflow.validation import Names, validated

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Names that are valid for experiments, registered models and folders."""

ENDINGS = {
    "table": (".parquet", ".csv", ".csv.gz"),
    "dsjson": (".json", ".jsonl", ".dsjson", ".json.gz", ".jsonl.gz", ".dsjson.gz"),
    "rllib": (".json", ".json.gz"),
}
"""Allowed endings of the files, by format."""

DECISION = ("item", "propensity", "reward", "clicked")
"""Roles of columns that are known only once the decision was made, each a column of its own."""


def names_logs(name: str) -> bool:
    """True for names of files that may have logs, in any format."""
    return name.endswith(tuple(ending for endings in ENDINGS.values() for ending in endings))


def _check_features(key: str, columns: Names, categories: Names) -> None:
    """Refuse a column that is named twice, and categories that are not among a key's columns."""
    for listed, names in ((key, columns), ("categories", categories)):
        twice = [name for place, name in enumerate(names) if name in names[:place]]
        if twice:
            raise InputError(
                f"{listed}: expected each column once, got {twice[0]} twice; name it once"
            )
    for name in categories:
        if name not in columns:
            named = ", ".join(columns) or "none"
            raise InputError(f"categories: expected columns of `{key}` ({named}), got {name}")


def _check_named(key: str, path: str, expected: str) -> None:
    """Refuse an empty path, which would mean the recipe's own folder."""
    if not path.strip():
        raise InputError(
            f"{key}: expected {expected}, got {path!r}; name it, relative to the recipe"
        )


@validated
class TableColumns:
    """A recipe's `[columns]`: the names that the table's columns have in the files."""

    episode: str | None = None  # None: every row is a session of its own
    time: str | None = None  # None: the order of the files
    user: Names = ()  # none: nothing is known of the user
    categories: Names = ()  # those of `user` whose numbers are codes, not amounts
    item: str = "item"  # the shown item, or a list of K for slates
    candidates: str | None = None  # None: all items could have been shown
    propensity: str = "propensity"
    reward: str = "reward"
    clicked: str | None = None  # of slates: the clicked place, or nothing
    policy: str | None = None  # None: all rows are of one, "logged"
    visitor: str | None = None  # the person, once or again; None: each session is of another

    def __post_init__(self) -> None:
        _check_features("user", self.user, self.categories)
        named = {role: name for role, name in vars(self).items() if isinstance(name, str)}
        for role in DECISION:
            if (name := named.pop(role, None)) in self.user:
                raise InputError(
                    "user: expected what is known before the decision, "
                    f"got {name}, the {role}; leave it out"
                )
            # A slate may show all that was offered
            others = [
                other
                for other, same in named.items()
                if same == name and (role, other) != ("item", "candidates")
            ]
            if others:
                raise InputError(
                    f"{others[0]}: expected a column of its own, got {name}, which is the {role}, "
                    "too; name another"
                )


SAMPLE_BATCHES = TableColumns(
    episode="eps_id",
    time="t",
    user=("obs",),
    item="actions",
    propensity="action_prob",
    reward="rewards",
)
"""The columns that RLlib's JSON writer writes."""


@validated
class ItemsFile:
    """A recipe's `[items]`: the file of the catalogue."""

    file: str  # Parquet or CSV, a row for each item; relative to the recipe
    id: str | None = None  # its column with the ids; None: named as `item` in the logs
    features: Names = ()  # its columns with features; none: one-hot of the id
    categories: Names = ()  # those of `features` whose numbers are codes, not amounts
    # Whether the id is a feature, too, where items earn more, or less, than the others predict
    tell_apart: Literal["auto", "never"] = "auto"

    def __post_init__(self) -> None:
        _check_named("file", self.file, "the file of the catalogue")
        _check_features("features", self.features, self.categories)


@validated
class LoggedRecipe:
    """A file `datasets/<name>.toml` with a `source`: logs of any recommender.

    Its world is known only once the logs have been read. The seed is that of trainings.
    """

    name: str  # the file's name without its ending
    source: str  # file, folder or glob, relative to the recipe, or a URL of pyarrow.fs
    format: Literal["table", "dsjson", "rllib"] = "table"
    days: Annotated[int, Field(ge=1)] | None = None  # newest files that are taken; None for all
    held_out: Literal["sessions", "last"] = "sessions"  # a fifth of the sessions, or of the time
    unknown_items: Literal["refuse", "zeros"] = "refuse"  # items that the catalogue lacks
    columns: TableColumns = TableColumns()
    items: ItemsFile | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    beside: str = field(default=".", repr=False)  # folder of the recipe

    def __post_init__(self) -> None:
        _check_named("source", self.source, "a file, a folder, files by *, ? and **, or a URL")
        if self.format == "dsjson" and (self.items or self.columns != TableColumns()):
            raise InputError(
                "columns, items: expected none for dsjson, which names its own, got some; leave "
                "them out"
            )
        if self.format == "rllib":
            if self.columns not in (TableColumns(), SAMPLE_BATCHES):
                raise InputError(
                    "columns: expected none for rllib, which names its own, got some; leave them "
                    "out"
                )
            if self.held_out == "last":
                raise InputError(
                    "held_out: expected 'sessions' for rllib, which tells no time, got 'last'"
                )
            object.__setattr__(self, "columns", SAMPLE_BATCHES)  # the dataclass is frozen
        if self.held_out == "last" and not self.columns.time and self.format == "table":
            raise InputError(
                "held_out: expected [columns] time for 'last', got none; name it or hold out "
                "'sessions'"
            )

    def __str__(self) -> str:
        return self.name

    @property
    def spec(self) -> None:
        """None: the world is unknown before the logs are read."""
        return None

    @cached_property
    def files(self) -> SourceFiles:
        """The source's files, as found at the first call."""
        source, items = resolve_beside(self.source, self.beside), self.items_path
        found = find_files(source, ENDINGS[self.format], self.days, items)
        return replace(found, items=self.items_file.digest) if items else found

    @property
    def items_path(self) -> str:
        """Path or URL of the items' file; empty if the recipe has none."""
        return resolve_beside(self.items.file, self.beside) if self.items else ""

    @property
    def items_file(self) -> SourceFiles:
        """The items' file, for a recipe that has one."""
        return find_files(self.items_path, ENDINGS["table"], field="items.file")

    def check_items(self) -> None:
        """Refuse an items' file that was rewritten since the files were found.

        Raises:
            InputError: Its bytes have changed.
        """
        if self.items and self.items_file.digest != self.files.items:
            raise InputError(
                f"{self.items_path}: expected a file that is complete, got one that was written "
                "while it was read; write it under another name and rename it, and try again"
            )

    @property
    def dataset_name(self) -> str:
        """Name of the dataset's folder: the recipe's, and a fingerprint of the files."""
        return f"{self.name}.{self.files.fingerprint}"

    def varied(self, episodes: int | None = None, seed: int | None = None) -> LoggedRecipe:
        """The recipe with another seed for trainings.

        Raises:
            InputError: `episodes` is given.
        """
        if episodes is not None:
            raise InputError(
                f"{self.name}: expected no number of episodes for own logs, got {episodes}; leave "
                "it out, or set `days` in the recipe"
            )
        return self if seed is None else replace(self, seed=seed)

    def to_dict(self) -> dict[str, Any]:
        """Everything that determines the rows, ready for JSON."""
        kept = ("source", "format", "days", "held_out", "unknown_items")
        document = {name: getattr(self, name) for name in kept}
        document |= {"columns": _given(self.columns), "files": self.files.fingerprint}
        return document | ({"items": _given(self.items)} if self.items else {})


def logged_recipe(name: str, document: dict[str, Any], beside: str) -> LoggedRecipe:
    """The recipe of a TOML document with a source.

    Raises:
        InputError: A field does not exist or does not fit; the message names the field.
    """
    fields = dict(document)
    _check_keys(document, LoggedRecipe, "", ("name", "seed", "beside"))
    for key, kind in (("columns", TableColumns), ("items", ItemsFile)):
        if key in fields:
            if not isinstance(fields[key], dict):
                raise InputError(f"{key}: expected a table, got {fields[key]!r}")
            _check_keys(fields[key], kind, f"{key}.")
            try:
                fields[key] = kind(**fields[key])
            except InputError as error:
                raise InputError(f"{key}.{error}") from None
    return LoggedRecipe(name=name, beside=beside, **fields)


def _check_keys(
    given: dict[str, Any], kind: type[Any], prefix: str, hidden: tuple[str, ...] = ()
) -> None:
    known = [one.name for one in dataclasses.fields(kind) if one.name not in hidden]
    for key in given:
        if key not in known:
            raise unknown("field", f"{prefix}{key}", [f"{prefix}{one}" for one in known])


def _given(settings: Any) -> dict[str, Any]:
    """The settings that differ from the defaults."""
    fields = dataclasses.fields(settings)
    found = {one.name: (getattr(settings, one.name), one.default) for one in fields}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, (value, default) in found.items()
        if value != default
    }
