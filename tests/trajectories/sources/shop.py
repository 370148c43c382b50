"""A shop's logs: tables written by hand, and its recipe read back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slateflow.trajectories import Dataset, Folder, LoggedRecipe, generate, read_recipe


def recipe(folder: Path, text: str = "", source: str = "logs") -> LoggedRecipe:
    """The recipe `shop` with further lines below its source."""
    (folder / "shop.toml").write_text(f'source = "{source}"\n{text}', encoding="utf-8")
    found = read_recipe(folder, "shop")
    assert isinstance(found, LoggedRecipe)
    return found


def log(folder: Path, name: str, text: str | dict[str, Any]) -> Path:
    """A file of the source: CSV from a text, Parquet from columns."""
    path = folder / "logs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(text, str):
        lines = [line.strip() for line in text.strip().splitlines()]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        pd.DataFrame(text).to_parquet(path)
    return path


def first_liked(likes: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(B,) places of the first liked item, by likes (B, K); −1 for none."""
    return np.where(likes.any(axis=1), likes.argmax(axis=1), -1)


def slates_table(
    shown: NDArray[np.integer], clicked: NDArray[np.integer], items: int
) -> dict[str, Any]:
    """Columns of slates (B, K) of a random policy over `items` items; a click earns 1."""
    rows, places = shown.shape
    return {
        "item": shown.tolist(),
        "propensity": np.full(rows, 1 / math.perm(items, places)),
        "clicked": clicked,
        "reward": (clicked >= 0).astype(np.int64),
    }


def published(folder: Path, text: str = "") -> Dataset:
    """The dataset of the recipe, read back from its files."""
    made = generate(recipe(folder, text), Folder(str(folder / "data")))
    return Dataset.open(made.path).verify()
