"""Names and settings of the learners, and refusals."""

from __future__ import annotations

import subprocess
import sys

import pytest

from slateflow.errors import InputError
from slateflow.learners import LEARNERS, LearnerConfig, learner_config
from slateflow.learners.config import settings_of


def test_learners_carry_their_names():
    offline = ["linucb", "lints", "logistic", "bc", "marwil", "cql", "iql", "fitted-q", "slateq"]
    assert [name for name, config in LEARNERS.items() if not config.live] == offline
    assert [name for name, config in LEARNERS.items() if config.live] == ["ppo", "dqn"]
    for name, config in LEARNERS.items():
        assert config.learner == name
        assert isinstance(learner_config(name), config)


@pytest.mark.parametrize("name", LEARNERS)
def test_defaults_are_accepted_and_kept(name):
    config = learner_config(name)
    assert learner_config(name, **config.parameters()) == config
    light = ("linucb", "lints", "logistic", "fitted-q", "slateq")
    assert config.on_rllib == (name not in light)


def test_a_setting_is_replaced_and_the_others_stay():
    changed, default = learner_config("cql", conservatism=0.5), learner_config("cql")
    assert changed.parameters() == {**default.parameters(), "conservatism": 0.5}


def test_a_whole_number_serves_where_any_number_does():
    assert learner_config("fitted-q", ridge=0).parameters()["ridge"] == 0


def test_an_unknown_learner_is_refused_with_the_known_ones():
    with pytest.raises(
        InputError,
        match=r"unknown learner 'sac': expected one of linucb, lints, .*slateq, ppo, dqn",
    ):
        learner_config("sac")


def test_a_checkpoint_is_of_one_training_by_one_code_and_its_libraries(small_logs, tmp_path):
    def folder(name="cql", seed=1, code="a" * 64, torch="2", **settings):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("slateflow.learners.config.code_digest", lambda module: code)
            versions = {"numpy": "1", "scipy": "1", "ray": "2", "torch": torch}
            patch.setattr("slateflow.learners.config.version", versions.__getitem__)
            return learner_config(name, **settings).checkpoint(tmp_path, small_logs, seed)

    assert folder() == folder()
    changes = [{"seed": 2}, {"code": "b" * 64}, {"torch": "3"}, {"width": 8}, {"name": "iql"}]
    assert len({folder(), *(folder(**change) for change in changes)}) == 1 + len(changes)
    # Those that do not use torch go on with another
    assert folder("fitted-q") == folder("fitted-q", torch="3")


@pytest.mark.parametrize("name", LEARNERS)
def test_an_unknown_setting_is_refused_with_the_known_ones(name):
    known = ", ".join(learner_config(name).parameters())
    with pytest.raises(
        InputError, match=f"unknown setting of {name} 'gamma': expected one of {known}"
    ):
        learner_config(name, gamma=0.9)


@pytest.mark.parametrize(
    ("learner", "setting", "value", "expected"),
    [
        ("linucb", "ridge", -1.0, "expected at least 0, got -1.0"),
        ("linucb", "ridge", "1", "expected a number, got '1'"),
        ("linucb", "ridge", None, "expected a number, got None"),
        ("linucb", "ridge", True, "expected a number, got True"),
        ("linucb", "ridge", float("nan"), "expected a finite number, got nan"),
        ("lints", "exploration", float("inf"), "expected a finite number, got inf"),
        ("lints", "exploration", -0.1, "expected at least 0, got -0.1"),
        ("fitted-q", "degree", -1, "expected at least 0, got -1"),
        ("fitted-q", "degree", 2.0, "expected a whole number, got 2.0"),
        ("fitted-q", "window", True, "expected a whole number, got True"),
        ("bc", "updates", -5, "expected at least 1, got -5"),
        ("bc", "width", "32", "expected a whole number, got '32'"),
        ("bc", "learning_rate", [0.1], r"expected a number, got \[0.1\]"),
        ("marwil", "beta", 1.5, "expected at most 1, got 1.5"),
        ("cql", "target_rate", 2, "expected at most 1, got 2"),
        ("iql", "expectile", 1.01, "expected at most 1, got 1.01"),
        ("cql", "conservatism", -1e-9, "expected at least 0, got -1e-09"),
    ],
)
def test_a_bad_value_is_refused_by_name(learner, setting, value, expected):
    with pytest.raises(InputError, match=rf"^{learner}\.{setting}: {expected}$"):
        learner_config(learner, **{setting: value})


def test_configurations_cannot_be_changed():
    config: LearnerConfig = learner_config("bc")
    with pytest.raises(AttributeError):
        config.updates = 3  # type: ignore[attr-defined]


def test_every_setting_has_a_docstring_and_its_bounds():
    for config in LEARNERS.values():
        assert all(setting.meaning for setting in settings_of(config))
    described = {
        (name, setting.name): (setting.type, setting.default, setting.bounds)
        for name in ("iql", "slateq")
        for setting in settings_of(LEARNERS[name])
    }
    assert described["iql", "updates"] == ("int", 2000, "at least 1")
    assert described["iql", "expectile"] == ("float", 0.95, "at least 0, at most 1")
    choices = "'optimal' or 'greedy' or 'top-k'"
    assert described["slateq", "construction"] == ("str", "optimal", choices)


@pytest.mark.integration
def test_listing_and_configuring_learners_is_light():
    code = (
        "import sys; from slateflow.learners import LEARNERS, learner_config; "
        "[learner_config(name) for name in LEARNERS]; "
        "print([name for name in ('torch', 'ray', 'recsim') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
