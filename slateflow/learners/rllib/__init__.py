"""The learners that run on RLlib, and how RLlib reads our datasets."""
