"""Options that several commands share, with bounds from `flows.bounds`, and forms of output."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from flows import bounds
from flows.bounded_option import number
from slateflow.errors import InputError
from tasks.project import RECIPES


def _recipes() -> str:
    return ", ".join(sorted(path.stem for path in RECIPES.glob("*.toml")))


def _not_empty(kind: object, value: str | None) -> None:
    """Refuse an option whose variable of the shell is empty."""
    del kind
    if value is not None and not value.strip():
        raise ValueError("expected a folder or a URL, got an empty text; leave the option out")


Recipe = Annotated[str, Parameter(help=f"Recipe in datasets/: {_recipes()}.")]
Published = Annotated[
    str, Parameter(help=f"Recipe in datasets/ ({_recipes()}), or an imported dataset.")
]
JSON = Annotated[
    bool, Parameter(name="--json", negative=(), show_default=False, help="Print one JSON document.")
]
Data = Annotated[
    str | None,
    Parameter(
        name="--data",
        validator=_not_empty,
        help="Folder of the datasets, or a pyarrow.fs URL. [default: datasets]",
    ),
]
Learners = Annotated[
    str | None,
    Parameter(
        name=["--learners", "--learner"],
        help="Learners, separated by commas; `slateflow learners` lists them. "
        "[default: those made for the world]",
    ),
]
EvaluationEpisodes = Annotated[
    int, number(bounds.EvaluationEpisodes, "Episodes that each policy plays.")
]
Evidence = Annotated[
    Literal["played", "logs"] | None,
    Parameter(
        help="Evidence of the verdict: play in the world, or logs that no learner has seen. "
        "[default: played where there is a simulator]"
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Logs:
    """Options that choose the dataset of a recipe."""

    episodes: Annotated[
        int | None, number(bounds.Episodes, "Episodes of the dataset, instead of the recipe's.")
    ] = None
    seed: Annotated[int | None, number(bounds.Seed, "Seed, instead of the recipe's.")] = None
    data: Data = None

    @property
    def kept_data(self) -> str | None:
        """`data` as the parameter of a flow run, which Prefect keeps for who runs it again."""
        from tasks.experiment import absolute

        return self.data and absolute(self.data).url


AS_IN_RECIPE = Logs()


def split_learners(names: str | None) -> list[str] | None:
    """The learners of the option; None for those that are made for the world."""
    from slateflow.learners import learner_config

    chosen = split_names(names, "--learners")
    for name in chosen or ():
        learner_config(name)  # an unknown learner is refused before anything runs
    return chosen


def split_names(names: str | None, option: str) -> list[str] | None:
    """The names of an option, each once; blanks after commas do not count."""
    if names is None:
        return None
    chosen = [name.strip() for name in names.split(",")]
    if not all(chosen) or len(set(chosen)) < len(chosen):
        raise InputError(
            f"{option}: expected names separated by commas, each once, got {names!r}; leave it "
            "out for the default"
        )
    return chosen


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    print(json.dumps(document))


def answer(as_json: bool, document: Any, text: str) -> None:
    """Print the document, or the text for people."""
    print(json.dumps(document) if as_json else text)


def short_path(path: str) -> str:
    """A path relative to the working directory, where it lies below it, for people."""
    return path.removeprefix(f"{os.getcwd()}/")


def plain_console(width: int | None = None) -> Console:
    """A console on standard output that has texts as they are: a path may have brackets."""
    return Console(width=width, markup=False, emoji=False)


def new_table(*columns: str, title: str | None = None, wraps: str | None = None) -> Table:
    """An empty table; a `>` before a column's name puts its cells to the right.

    Cells stay on one line, but for those of the column `wraps`.
    """
    table = Table(title=title, box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for name in columns:
        justify: Literal["left", "right"] = "right" if name.startswith(">") else "left"
        table.add_column(name.lstrip(">"), justify=justify, no_wrap=name != wraps)
    return table


def table_width(console: Console, table: Table) -> int:
    """Columns that a table takes where nothing of it is cut or wrapped."""
    return console.measure(table, options=console.options.update(width=1000)).maximum


def show_table(console: Console, table: Table) -> None:
    """Print a table; one that does not fit is for the terminal to wrap, for no figure is cut."""
    for column in table.columns:
        if column.no_wrap:
            column.min_width = max(cell_len(str(text)) for text in (column.header, *column.cells))
    console.print(table, crop=False)
