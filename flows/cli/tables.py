"""Tables on standard output."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table


def new_table(*columns: str, title: str | None = None) -> Table:
    """An empty table; a `>` before a column's name puts its cells to the right."""
    table = Table(title=title, box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for name in columns:
        right = name.startswith(">")
        table.add_column(name.lstrip(">"), justify="right" if right else "left", no_wrap=right)
    table.columns[0].no_wrap = True
    return table
