"""Commands, recipes, Python and links in the documents are real."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from flows.cli.main import _app
from slateflow import gate_limits
from slateflow.environments import preset, presets
from slateflow.evaluation.off_policy import (
    contributions,
    corrections,
    estimates,
    item_sessions,
    overlap,
    propensity_check,
    slate_sessions,
    visitors,
)
from slateflow.trajectories import Recipe, read_recipe
from slateflow.trajectories.schema import columns_of

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
COMMAND = re.compile(r"(?:^    |`)(?:uv run )?slateflow ([^`\n]+)", re.MULTILINE)
COMPLETE = ("run", "up", "environments", "learners")
"""Commands without required arguments; others may appear in a sentence by name only."""
WRITTEN = ("datasets/shop.toml", "datasets/logs/monday.parquet")
"""Files that readers of the documents create."""

EVIDENCE = (
    f"more than {overlap.MOST_UNSEEN:.0%} of the policy's choices are hardly seen in the logs",
    f"the mean weight is more than {gate_limits.MOST_APART:.0%} off 1",
    f"rests on fewer than {overlap.LEAST_EFFECTIVE:.0f} effective rewards",
    f"one session carries more than {overlap.MOST_OF_ONE:.0%} of the estimate",
    f"or than {gate_limits.LEAST_EVENTS:.0f} where they are rare and of about one size",
    f"the skewness of the estimate is above {overlap.MOST_SKEWED}",
    f"fewer than {overlap.VERDICT_SESSIONS} held out",
    f"an effective sample of learnt weights below {overlap.LEAST_STEPS:.0%} of the steps",
    f"fewer than {overlap.VERDICT_ROWS_PER_FEATURE} steps in all for each feature",
    f"or than {item_sessions.ROWS_BY_PROPENSITY} where propensities correct it",
    f"leave fewer than {corrections.CARRIERS_TO_CORRECT} effective decisions",
    f"find fewer than {corrections.LEAST_SHARE_OF_STEPS} times the policy's steps, or more than "
    f"{corrections.MOST_SHARE_OF_STEPS} times",
    f"at most {corrections.MOST_WIDER:.0f} times as wide",
    f"that takes more than {item_sessions.MOST_REMEMBERED} features",
    f"change the estimate by {propensity_check.DISAGREEMENT_BEYOND_CHANCE} standard errors of "
    "the change",
    f"the effective number of their weights is {propensity_check.CARRIERS_TO_CHECK}",
    f"or fewer than {slate_sessions.ROWS_PER_FEATURE} where "
    f"{slate_sessions.CHOICES_PER_FEATURE} of them are clicked",
    f"Each is at least {contributions.LEAST_P:g} before the correction",
    f"the sessions are of fewer than {visitors.LEAST_VISITORS} visitors",
    f"at most {estimates.MOST_ROWS:,} rows are in memory, and {estimates.MOST_SLATES:,} of slates",
)
PLACEHOLDER = re.compile(r"[…\[·|]|\b[A-Z]{2,}\b|  ")


def commands() -> list[str]:
    """Commands that can be typed unchanged; those with placeholders are left out."""
    texts = (path.read_text(encoding="utf-8") for path in DOCUMENTS)
    found = dict.fromkeys(match.strip() for text in texts for match in COMMAND.findall(text))
    return [
        command
        for command in found
        if not PLACEHOLDER.search(command)
        and not command.startswith("-")
        and (" " in command or command in COMPLETE)
    ]


def blocks(name: str, language: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_there_are_commands_of_many_kinds():
    kinds = {command.split()[0] for command in commands()}
    assert kinds >= {"run", "train", "tune", "up", "describe", "export", "import", "rollback"}


@pytest.mark.parametrize("command", commands())
def test_a_command_can_be_called_as_it_stands(command):
    words = shlex.split(command)
    _app(words[0]).parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("name", NAMES)
def test_recipes_can_be_read(name, tmp_path):
    for number, text in enumerate(blocks(name, "toml")):
        (tmp_path / f"recipe-{number}.toml").write_text(text, encoding="utf-8")
        recipe = read_recipe(tmp_path, f"recipe-{number}")
        if isinstance(recipe, Recipe):
            assert sum(recipe.policy_episodes().values()) == recipe.episodes


def test_the_recipe_with_parameters_is_the_file():
    shown = [tomllib.loads(text) for text in blocks("docs/datasets.md", "toml")]
    file = ROOT / "datasets" / "sensitive-users.toml"
    assert tomllib.loads(file.read_text(encoding="utf-8")) in shown


@pytest.mark.parametrize("name", presets())
def test_the_columns_of_every_world_are_in_the_table(name):
    text = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    text = text.partition("## Recipes")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", text, re.MULTILINE)
    documented = {one: kind for names, kind in rows for one in re.findall(r"`(\w+)`", names)}
    spec = preset(name)
    for column, (dtype, shape) in columns_of(spec).items():
        if column not in spec.response_columns:
            kind = {"float": "float32", "double": "float64"}.get(str(dtype), str(dtype))
            assert kind in documented[column], column
            assert ("list" in documented[column]) == bool(shape), column


def test_the_worlds_page_plays():
    (code,) = blocks("docs/worlds.md", "python")
    played: dict = {}
    exec(code, played)
    assert played["reward"].shape == (1000,)
    assert (played["reward"] > 0).all()


def anchors(path: Path) -> set[str]:
    """The anchors of headings: lower-case words with hyphens between them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", [*NAMES, "CHANGELOG.md"])
def test_links_lead_somewhere(name):
    path = ROOT / name
    for target, anchor in re.findall(
        r"\]\(([^)#]*)(?:#([^)]*))?\)", path.read_text(encoding="utf-8")
    ):
        if not target.startswith("http"):
            there = path.parent / target if target else path
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_named_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for path in re.findall(r"\b(?:slateflow|tasks|flows|tests|datasets)/[\w/.-]+\.\w+", text):
        if path not in WRITTEN:
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("sentence", EVIDENCE)
def test_a_threshold_is_the_one_in_the_code(sentence):
    text = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    assert sentence in " ".join(text.split())


def test_the_readme_is_for_starting():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
