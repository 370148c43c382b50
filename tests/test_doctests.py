"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The learners' modules bring Ray and torch, which take seconds; they have tests of their own.
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for room in ("environments", "policies", "trajectories", "evaluation")
    for path in sorted((ROOT / "slateflow" / room).glob("*.py"))
    if not path.name.startswith(("rllib_", "__"))
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_module_hold(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def test_examples_are_found_at_all():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [
        len(test.examples)
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
    ]
    assert sum(examples) > 10
