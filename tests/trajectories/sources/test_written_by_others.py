"""CSV as other programs and other countries write it: understood, or refused with the remedy."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
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


def test_lists_of_numbers_are_those_of_parquet(tmp_path):
    taste = [[0.5, -1.25], [2.0, 3e-2], [1.0, 0.0]]
    rows = {"item": ["a", "b", "a"], "propensity": 0.5, "reward": [1, 0, 1]}
    found = []
    for name, values in [
        ("parquet", taste),
        ("csv", ["0.5|-1.25", " 2 | 3e-2", "1|0"]),
    ]:
        (tmp_path / name).mkdir()
        frame = pd.DataFrame({**rows, "price": values})
        text = frame if name == "parquet" else frame.to_csv(index=False)
        log(tmp_path / name, f"a.{name}", text)
        found.append(published(tmp_path / name, USER))
    one, other = found
    assert one.encoding == other.encoding
    for dataset in found:
        assert dataset.read().user.tolist() == np.array(taste, np.float32).tolist()


def test_several_ids_in_a_text_are_categories(tmp_path):
    priced(tmp_path, "a.csv", "1|5", "2|3|4", "7", "1|5")
    (column,) = published(tmp_path, USER).encoding.user
    assert column.vocabulary == ("1|5", "2|3|4", "7")


@pytest.mark.parametrize("written", ["[0.5, 1.0]", "[0.5 1. ]"])
def test_lists_of_numbers_in_brackets(tmp_path, written):
    priced(tmp_path, "a.csv", "0.5|1.0", "2|3")
    priced(tmp_path, "b.csv", written, written)
    expected = "numbers in a list as a|b|c, or the column's name in `categories`"
    assert f"b.csv: row 1: price: expected {expected}, got {written}" in refusal(tmp_path, USER)
    column = published(tmp_path, f'{USER}categories = ["price"]').encoding.user[0]
    assert column.vocabulary == tuple(sorted(["0.5|1.0", "2|3", written]))


def test_prices_of_items_in_another_notation(tmp_path):
    log(tmp_path, "a.csv", "item,propensity,reward\na,0.5,1\nb,0.5,0\n")
    (tmp_path / "items.csv").write_text('item,price\na,"1,50"\nb,"2,75"\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"items\.csv: row 1: price: expected numbers such as "):
        published(tmp_path, '[items]\nfile = "items.csv"\nfeatures = ["price"]')


def test_spaces_around_a_value_of_csv_do_not_count(tmp_path):
    plain = "kind,age,item,offered,propensity,reward,s\nx,3,a,a|b,0.5,1,u\nx,4,b,a|b,0.5,0,u\n"
    padded = (
        "kind,age,item,offered,propensity,reward,s\nx , 3, a,a| b,0.5,1,u\n x,4 ,b,a |b,0.5,0, u\n"
    )
    text = '[columns]\nuser = ["kind", "age"]\ncandidates = "offered"\nepisode = "s"\n'
    items = '[items]\nfile = "items.csv"\nfeatures = ["price"]\n'
    found = []
    for rows, catalogue in (
        (plain, "item,price\na,1\nb,2\n"),
        (padded, "item,price\na , 1\n b,2\n"),
    ):
        (tmp_path / "logs").mkdir(exist_ok=True)
        (tmp_path / "logs" / "a.csv").write_text(rows, encoding="utf-8")
        (tmp_path / "items.csv").write_text(catalogue, encoding="utf-8")
        dataset = published(tmp_path, text + items)
        assert dataset.encoding.items == ("a", "b")
        assert dataset.catalogue.features.tolist() == [[1], [2]]
        assert dataset.spec.user_features == ("kind=x", "age")
        found.append({name: one.tolist() for name, one in dataset.read().columns().items()})
    assert found[0] == found[1]
    assert found[0]["step"] == [0, 1]


def test_a_value_of_spaces_is_missing(tmp_path):
    log(tmp_path, "a.csv", "item,propensity,reward\na,0.5,1\n  ,0.5,0\n")
    assert "a.csv: row 2: item: expected a value, got none" in refusal(tmp_path, "")
    log(tmp_path, "a.csv", "item,propensity,reward\na,0.5,1\na| ,0.5,0\n")
    assert "a.csv: row 2: item: expected ids without a gap, got none" in refusal(tmp_path, "")
    log(tmp_path, "a.csv", "kind,item,propensity,reward\n  ,a,0.5,1\nx,b,0.5,0\n")
    assert published(tmp_path, '[columns]\nuser = ["kind"]\n').read().user.tolist() == [[0], [1]]


def test_spaces_of_parquet_count(tmp_path):
    frame = {"item": ["a", "a "], "propensity": [0.5, 0.5], "reward": [0.0, 1.0]}
    log(tmp_path, "a.parquet", frame)
    assert published(tmp_path).encoding.items == ("a", "a ")


NOTHING = ["NULL", "null", "NaN", "nan", "NA", "N/A", "<NA>", "None", "\\N", ""]


@pytest.mark.parametrize("nothing", NOTHING)
def test_texts_that_stand_for_no_value_are_as_empty_cells(tmp_path, nothing):
    """Parquet, whose gaps are not written as texts, tells what is expected."""
    text = '[columns]\nuser = ["kind", "tab"]\ncategories = ["tab"]\nclicked = "clicked"\n'
    header = "kind,tab,item,propensity,reward,clicked\n"
    rows = f"x,3,a|b,0.5,1,1\n{nothing},{nothing},b|a,0.5,0,{nothing}\n"
    path = log(tmp_path, "a.csv", header + rows)
    read = published(tmp_path, text)
    path.unlink()
    log(
        tmp_path,
        "a.parquet",
        {
            "kind": ["x", None],
            "tab": [3, None],
            "item": [["a", "b"], ["b", "a"]],
            "propensity": [0.5, 0.5],
            "reward": [1, 0],
            "clicked": [1, None],
        },
    )
    expected = published(tmp_path, text)
    assert read.encoding == expected.encoding
    assert read.spec.user_features == ("kind=x", "tab=3")
    assert read.read().user.tolist() == expected.read().user.tolist() == [[1, 1], [0, 0]]
    assert read.read().clicked.tolist() == expected.read().clicked.tolist() == [1, -1]


@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("age", "a number in every row; a column of its own may say where there was none"),
        ("visitor", "a value"),
        ("session", "a value"),
        ("propensity", "a probability in (0, 1]"),
        ("reward", "a number"),
    ],
)
def test_no_value_where_there_has_to_be_one(tmp_path, nothing, column, expected):
    good = {"age": 3, "visitor": "v", "session": "s", "item": "a", "propensity": 1, "reward": 1}
    rows = [good, good | {"session": "r"}, good | {"session": "t", column: nothing}]
    lines = [",".join(str(one) for one in row.values()) for row in rows]
    log(tmp_path, "a.csv", "\n".join([",".join(good), *lines]))
    columns = '[columns]\nuser = ["age"]\nvisitor = "visitor"\nepisode = "session"\n'
    message = refusal(tmp_path, columns)
    assert f"a.csv: row 3: {column}: expected {expected}, got none; correct the log" in message


def test_items_and_policies_may_have_the_name_of_nothing(tmp_path):
    header = "item,propensity,reward,arm\n"
    log(tmp_path, "a.csv", f"{header}None,0.5,1,None\nNA,0.5,0,None\n")
    dataset = published(tmp_path, '[columns]\npolicy = "arm"\n')
    assert dataset.encoding.items == ("NA", "None")
    assert [part.policy for part in dataset.parts] == ["None"]


TABLE = "item,propensity,reward\na,0.5,1\nä,0.5,0\n"
FORMS = {
    "semicolons": (TABLE.replace(",", ";").encode(), "semicolons"),
    "decimal commas, too": (TABLE.replace(",", ";").replace(".", ",").encode(), "semicolons"),
    "tabs": (TABLE.replace(",", "\t").encode(), "tabs"),
    "utf-16": (TABLE.encode("utf-16"), "UTF-16"),
    "utf-16, big end first": (b"\xfe\xff" + TABLE.encode("utf-16-be"), "UTF-16"),
    "utf-16 without a mark": (TABLE.encode("utf-16-le"), "UTF-16"),
    "utf-16 without ascii": (b"\xff\xfe" + "品目,確率\n".encode("utf-16-le"), "UTF-16"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_csv_in_another_form(tmp_path, form, packed):
    content, got = FORMS[form]
    (tmp_path / "logs").mkdir()
    name = f"a.csv{'.gz' * packed}"
    (tmp_path / "logs" / name).write_bytes(gzip.compress(content) if packed else content)
    assert refusal(tmp_path, "") == (
        f"{tmp_path}/logs/{name}: expected a CSV file in UTF-8 with commas, got {got}; write it "
        "again or move it away"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_separator_of_others_among_the_names_and_values(tmp_path, encoding):
    text = TABLE.replace("reward", "reward; in €").replace("ä", "ä;b;c;d")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.csv").write_bytes(text.encode(encoding))
    dataset = published(tmp_path, '[columns]\nreward = "reward; in €"\n')
    assert dataset.encoding.items == ("a", "ä;b;c;d")
