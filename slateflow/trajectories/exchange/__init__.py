"""Datasets for other libraries and from them: export, import, RLlib's JSON, flat rows."""
