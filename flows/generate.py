"""Generate: logged trajectories from random and greedy policies into Parquet."""

from __future__ import annotations

from prefect import flow

from flows.bounds import Workers
from flows.parameters import DataURL, Episodes, RecipeOrName, Seed, resolve_seed
from tasks.experiment import Experiment, find_recipe
from tasks.generate import generate_dataset
from tasks.project import DEFAULT_RECIPE
from tasks.server.orphans import record_process


@flow(name="generate", flow_run_name="generate {recipe}", on_running=[record_process])
def generate(
    recipe: RecipeOrName = DEFAULT_RECIPE,
    episodes: Episodes = None,
    seed: Seed = None,
    data: DataURL = None,
    workers: Workers = 1,
) -> Experiment:
    """Create the dataset of a recipe unless it already exists.

    Args:
        recipe: Name of the recipe in `datasets`; there is one for each preset.
        episodes: Episodes of the dataset, 1 or more, instead of the recipe's.
        seed: Seed, 0 or more, instead of the recipe's. `date` takes the scheduled day as a number,
            so that every night has new logs; `hour` day and hour.
        data: Folder of the datasets, or a URL of pyarrow.fs; default `datasets`.
        workers: Processes that simulate, 1 or more.
    """
    chosen = find_recipe(recipe, episodes, resolve_seed(seed), data)
    return generate_dataset(chosen, data, workers)
