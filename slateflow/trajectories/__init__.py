"""Logged trajectories: the contract of a row, the recipe, the dataset and its manifest."""

from slateflow.trajectories.encoding import Encoding
from slateflow.trajectories.files.dataset import MANIFEST, Dataset
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.part_files import PartFile
from slateflow.trajectories.generation.generate import generate
from slateflow.trajectories.generation.recipe import AnyRecipe, Recipe, read_recipe
from slateflow.trajectories.schema import Trajectories
from slateflow.trajectories.sources.recipe import LoggedRecipe

__all__ = [
    "MANIFEST",
    "AnyRecipe",
    "Dataset",
    "Encoding",
    "Folder",
    "LoggedRecipe",
    "PartFile",
    "Recipe",
    "Trajectories",
    "generate",
    "read_recipe",
]
