"""A digest of the code that a learner's weights depend on, so that a comment retrains nothing."""

from __future__ import annotations

import ast
import hashlib
import threading
from functools import cache
from pathlib import Path

import slateflow

ROOT = Path(slateflow.__file__).parent


_PARSER = threading.Lock()
"""Held while Python 3.11 makes a tree: in two threads at once it raises a SystemError at times."""


@cache
def code_digest(module: str) -> str:
    """SHA-256 over the code of a module and of all of ours that it imports, at any depth.

    The syntax trees count, without comments, docstrings and layout. Packages of others count by
    nothing: whoever asks adds the versions of the libraries that matter.

    Args:
        module: Its dotted name; one outside of `slateflow` counts by its name alone.
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
    """The syntax tree of a module without its docstrings, as text, and what it imports."""
    tree = ast.parse(source)
    imported = _imported(tree)
    return ast.dump(_WithoutDocstrings().visit(tree)), imported


def _path(name: str) -> Path | None:
    """The file of a module of ours."""
    package, *rest = name.split(".")
    if package != ROOT.name:
        return None
    base = ROOT.joinpath(*rest)
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def _imported(tree: ast.AST) -> list[str]:
    """Names that may be modules, imported anywhere in the tree, in functions too."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


class _WithoutDocstrings(ast.NodeTransformer):
    """Strings that stand alone go, those below fields too."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        constant = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if constant else node
