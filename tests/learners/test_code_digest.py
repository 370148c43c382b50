"""Changes of the code that make a training a different one."""

from __future__ import annotations

import pytest

import slateflow.learners.code_digest as code_digest
from slateflow.learners import LEARNERS
from slateflow.learners.code_digest import code_digest as digest_of

HELPER = '''"""A helper."""

def factor():
    """Two."""
    return 2  # not three
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of three modules: the learner imports the helper, and none imports the third."""
    root = tmp_path / "slateflow"
    root.mkdir()
    (root / "learner.py").write_text("def train():\n    from slateflow.helper import factor\n")
    (root / "helper.py").write_text(HELPER)
    (root / "chart.py").write_text("colour = 1\n")
    monkeypatch.setattr(code_digest, "ROOT", root)
    return root


def digest() -> str:
    digest_of.cache_clear()
    return digest_of("slateflow.learner")


@pytest.mark.parametrize(
    ("file", "change", "another"),
    [
        ("helper.py", ("# not three", "# but two"), False),
        ("helper.py", ('"""Two."""', '"""The factor."""'), False),
        ("helper.py", ("return 2  #", "return  2 #"), False),
        ("helper.py", ("return 2", "return 3"), True),
        ("learner.py", ("train", "fit"), True),
        ("chart.py", ("1", "2"), False),
    ],
)
def test_what_a_change_is_worth(package, file, change, another):
    before = digest()
    text = (package / file).read_text()
    assert change[0] in text
    (package / file).write_text(text.replace(*change))
    assert (digest() != before) == another


def test_learners_of_one_family_share_what_they_import_and_not_themselves():
    digest_of.cache_clear()
    found = {name: digest_of(config.__module__) for name, config in LEARNERS.items()}
    assert found["linucb"] == found["lints"]  # one file
    assert len(set(found.values())) == len(found) - 1
