"""Every test of figures leaves no figure with pyplot, and matplotlib's settings as they were."""

from plotted import nothing_left_behind  # noqa: F401 (fixture)
