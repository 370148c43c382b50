"""A dataset in figures and as a page with plots."""
