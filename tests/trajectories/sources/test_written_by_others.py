"""CSV as other programs and other countries write it: understood, or refused with the remedy."""

from __future__ import annotations

import pytest

from slateflow.errors import InputError
from tests.trajectories.sources.shop import log, published
from tests.trajectories.sources.test_refusals import refusal

USER = '[columns]\nuser = ["price"]\n'


def priced(folder, name: str, *prices: str) -> None:
    """A file with a row for each price."""
    rows = (f'"{price}",{"ab"[place % 2]},0.5,1' for place, price in enumerate(prices))
    log(folder, name, "\n".join(["price,item,propensity,reward", *rows]))


@pytest.mark.parametrize(
    "number",
    ["1,50", "1.234,5", "1,234.50", "1 234", "1\u202f234,50 €", "$5", "-$1,234", "1.50 EUR", "12%",
     "−3", "1'234.5", "1.234.567"],
)  # fmt: skip
def test_numbers_in_another_notation_are_no_categories(tmp_path, number):
    priced(tmp_path, "a.csv", "3", "4", "2.5")
    priced(tmp_path, "b.csv", "3", number, number, "unknown", number)
    expected = "numbers such as 1234.5, as in most rows, or the column's name in `categories`"
    message = refusal(tmp_path, USER)
    assert f"logs/b.csv: row 2: price: expected {expected}, got {number}; correct the" in message
    priced(tmp_path, "b.csv", "3", number)
    column = published(tmp_path, f'{USER}categories = ["price"]').encoding.user[0]
    assert column.vocabulary == tuple(sorted(["2.5", "3", "4", number]))


@pytest.mark.parametrize(
    "text", ["1.2.3", "18-25", "5 kg", "12:30", "1,2,3", "12 34", "€", "-", "1.23.456", "1 2"]
)
def test_texts_with_digits_are_categories(tmp_path, text):
    priced(tmp_path, "a.csv", text, f"{text}x")
    (column,) = published(tmp_path, USER).encoding.user
    assert column.vocabulary == tuple(sorted([text, f"{text}x"]))


def test_prices_of_items_in_another_notation(tmp_path):
    log(tmp_path, "a.csv", "item,propensity,reward\na,0.5,1\nb,0.5,0\n")
    (tmp_path / "items.csv").write_text('item,price\na,"1,50"\nb,"2,75"\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"items\.csv: row 1: price: expected numbers such as "):
        published(tmp_path, '[items]\nfile = "items.csv"\nfeatures = ["price"]')
