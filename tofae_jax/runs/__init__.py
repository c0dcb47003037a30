"""A run on disk: folder, record, history, lineage, figures and report. No JAX is imported here."""
