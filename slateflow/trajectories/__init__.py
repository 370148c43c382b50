"""Logged trajectories: the contract of a row, the recipe, the dataset and its manifest."""

from slateflow.trajectories.dataset import MANIFEST, Dataset
from slateflow.trajectories.generate import generate
from slateflow.trajectories.parts import Part
from slateflow.trajectories.recipe import Recipe, read_recipe
from slateflow.trajectories.schema import SCHEMA_VERSION, Trajectories, arrow_schema
from slateflow.trajectories.storage import Folder

__all__ = [
    "MANIFEST",
    "SCHEMA_VERSION",
    "Dataset",
    "Folder",
    "Part",
    "Recipe",
    "Trajectories",
    "arrow_schema",
    "generate",
    "read_recipe",
]
