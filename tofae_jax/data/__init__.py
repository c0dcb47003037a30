"""Datasets of hit lists: the format, its input pipeline, importers, writers."""
