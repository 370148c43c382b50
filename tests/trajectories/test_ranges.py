"""Ranges of features, against the columns of the files."""

from __future__ import annotations

import duckdb
import numpy as np
import pytest

from slateflow.trajectories import Dataset, Folder, Recipe, generate
from slateflow.trajectories.ranges import feature_ranges


def extremes(dataset: Dataset, column: str, size: int) -> list[tuple[float, float]]:
    """Least and greatest values of each of the `size` features of a column."""
    files = f"{dataset.path}/*/*.parquet"
    # The place in the list, counted row by row
    query = f"""
        SELECT min(value), max(value) FROM (
            SELECT unnest({column}) AS value, unnest(range(len({column}))) % {size} AS feature
            FROM '{files}'
        ) GROUP BY feature ORDER BY feature
    """
    return duckdb.sql(query).fetchall()


@pytest.mark.parametrize("world", ["modified-lts-20-2", "interest-exploration"])
def test_fresh_candidates(tmp_path, world):
    dataset = generate(Recipe("r", world, 20, 3, {"random": 1.0}), Folder(str(tmp_path)))
    spec = dataset.spec
    expected = extremes(dataset, "user", spec.user_size) if spec.user_size else []
    expected += extremes(dataset, "candidates", spec.document_size)
    np.testing.assert_array_equal(feature_ranges(dataset).T, expected)


def test_items_of_a_catalogue(tmp_path):
    recipe = Recipe("r", "interest-evolution", 20, 3, {"random": 1.0})
    dataset = generate(recipe, Folder(str(tmp_path)))
    items = dataset.catalogue.features
    low, high = feature_ranges(dataset)
    users = extremes(dataset, "user", dataset.spec.user_size)
    np.testing.assert_array_equal(low, [*(least for least, _ in users), *items.min(axis=0)])
    np.testing.assert_array_equal(high, [*(most for _, most in users), *items.max(axis=0)])
