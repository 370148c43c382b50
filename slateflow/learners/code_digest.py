"""A digest of the code on which a learner's weights depend; a changed comment retrains nothing."""

from __future__ import annotations

import ast
import hashlib
import threading
from functools import cache
from pathlib import Path

import slateflow

ROOT = Path(slateflow.__file__).parent


_PARSER = threading.Lock()
"""Held during parsing: Python 3.11 sometimes raises a SystemError if two threads parse at once."""


@cache
def code_digest(module: str) -> str:
    """SHA-256 over the code of a module and of all our modules that it imports, at any depth.

    The syntax trees count, without comments, docstrings and layout. Other packages do not count:
    the caller adds the versions of the libraries that matter.

    Args:
        module: Dotted name of the module; outside of `slateflow` only the name counts.
    """
    waiting, codes = [module], dict[str, str]()
    while waiting:
        name = waiting.pop()
        path = _path(name)
        if name not in codes and path is not None:
            with _PARSER:
                codes[name], imported = _parsed(path.read_text(encoding="utf-8"))
            waiting += imported
    digest = hashlib.sha256(module.encode())
    for name in sorted(codes):
        digest.update(f"{name}\n{codes[name]}\n".encode())
    return digest.hexdigest()


@cache
def _parsed(source: str) -> tuple[str, list[str]]:
    """The syntax tree of a module without docstrings, as text, and the names that it imports."""
    tree = ast.parse(source)
    imported = _imported(tree)
    return ast.dump(_WithoutDocstrings().visit(tree)), imported


def _path(name: str) -> Path | None:
    """The file of one of our modules; None for other modules."""
    package, *rest = name.split(".")
    if package != ROOT.name:
        return None
    base = ROOT.joinpath(*rest)
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def _imported(tree: ast.AST) -> list[str]:
    """Imported names that may be modules, anywhere in the tree, functions included."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


class _WithoutDocstrings(ast.NodeTransformer):
    """Removes strings that are statements: docstrings, also those below fields."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        constant = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if constant else node
