"""Own logs: recipes with a source, its files, and their way into a dataset."""
