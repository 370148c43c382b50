"""The tutorial runs from top to bottom, and its outputs in git are those that it prints."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"
NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")


def texts(notebook) -> list[str]:
    """Printed text of each cell of code."""
    return [
        "".join(out.get("text", "") or out.get("data", {}).get("text/plain", "") for out in outputs)
        for outputs in (cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    ]


def numbers(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in NUMBER.findall(text)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tutorial_prints_what_stands_in_git():
    notebook = nbformat.read(TUTORIAL, as_version=4)
    stored = texts(notebook)
    client = NotebookClient(
        notebook, timeout=500, resources={"metadata": {"path": TUTORIAL.parents[1]}}
    )
    client.execute()  # raises where a cell does
    for before, now in zip(stored, texts(notebook), strict=True):
        assert NUMBER.sub("#", now) == NUMBER.sub("#", before)
        # Other processors round otherwise, and training amplifies it
        assert numbers(now) == pytest.approx(numbers(before), rel=0.02, abs=0.03)
    assert any("winner" in text for text in stored)
