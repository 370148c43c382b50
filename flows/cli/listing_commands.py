"""The commands that list environments, learners, and the returns of simple policies."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from flows import bounds
from flows.bounded_option import number
from flows.cli.options import JSON, print_json
from tasks.project import DEFAULT_RECIPE


def baseline_command(
    name: Annotated[
        str, Parameter(help="Recipe, whose policies also play, or a preset.")
    ] = DEFAULT_RECIPE,
    /,
    *,
    episodes: Annotated[int, number(bounds.EvaluationEpisodes, "Episodes of each policy.")] = 1000,
    seed: Annotated[int, number(bounds.Seed, "Seed of users and noise.")] = 0,
    as_json: JSON = False,
) -> None:
    """Play random, greedy and its opposite: returns, and slopes of the reward.

    Example: slateflow baseline modified-lts-20-2 --episodes 200
    """
    from flows.cli.console import show_baselines
    from slateflow.environments import preset, presets
    from slateflow.errors import InputError
    from slateflow.evaluation import measure_baselines
    from slateflow.trajectories import LoggedRecipe
    from slateflow.trajectories.generation.recipe import recipe_names
    from tasks.experiment import find_recipe
    from tasks.project import RECIPES

    if name in presets() and name not in recipe_names(RECIPES):
        spec, others = preset(name), None
    else:
        recipe = find_recipe(name)
        if isinstance(recipe, LoggedRecipe):
            raise InputError(
                f"{name}: expected a recipe with an environment, got own logs, which nobody can "
                "play; look at them with `slateflow describe`"
            )
        spec, others = recipe.spec, recipe.behaviours
    show_baselines(name, measure_baselines(spec, episodes, seed, others), as_json)


def environments_command(*, as_json: JSON = False) -> None:
    """List the presets and their parameters, which a recipe's `[parameters]` may change.

    Example: slateflow environments
    """
    from slateflow.environments import presets

    if as_json:
        print_json({name: spec.to_dict() for name, spec in presets().items()})
        return
    for name, spec in presets().items():
        fields = {key: value for key, value in spec.to_dict().items() if key != "name"}
        print(name)
        print("  " + "\n  ".join(f"{key} = {value}" for key, value in fields.items()))


def learners_command(*, as_json: JSON = False) -> None:
    """List the learners and their settings, which `train --set` changes.

    Example: slateflow learners
    """
    from slateflow.learners import LEARNERS
    from slateflow.learners.config import settings_of

    if as_json:
        print_json(
            {
                name: {setting.name: setting.default for setting in settings_of(config)}
                for name, config in LEARNERS.items()
            }
        )
        return
    for name, config in LEARNERS.items():
        print(f"{name}: {(config.__doc__ or '').strip().splitlines()[0]}")
        for setting in settings_of(config):
            bounds = f" ({setting.bounds})" if setting.bounds else ""
            print(f"  {setting.name} = {setting.default}{bounds}: {setting.meaning}")
