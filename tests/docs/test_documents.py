"""Commands, recipes, Python and links in the documents are real."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from flows.cli.main import _app
from slateflow.environments import preset, presets
from slateflow.trajectories import Recipe, read_recipe
from slateflow.trajectories.schema import columns_of

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
COMMAND = re.compile(r"(?:^    |`)(?:uv run )?slateflow ([^`\n]+)", re.MULTILINE)
COMPLETE = ("run", "up", "environments", "learners")
"""Commands that need no argument; of others a sentence may name the word alone."""
PLACEHOLDER = re.compile(r"[…\[·|]|\b[A-Z]{2,}\b|  ")


def commands() -> list[str]:
    """Commands that can be typed as they stand; those with placeholders are left out."""
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


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert ((ROOT / name).parent / target).exists(), target


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_named_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:slateflow|tasks|flows|tests|datasets)/[\w/.-]+\.\w+)`", text):
        if "<" not in path and path != "datasets/shop.toml":
            assert (ROOT / path).exists(), path


def test_the_readme_is_for_starting():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
