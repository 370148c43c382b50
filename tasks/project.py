"""The project's folder on this machine, and its recipes."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
RECIPES = PROJECT / "datasets"

DEFAULT_RECIPE = "modified-lts-20-2"
"""Recipe of commands and flows that name none."""
