"""Simulated recipes of several nights: unions of single nights, of which old ones are reused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slateflow.errors import InputError
from slateflow.learners import learner_config, train
from slateflow.trajectories import MANIFEST, Folder, Recipe, generate, read_recipe
from slateflow.trajectories.generation import generate as generation
from slateflow.trajectories.held_out import training_logs
from tests.trajectories.generation.test_recipe import GOOD, written

MONTH = Recipe(
    name="month",
    environment="interest-evolution",  # its datasets have a catalogue, too
    episodes=20,
    seed=11,
    policies={"random": 0.6, "greedy": 0.4},
    parameters={"step_limit": 3, "num_features": 10},
    nights=3,
)


@pytest.fixture
def simulated(monkeypatch) -> list[int]:
    """The seeds of the simulated parts."""
    seeds: list[int] = []
    real = generation.simulate

    def simulate(spec, parts, seed):
        seeds.extend([seed] * len(parts))
        return real(spec, parts, seed)

    monkeypatch.setattr(generation, "simulate", simulate)
    return seeds


def test_the_rows_are_those_of_the_single_nights(tmp_path):
    whole = generate(MONTH, Folder(str(tmp_path))).verify()
    assert (whole.episodes, [part.policy for part in whole.parts]) == (
        60, ["random"] * 3 + ["greedy"] * 3,
    )  # fmt: skip
    parts = list(whole.iter_parts())
    for number, seed in enumerate((9, 10, 11)):
        night = generate(
            replace(MONTH, seed=seed, nights=1, name=f"n{seed}"), Folder(str(tmp_path))
        )
        for part, alone in zip(parts[number::3], night.iter_parts(), strict=True):
            for name, values in alone.columns().items():
                shift = seed * 2**32 if name == "episode" else 0
                np.testing.assert_array_equal(part.columns()[name], values + shift)
    numbers = whole.read().episode
    assert len(np.unique(numbers)) == 60


def test_a_night_simulates_itself_alone(tmp_path, simulated):
    for seed in range(11, 15):
        simulated.clear()
        kept = generate(MONTH.varied(seed=seed), Folder(str(tmp_path / "data"))).verify()
        assert simulated == ([9, 9, 10, 10, 11, 11] if seed == 11 else [seed, seed])
        fresh = generate(MONTH.varied(seed=seed), Folder(str(tmp_path / f"fresh-{seed}")))
        assert (kept.digest, kept.parts) == (fresh.digest, fresh.parts)
        links = [Path(kept.path, part.path).stat().st_nlink for part in kept.parts[:3]]
    assert links == [3, 2, 1]


def test_another_recipe_takes_no_nights(tmp_path, simulated):
    generate(MONTH, Folder(str(tmp_path)))
    for changed in (
        replace(MONTH.varied(seed=12), episodes=25, variation=".other"),
        replace(MONTH.varied(seed=12), parameters={**MONTH.parameters, "step_limit": 4}),
        replace(MONTH.varied(seed=13), policies={"random": 0.5, "greedy": 0.5}),
    ):
        simulated.clear()
        generate(changed, Folder(str(tmp_path)))
        assert len(simulated) == 6
    simulated.clear()
    generate(replace(MONTH.varied(seed=14), nights=5), Folder(str(tmp_path)))
    assert simulated == [12, 12, 13, 13, 14, 14]  # the first has 10 and 11
    simulated.clear()
    shares = {"random": 0.5, "greedy": 0.5}
    generate(replace(MONTH.varied(seed=15), nights=5, policies=shares), Folder(str(tmp_path)))
    assert simulated == [14, 14, 15, 15]


@pytest.mark.parametrize("damage", ["lost", "half", "flipped"])
def test_a_damaged_night_is_made_again(tmp_path, simulated, damage):
    data = Folder(str(tmp_path))
    first = generate(MONTH, data)
    second = generate(MONTH.varied(seed=12), data)
    file = Path(second.path, second.parts[0].path)
    whole = file.read_bytes()
    if damage == "lost":
        Path(first.path, first.parts[1].path).unlink()
        file.unlink()
    else:
        flipped = whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]
        file.write_bytes(flipped if damage == "flipped" else b"half")  # both datasets' file
        with pytest.raises(InputError):
            first.verify()
    Path(second.path, MANIFEST).unlink()
    simulated.clear()
    again = generate(MONTH.varied(seed=12), data).verify()
    assert again.digest == second.digest
    assert simulated == [10]
    assert file.read_bytes() == whole


@pytest.mark.integration
def test_two_workers_give_the_digest_of_one(tmp_path):
    one = generate(MONTH, Folder(str(tmp_path / "one")))
    two = generate(MONTH, Folder(str(tmp_path / "two")), workers=2)
    assert (two.digest, two.parts) == (one.digest, one.parts)


def test_bandits_and_training_logs_read_the_new_night_alone(tmp_path, read):
    for seed in (11, 12):
        dataset = generate(MONTH.varied(seed=seed), Folder(str(tmp_path)))
        read.clear()
        training = training_logs(dataset, Folder(str(tmp_path / "training" / f"month.{seed}")))
        kept, _ = train(training, learner_config("linucb"), 0, checkpoints=tmp_path / "kept")
        new = {part.day for part in dataset.parts[2:3]}
        everything = {part.day for part in dataset.parts}
        assert {part.day for part in read} == (everything if seed == 11 else new)
        fresh, _ = train(training, learner_config("linucb"), 0)
        np.testing.assert_array_equal(kept.head, fresh.head)
        rows = dataset.read()
        wanted = rows.episode[~dataset.hold_out.mask(rows)]
        assert training.read().episode.tolist() == wanted.tolist()


def test_the_key_of_a_recipe(tmp_path):
    text = GOOD.replace("seed = 3", "seed = 3\nnights = 4")
    recipe = read_recipe(written(tmp_path, text), "mine")
    assert recipe.to_dict()["nights"] == recipe.nights == 4
    assert [one.seed for one in recipe.single_nights()] == [0, 1, 2, 3]
    with pytest.raises(InputError, match=r"mine.toml: nights: expected at most seed \+ 1 \(4\)"):
        read_recipe(written(tmp_path, text.replace("nights = 4", "nights = 5")), "mine")
    with pytest.raises(InputError, match="nights: expected at least 1, got 0"):
        read_recipe(written(tmp_path, text.replace("nights = 4", "nights = 0")), "mine")
