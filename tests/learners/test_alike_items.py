"""SlateQ where the items of a slate influence each other."""

from __future__ import annotations

import pytest

from slateflow.learners import learner_config, train
from slateflow.policies import SlateScorer
from tests.evaluation.off_policy.alike_shop import AlikeShop


@pytest.mark.parametrize(("effect", "least"), [("none", 0.9), ("above", 0.8), ("anywhere", 0.9)])
def test_slates_are_made_by_what_bores_beside_its_like(effect, least, tmp_path):
    """Without likeness scores were .71 to .87 for "above", and below random for "anywhere"."""
    shop = AlikeShop(effect)
    dataset = shop.slates(tmp_path, 10_000, 5)
    scorer, _ = train(dataset, learner_config("slateq"), 0)
    assert shop.score(scorer, dataset) > least
    assert isinstance(scorer, SlateScorer)
    assert len(scorer.choice_shares) == 1  # no memory would distinguish classes of users


def test_slates_of_one_item_have_no_likeness(tmp_path):
    dataset = AlikeShop("anywhere").slates(tmp_path, 200, 6)
    scorer, _ = train(dataset, learner_config("slateq"), 0)
    assert isinstance(scorer, SlateScorer)
    assert not scorer.alike  # a slate of one has no rest
