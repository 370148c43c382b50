"""Commands to type next, for the shell in which the last one was typed."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from tasks.project import PROJECT


def typed(*words: str) -> str:
    """A command of this environment: its words quoted, and the program found as it was before.

    `uv run` finds the programs if it started this one, for they are not on the shell's path then.

    Example:
        >>> typed("mlflow", "ui", "--backend-store-uri", "sqlite:///my store.db").endswith(
        ...     "mlflow ui --backend-store-uri 'sqlite:///my store.db'"
        ... )
        True
    """
    program, *others = words
    before: list[str] = []
    beside = Path(sys.executable).with_name(program)
    if "UV" in os.environ:  # which `uv run` sets
        here = Path.cwd().is_relative_to(PROJECT)
        before = ["uv", "run", *([] if here else ["--project", str(PROJECT)])]
    elif shutil.which(program) is None and beside.exists():
        program = str(beside)
    return shlex.join([*before, program, *others])
