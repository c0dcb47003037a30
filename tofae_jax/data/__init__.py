"""Datasets of hit lists: the format, file formats, simulated events, batches."""
