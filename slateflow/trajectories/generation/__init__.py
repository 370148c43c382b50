"""From a recipe to a published dataset: the plan of its parts, their simulation, their writing."""
