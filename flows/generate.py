"""Generate: logged trajectories from random and greedy policies into Parquet."""

from __future__ import annotations

from prefect import flow

from flows.parameters import DataURL, Environment, Episodes, Seed, Workers, resolve_seed
from slateflow.environments import DEFAULT_PRESET
from tasks.generate import find_recipe, generate_dataset
from tasks.references import DatasetReference


@flow(name="generate", flow_run_name="generate {recipe}")
def generate(
    recipe: Environment = DEFAULT_PRESET,
    episodes: Episodes = None,
    seed: Seed = None,
    data: DataURL = None,
    workers: Workers = 1,
) -> DatasetReference:
    """Make the dataset of a recipe, or find it made."""
    return generate_dataset(find_recipe(recipe, episodes, resolve_seed(seed)), data, workers)
