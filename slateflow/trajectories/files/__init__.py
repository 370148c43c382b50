"""Datasets on disk or in an object store: folders, atomic files, part files, the manifest."""
