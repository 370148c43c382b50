"""Logged trajectories: the contract of a row, the recipe, the dataset and its manifest."""

from slateflow.trajectories.files.dataset import MANIFEST, Dataset
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.part_files import PartFile
from slateflow.trajectories.generation.generate import generate
from slateflow.trajectories.generation.recipe import Recipe, read_recipe
from slateflow.trajectories.schema import SCHEMA_VERSION, Trajectories, arrow_schema

__all__ = [
    "MANIFEST",
    "SCHEMA_VERSION",
    "Dataset",
    "Folder",
    "PartFile",
    "Recipe",
    "Trajectories",
    "arrow_schema",
    "generate",
    "read_recipe",
]
