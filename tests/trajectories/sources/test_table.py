"""Tables of decisions become datasets: the expected rows are written by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slateflow.environments import world_of
from slateflow.errors import InputError
from slateflow.trajectories.contract import check_rows
from slateflow.trajectories.sources import column_files
from tests.trajectories.sources.shop import log, published

SINGLE = """
    age,country,item,propensity,reward
    34,de,9,0.5,1
    51,fr,10,0.25,0
    28,de,9,0.25,0.5
"""


def columns(dataset) -> dict[str, list]:
    rows = dataset.read()
    assert check_rows(rows, dataset.spec, "here") is rows
    found = {name: values.tolist() for name, values in rows.columns().items()}
    return found | {"episode": numbered(rows.episode)}


def numbered(episodes):
    """Numbers of the episodes in the order of the rows; files are ordered by name."""
    return pd.factorize(episodes)[0].tolist()


@pytest.mark.parametrize("kind", ["csv", "parquet", "a csv and a parquet"])
def test_single_items_of_a_catalogue_that_the_log_shows(tmp_path, kind):
    frame = {
        "age": [34, 51, 28],
        "country": ["de", "fr", "de"],
        "item": [9, 10, 9],
        "propensity": [0.5, 0.25, 0.25],
        "reward": [1, 0, 0.5],
    }
    if kind == "csv":
        log(tmp_path, "a.csv", SINGLE)
    elif kind == "parquet":
        log(tmp_path, "a.parquet", frame)
    else:
        log(tmp_path, "a.csv", "\n".join(SINGLE.splitlines()[:3]))
        log(tmp_path, "b.parquet", {name: values[1:] for name, values in frame.items()})
    dataset = published(tmp_path, '[columns]\nuser = ["age", "country"]')
    assert columns(dataset) == {
        "episode": [0, 1, 2],
        "step": [0, 0, 0],
        "user": [[34, 1, 0], [51, 0, 1], [28, 1, 0]],
        "items": [[0, 1]] * 3,  # 9 before 10
        "slate": [[0], [1], [0]],
        "propensity": [0.5, 0.25, 0.25],
        "clicked": [0, 0, 0],
        "reward": [1, 0, 0.5],
        "terminated": [True] * 3,
        "truncated": [False] * 3,
    }
    spec = dataset.spec
    assert (spec.name, spec.num_candidates, spec.slate_size, spec.horizon) == ("shop", 2, 1, 1)
    assert spec.user_features == ("age", "country=de", "country=fr")
    assert spec.item_features == ("item=9", "item=10")
    assert dataset.catalogue.features.tolist() == [[1, 0], [0, 1]]
    assert world_of(spec).presets == ()
    files = 2 if kind == "a csv and a parquet" else 1
    assert [part.policy for part in dataset.parts] == ["logged"] * files
    assert dataset.path.endswith(f"/{dataset.recipe['files']}") is False
    assert dataset.path.endswith(f"shop.{dataset.recipe['files']}")


def test_offers_that_differ_in_number_and_items_with_features(tmp_path):
    log(
        tmp_path,
        "a.csv",
        """
        shown,offered,p,paid
        tea,tea|rum|milk,0.25,1
        milk,rum|milk,0.5,0
        """,
    )
    (tmp_path / "items.csv").write_text(
        "name,price,hot,kind\nmilk,1.5,false,soft\nrum,30,false,hard\ntea,2,true,soft\n"
    )
    dataset = published(
        tmp_path,
        """
        [columns]
        item = "shown"
        candidates = "offered"
        propensity = "p"
        reward = "paid"
        [items]
        file = "items.csv"
        id = "name"
        features = ["price", "hot", "kind"]
        """,
    )
    rows = dataset.read()
    assert rows.candidates.tolist() == [[2, 1, 0], [1, 0, -1]]
    assert rows.offered.tolist() == [3, 2]
    assert rows.slate.tolist() == [[0], [1]]
    assert rows.user.shape == (2, 0)
    names = ("price", "hot=false", "hot=true", "kind=hard", "kind=soft")
    assert dataset.spec.item_features == names
    milk, rum, tea = [1.5, 1, 0, 0, 1], [30, 1, 0, 1, 0], [2, 0, 1, 0, 1]
    assert dataset.catalogue.features.tolist() == [milk, rum, tea]
    assert rows.candidate_features().tolist() == [[tea, rum, milk], [rum, milk, rum]]
    assert rows.observation()["offered"].tolist() == [3, 2]
    part = f"{dataset.path}/{dataset.parts[0].path}"
    stored = pq.read_table(part, partitioning=None)
    assert stored.schema.field("items").type == pa.list_(
        pa.field("item", pa.int32(), nullable=False)
    )
    assert stored["items"].to_pylist() == [[2, 1, 0], [1, 0]]


def test_slates_and_what_was_clicked_in_them(tmp_path):
    frame = {
        "item": [["a", "b"], ["c", "a"], ["b", "c"]],
        "candidates": [["a", "b", "c"]] * 3,
        "propensity": [1 / 6] * 3,
        "reward": [2.5, 0.0, 1.0],
        "place": [1.0, None, 0.0],
    }
    log(tmp_path, "a.parquet", frame)
    dataset = published(tmp_path, '[columns]\ncandidates = "candidates"\nclicked = "place"\n')
    rows = dataset.read()
    log(tmp_path, "a.parquet", {**frame, "place": [None] * 3})
    unclicked = published(tmp_path, '[columns]\ncandidates = "candidates"\nclicked = "place"\n')
    assert unclicked.read().clicked.tolist() == [-1] * 3
    assert rows.slate.tolist() == [[0, 1], [2, 0], [1, 2]]
    assert rows.clicked.tolist() == [1, -1, 0]
    assert dataset.spec.user_chooses
    assert rows.clicked_features().tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0]]


def test_booleans_of_csv_are_those_of_parquet(tmp_path):
    """Pandas writes True and False; requests have booleans, which become `true` and `false`."""
    frame = {
        "member": [True, False],
        "item": ["a", "b"],
        "propensity": 0.5,
        "reward": [True, False],
    }
    log(tmp_path, "a.parquet", frame)
    log(tmp_path, "b.csv", pd.DataFrame(frame).to_csv(index=False))
    header, *rows = pd.DataFrame(frame).to_csv(index=False).splitlines()
    shouted = (row.replace("True", "TRUE").replace("False", "FALSE") for row in rows)
    log(tmp_path, "c.csv", "\n".join([header, *shouted]))
    dataset = published(tmp_path, '[columns]\nuser = ["member"]')
    (member,) = dataset.encoding.user
    assert member.vocabulary == ("false", "true")
    read = dataset.read()
    assert read.user.tolist() == [[0, 1], [1, 0]] * 3
    assert read.reward.tolist() == [1, 0] * 3


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_missing_category_is_none_of_them(tmp_path, kind):
    frame = pd.DataFrame(
        {
            "country": ["de", None, "at"],
            "member": [None, True, False],
            "item": ["a", "b", "a"],
            "propensity": 0.5,
            "reward": [1, 0, 0],
        }
    )
    rows = frame.to_dict("list") if kind == "parquet" else frame.to_csv(index=False)
    log(tmp_path, f"a.{kind}", rows)
    dataset = published(tmp_path, '[columns]\nuser = ["country", "member"]')
    assert dataset.spec.user_features == (
        *("country=at", "country=de"), *("member=false", "member=true")
    )  # fmt: skip
    assert dataset.read().user.tolist() == [[0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 1, 0]]


def test_texts_may_be_views(tmp_path):
    texts = {
        "country": ["de", "at"],
        "item": ["a", "b"],
        "propensity": ["0.5", "0.25"],
        "reward": ["true", "false"],
        "at": ["2026-11-02 10:00", "2026-11-02 11:00"],
    }
    views = {name: pa.array(values, pa.string_view()) for name, values in texts.items()}
    pq.write_table(pa.table(views), log(tmp_path, "a.parquet", texts))
    dataset = published(tmp_path, '[columns]\nuser = ["country"]\ntime = "at"')
    assert dataset.spec.user_features == ("country=at", "country=de")
    rows = dataset.read()
    assert rows.user.tolist() == [[0, 1], [1, 0]]
    assert (rows.propensity.tolist(), rows.reward.tolist()) == ([0.5, 0.25], [1, 0])


NOTHING = {
    "objects": [None, None],
    "floats": np.full(2, np.nan),
    "a dictionary": pd.Categorical([None, None]),
}


@pytest.mark.parametrize("files", ["ab", "ba"])
@pytest.mark.parametrize("name", NOTHING)
def test_a_category_may_be_missing_in_all_rows_of_a_file(tmp_path, name, files):
    frame = {"item": ["a", "b"], "propensity": 0.5, "reward": 0.0}
    empty, full = files
    log(tmp_path, f"{empty}.parquet", {**frame, "country": NOTHING[name]})
    log(tmp_path, f"{full}.parquet", {**frame, "country": ["de", "at"]})
    text = '[columns]\nuser = ["country"]'
    expected = [[0, 0], [0, 0], [0, 1], [1, 0]]
    assert published(tmp_path, text).read().user.tolist() == (
        expected if files == "ab" else expected[2:] + expected[:2]
    )
    for numbers in ([1.0, 2.0], [[1.0], [2.0]]):  # of which none may be missing
        log(tmp_path, f"{full}.parquet", {**frame, "country": numbers})
        with pytest.raises(InputError, match=rf"{empty}\.parquet: row 1: country: expected a num"):
            published(tmp_path, text)


def test_a_category_of_items_may_be_missing_in_all_rows_of_a_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(column_files, "BATCH_ROWS", 2)
    log(tmp_path, "a.csv", "item,propensity,reward\na,0.5,1\nb,0.5,0\n")
    text = '[items]\nfile = "items.parquet"\nfeatures = ["kind"]\ntell_apart = "never"'
    items = {"item": ["a", "b", "c"], "kind": [None, None, "soft"]}
    pd.DataFrame(items).to_parquet(tmp_path / "items.parquet")
    assert published(tmp_path, text).catalogue.features.tolist() == [[0], [0], [1]]
    pd.DataFrame({**items, "kind": [None, None, 1.5]}).to_parquet(tmp_path / "items.parquet")
    with pytest.raises(InputError, match=r"items\.parquet: row 1: kind: expected a number in ev"):
        published(tmp_path, text)
    pd.DataFrame({**items, "kind": [None] * 3}).to_parquet(tmp_path / "items.parquet")
    with pytest.raises(InputError, match=r"^kind: expected values, got none; leave the column ou"):
        published(tmp_path, text)


def test_a_gap_among_numbers_of_another_file_is_named(tmp_path):
    header = "age,item,propensity,reward\n"
    log(tmp_path, "a.csv", f"{header}34,a,0.5,1\n51,b,0.5,0\n")
    log(tmp_path, "b.csv", f"{header}28,a,0.5,1\n,b,0.5,0\n")
    with pytest.raises(InputError, match=r"b\.csv: row 2: age: expected a number in every row; "):
        published(tmp_path, '[columns]\nuser = ["age"]')
    log(tmp_path, "a.csv", f"{header},a,0.5,1\n,b,0.5,0\n")
    log(tmp_path, "b.csv", header)
    with pytest.raises(InputError, match=r"^age: expected values, got none; leave the column out"):
        published(tmp_path, '[columns]\nuser = ["age"]')


@pytest.mark.parametrize("files", [["01067", "1067", "80331"], ["80331", "01067"]])
def test_digits_that_begin_with_zero_are_a_code(tmp_path, files):
    """As a number 01067 would be 1067, which is a different place."""
    for number, code in enumerate(files):
        log(
            tmp_path,
            f"{number}.csv",
            f"zip,item,propensity,reward\n{code},a,0.5,1\n{code},b,0.5,0\n",
        )
    dataset = published(tmp_path, '[columns]\nuser = ["zip"]')
    (code,) = dataset.encoding.user
    assert (code.kind, code.vocabulary) == ("categories", tuple(sorted(files)))


def test_clicks_with_gaps_as_pandas_writes_them(tmp_path):
    frame = pd.DataFrame(
        {
            "item": ["a|b", "c|a", "b|c", "a|c"],
            "propensity": 1 / 6,
            "reward": [1, 0, 1, 0],
            "clicked": [1.0, None, 0.0, -1.0],
        }
    )
    log(tmp_path, "a.csv", frame.to_csv(index=False))
    assert published(tmp_path, '[columns]\nclicked = "clicked"').read().clicked.tolist() == [
        1, -1, 0, -1,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_whole_numbers_beyond_those_that_floats_tell_apart(tmp_path, name):
    frame = pd.DataFrame(
        {
            "item": [1, 2],
            "propensity": 0.5,
            "reward": [2**60 + 1, 2**53 + 1],
            "member": np.array([2**63 + 5, 2**59 - 1], np.uint64),
            "t": [2**62 + 1, 2**62],  # times are distinguished
        }
    )
    log(tmp_path, name, frame.to_csv(index=False) if name == "a.csv" else frame.to_dict("list"))
    text = 'held_out = "last"\n[columns]\nuser = ["member"]\ntime = "t"'
    rows = published(tmp_path, text).read()
    assert rows.reward.tolist() == [2.0**53, 2.0**60]
    assert rows.user.tolist() == [[2.0**59], [2.0**63]]


def test_lists_of_whole_numbers_beyond_those_that_floats_tell_apart(tmp_path):
    frame = {"item": [1, 2], "propensity": 0.5, "reward": 0.0, "taste": [[2**60 + 1], [3]]}
    log(tmp_path, "a.parquet", frame)
    assert published(tmp_path, '[columns]\nuser = ["taste"]').read().user.tolist() == [
        [2.0**60], [3],
    ]  # fmt: skip


def test_sessions_are_put_together_from_all_files_and_by_time(tmp_path):
    log(
        tmp_path,
        "a.csv",
        """
        session,when,item,propensity,reward,bucket
        u2,2026-11-02 10:00:00,a,0.5,1,B
        u1,2026-11-01 12:00:00,b,0.5,2,A
        """,
    )
    log(
        tmp_path,
        "b.csv",
        """
        session,when,item,propensity,reward,bucket
        u1,2026-11-01 11:00:00,a,0.5,3,A
        u3,2026-11-01 09:00:00,b,0.5,4,B
        u2,2026-11-02 10:00:01,b,0.5,5,B
        """,
    )
    dataset = published(
        tmp_path,
        """
        held_out = "last"
        [columns]
        episode = "session"
        time = "when"
        policy = "bucket"
        """.replace("        ", ""),
    )
    rows = dataset.read()
    # Sessions by their beginning: u3, u1, u2; rows by policy first
    assert [part.policy for part in dataset.parts] == ["A", "B", "B"]  # by day: b.csv begins first
    assert numbered(rows.episode) == [0, 0, 1, 2, 2]
    assert rows.step.tolist() == [0, 1, 0, 0, 1]
    assert rows.reward.tolist() == [3, 2, 4, 1, 5]
    assert rows.terminated.tolist() == [False, True, True, False, True]
    assert dataset.spec.horizon == 2
    assert not dataset.hold_out.mask(rows).any()  # a fifth of three sessions is none


def test_the_last_fifth_of_the_time_is_held_out(tmp_path):
    times = [7, 1, 9, 3, 5, 2, 8, 4, 6, 0]
    frame = {"t": times, "item": [1, 2] * 5, "propensity": [0.5] * 10, "reward": times}
    log(tmp_path, "a.parquet", frame)
    dataset = published(tmp_path, 'held_out = "last"\n[columns]\ntime = "t"')
    rows = dataset.read()
    assert rows.reward.tolist() == list(range(10))
    assert dataset.hold_out.mask(rows).tolist() == [False] * 8 + [True] * 2


@pytest.mark.parametrize("zone", ["", "Z", "+01:00"])
def test_a_second_may_have_more_digits_than_microseconds(tmp_path, zone):
    seconds = ["00.6594140", "00.123456789", "00.5", "00.65941", "00"]
    rows = [f"a,0.5,{second},2026-01-01T00:00:{second}{zone}\n" for second in seconds]
    log(tmp_path, "a.csv", "item,propensity,reward,at\n" + "".join(rows))
    rewards = published(tmp_path, 'held_out = "last"\n[columns]\ntime = "at"').read().reward
    assert rewards.tolist() == sorted(np.float32(seconds).tolist())


def test_a_fifth_of_the_sessions_is_held_out_whatever_repeats_in_the_log(tmp_path):
    count = 20_000
    frame = {"item": [1, 2, 3, 4, 5] * (count // 5), "propensity": 0.2, "reward": [0.0] * count}
    log(tmp_path, "a.parquet", frame)
    dataset = published(tmp_path)
    rows = dataset.read()
    held = dataset.hold_out.mask(rows)
    share = 0.2
    for item in range(5):
        mean = held[rows.slate[:, 0] == item].mean()
        assert abs(mean - share) < 4 * (share * (1 - share) / (count // 5)) ** 0.5


def test_items_that_the_catalogue_lacks_have_features_at_zero_where_the_recipe_allows(tmp_path):
    log(tmp_path, "a.csv", "item,propensity,reward\nx,0.5,1\nnew,0.5,0\n")
    (tmp_path / "items.csv").write_text("item,price\nx,3\ny,4\n")
    dataset = published(
        tmp_path, 'unknown_items = "zeros"\n[items]\nfile = "items.csv"\nfeatures = ["price"]'
    )
    assert dataset.encoding.items == ("x", "y", "new")
    assert dataset.catalogue.features.tolist() == [[3], [4], [0]]
    assert dataset.read().slate.tolist() == [[0], [2]]


@pytest.mark.parametrize("features", [["price", "item"], ["item"]])
def test_an_id_among_the_features_gives_each_item_a_column_of_its_own(tmp_path, features):
    log(tmp_path, "a.csv", "item,propensity,reward\n7,0.5,1\n12,0.5,0\n")
    (tmp_path / "items.csv").write_text("item,price\n12,3\n7,4\n")
    text = f'unknown_items = "zeros"\n[items]\nfile = "items.csv"\nfeatures = {features}'
    dataset = published(tmp_path, text)
    priced = len(features) - 1
    assert dataset.spec.item_features == ("price",) * priced + ("item=12", "item=7")
    assert dataset.catalogue.features[:, priced:].tolist() == [[1, 0], [0, 1]]
    assert dataset.catalogue.features[:, :priced].ravel().tolist() == [3, 4][: 2 * priced]
    log(tmp_path, "b.csv", "item,propensity,reward\n9,0.5,1\n12,0.5,0\n")
    new = published(tmp_path, text)
    assert new.encoding.items == ("12", "7", "9")
    assert new.catalogue.features[2].tolist() == [0] * len(new.spec.item_features)


def test_lists_of_numbers_are_taken_one_by_one_and_hashes_that_look_like_numbers_are_texts(
    tmp_path,
):
    log(
        tmp_path,
        "a.parquet",
        {"taste": [[1.0, 2.0], [3.0, 4.0]], "item": [1, 2], "propensity": 0.5, "reward": 0.0},
    )
    dataset = published(tmp_path, '[columns]\nuser = ["taste"]')
    assert dataset.spec.user_features == ("taste[0]", "taste[1]")
    assert dataset.read().user.tolist() == [[1, 2], [3, 4]]
    (tmp_path / "logs" / "a.parquet").unlink()
    log(
        tmp_path,
        "a.csv",
        "taste,item,propensity,reward\n1f,1,0.5,0\n12,2,0.5,0\nab,1,0.5,1\n",
    )
    dataset = published(tmp_path, '[columns]\nuser = ["taste"]')
    assert dataset.spec.user_features == ("taste=12", "taste=1f", "taste=ab")


def test_an_id_of_parquet_may_have_the_separator_of_csv(tmp_path):
    frame = {"item": ["a|b", "c"], "propensity": [0.5, 0.5], "reward": [0.0, 1.0]}
    log(tmp_path, "a.parquet", frame)
    dataset = published(tmp_path)
    assert dataset.encoding.items == ("a|b", "c")
    assert dataset.read().slate.tolist() == [[0], [1]]


def test_sessions_and_visitors_are_the_same_with_a_point_in_their_numbers(tmp_path):
    header = "item,propensity,reward,s,v\n"
    log(tmp_path, "a.csv", header + "a,0.5,1,1,8\nb,0.5,0,2,9\n")
    log(tmp_path, "b.csv", header + "b,0.5,1,3.0,8.0\na,0.5,0,4.0,9.0\n")
    columns = '[columns]\nepisode = "s"\nvisitor = "v"\n'
    assert len(np.unique(published(tmp_path, columns).read().visitor)) == 2
    log(tmp_path, "b.csv", header + "b,0.5,1,1.0,8.0\na,0.5,0,2.0,9.0\n")
    assert published(tmp_path, columns).read().lengths.tolist() == [2, 2]
