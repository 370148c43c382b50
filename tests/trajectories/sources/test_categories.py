"""Codes written as numbers are categories if the recipe declares them."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.errors import InputError
from tests.trajectories.sources.shop import log, published, recipe

CODES = '[columns]\nuser = ["age", "tab"]\ncategories = ["tab"]\n'
CSV = """
    age,tab,item,propensity,reward
    34,4,1,0.5,1
    51,10,2,0.25,0
    28,{gap},1,0.25,0.5
    19,4,2,0.25,0.5
"""
FRAME = {
    "age": [34, 51, 28, 19],
    "tab": [4, 10, 4, 4],
    "item": [1, 2, 1, 2],
    "propensity": [0.5, 0.25, 0.25, 0.25],
    "reward": [1, 0, 0.5, 0.5],
}
EXPECTED = [[34, 0, 1], [51, 1, 0], [28, 0, 1], [19, 0, 1]]


@pytest.mark.parametrize("kind", ["csv", "parquet", "texts"])
def test_codes_are_categories(tmp_path, kind):
    if kind == "csv":
        log(tmp_path, "a.csv", CSV.format(gap=4))
    elif kind == "texts":
        log(tmp_path, "a.parquet", FRAME | {"tab": [str(one) for one in FRAME["tab"]]})
    else:
        log(tmp_path, "a.parquet", FRAME)
    dataset = published(tmp_path, CODES)
    assert dataset.spec.user_features == ("age", "tab=10", "tab=4")
    assert dataset.read().user.tolist() == EXPECTED
    encoding = dataset.encoding
    for tabs in ([10, 4, 5], [10.0, 4.0, np.nan], ["10", "4", None], np.array([10, 4, np.nan])):
        asked = encoding.user_features({"age": [7, 7, 7], "tab": tabs})
        assert asked.tolist() == [[7, 1, 0], [7, 0, 1], [7, 0, 0]]


@pytest.mark.parametrize("kind", ["csv", "csv of pandas", "parquet"])
def test_a_missing_code_is_none_of_them(tmp_path, kind):
    if kind == "parquet":  # which pandas writes as floating numbers
        log(tmp_path, "a.parquet", FRAME | {"tab": [4, 10, None, 4]})
    else:
        text = CSV.format(gap="")
        pandas = text.replace(",4,", ",4.0,").replace(",10,", ",10.0,")
        log(tmp_path, "a.csv", pandas if kind == "csv of pandas" else text)
    dataset = published(tmp_path, CODES)
    assert dataset.spec.user_features == ("age", "tab=10", "tab=4")
    assert dataset.read().user.tolist() == [[34, 0, 1], [51, 1, 0], [28, 0, 0], [19, 0, 1]]


def test_days_of_csv_and_parquet_go_together(tmp_path):
    log(tmp_path, "a.csv", CSV.format(gap=7))
    log(tmp_path, "b.parquet", FRAME)
    dataset = published(tmp_path, CODES)
    assert dataset.spec.user_features == ("age", "tab=10", "tab=4", "tab=7")


@pytest.mark.parametrize("name", ["items.csv", "items.parquet"])
def test_codes_of_items_are_categories(tmp_path, name):
    log(tmp_path, "a.csv", CSV.format(gap=4))
    items = {"item": [1, 2], "brand": [30, 4], "price": [30, 4]}
    if name.endswith("csv"):
        rows = zip(*items.values(), strict=True)
        lines = [",".join(items), *(",".join(map(str, row)) for row in rows)]
        (tmp_path / name).write_text("\n".join(lines))
    else:
        log(tmp_path, f"../{name}", items)
    text = f'[items]\nfile = "{name}"\nfeatures = ["brand", "price"]\ncategories = ["brand"]\n'
    dataset = published(tmp_path, text)
    assert dataset.spec.item_features == ("brand=30", "brand=4", "price")
    assert dataset.catalogue.features.tolist() == [[1, 0, 30], [0, 1, 4]]


def test_the_id_may_be_a_code_among_the_features(tmp_path):
    log(tmp_path, "a.csv", CSV.format(gap=4))
    (tmp_path / "items.csv").write_text("item,price\n1,30\n2,4\n", encoding="utf-8")
    text = '[items]\nfile = "items.csv"\nfeatures = ["item", "price"]\ncategories = ["item"]\n'
    dataset = published(tmp_path, text)
    assert dataset.spec.item_features == ("price", "item=1", "item=2")
    assert dataset.catalogue.features.tolist() == [[30, 1, 0], [4, 0, 1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[columns]\nuser = ["age"]\ncategories = ["tab"]\n',
            r"columns\.categories: expected columns of `user` \(age\), got tab",
        ),
        (
            '[items]\nfile = "items.csv"\ncategories = ["brand"]\n',
            r"items\.categories: expected columns of `features` \(none\), got brand",
        ),
    ],
)
def test_a_code_is_among_the_columns(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        recipe(tmp_path, text)


def test_a_date_may_be_a_code(tmp_path):
    """A few dates may stand for groups, such as that of a customer's first order."""
    days = ["2026-11-28", None, "2026-11-29", "2026-11-28"]
    log(tmp_path, "a.parquet", FRAME | {"tab": days})
    _, column = published(tmp_path, CODES).encoding.user
    assert (column.kind, column.vocabulary) == ("categories", ("2026-11-28", "2026-11-29"))


def test_a_code_is_a_whole_number(tmp_path):
    log(tmp_path, "a.parquet", FRAME | {"tab": [4, 10, 2.5, 4]})
    with pytest.raises(InputError, match=r"row 3: tab: expected a text or a whole number, got 2.5"):
        published(tmp_path, CODES)
