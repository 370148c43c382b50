"""The texts of CSV, which has no types: numbers, lists, booleans, and missing values."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

SEPARATOR = "|"
"""Separator of the ids of a list in CSV."""

NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
"""A text that is a number."""

WHOLE = r"^\s*[+-]?\d+\s*$"
"""A text that is a whole number."""

WITH_POINT = r"^\s*([+-]?\d+)\.0*\s*$"
"""A whole number as pandas writes it in a column with gaps; the digits are a group."""

CODE = r"^\s*0\d+\s*$"
"""A text of digits that is not a number, such as a post code."""

BOOLEAN = r"^(True|TRUE|False|FALSE)$"
"""A text that is a boolean, as pandas and spreadsheets write it; ours are lower-case."""

MISSING = ("NULL", "null", "NaN", "nan", "NA", "N/A", "<NA>", "None", r"\N")
"""Texts that databases, R and pandas write where there is no value."""

IN_BRACKETS = r"^\[.*\]$"
"""A list as Python and JSON write it."""


def trimmed(texts: Any) -> Any:
    """Texts without spaces around them; null where nothing is left."""
    texts = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, texts.type), texts)


def split(texts: Any) -> Any:
    """Lists of the texts between the separators, without spaces around them."""
    lists = pc.split_pattern(texts, SEPARATOR)
    return pa.ListArray.from_arrays(lists.offsets, trimmed(lists.flatten()), mask=lists.is_null())


def lists_of_numbers(texts: Any) -> Any:
    """Lists of numbers if all texts are such lists, equally long; otherwise the texts."""
    separators = pc.min_max(pc.count_substring(texts, SEPARATOR))
    if not separators["min"].as_py() or separators["min"] != separators["max"]:
        return texts
    lists = split(texts)
    if not pc.all(pc.match_substring_regex(lists.flatten(), NUMBER), skip_nulls=False).as_py():
        return texts
    return lists.cast(pa.list_(pa.float64()))


def lower_booleans(texts: Any) -> Any:
    """Texts with booleans in lower case, as ours are."""
    boolean = pc.fill_null(pc.match_substring_regex(texts, BOOLEAN), False)
    return pc.if_else(boolean, pc.utf8_lower(texts), texts) if pc.any(boolean).as_py() else texts
