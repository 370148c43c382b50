"""Progress of commands, on standard error; shown before Prefect and the science are imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from slateflow.errors import InputError
from tasks.server.stages import listening

errors = Console(stderr=True)


@contextmanager
def progress(first: str) -> Iterator[None]:
    """Show stages of tasks as bars; `first` is shown until a stage begins.

    Where bad input is found before that, the bar goes, and its line is all that is left.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as bars:
        stages: dict[str, TaskID] = {first: bars.add_task(first, total=None)}

        def show(name: str, done: int, total: int) -> None:
            bars.update(stages[first], total=1, completed=1)
            if name not in stages:
                stages[name] = bars.add_task(name, total=total)
            bars.update(stages[name], completed=done, total=total)

        with listening(show):
            try:
                yield
            except InputError:
                bars.live.transient = len(stages) == 1
                raise
