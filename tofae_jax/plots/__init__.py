"""Figures, made from arrays and plain dicts: no globals, no training code, no jax.

Every figure function returns a `matplotlib.figure.Figure` that pyplot does not know; `deliver` shows or saves it.
What a figure shows is `figure.get_label()`, e.g. for a progress line. `plots.style` holds the colours and settings.
"""

from tofae_jax.plots import style
from tofae_jax.plots.curves import Against, output_comparison, training_curves
from tofae_jax.plots.delivery import deliver
from tofae_jax.plots.distributions import dataset_distributions
from tofae_jax.plots.events import event_3d, stage_panels
from tofae_jax.plots.frame import Units
from tofae_jax.plots.telemetry import threshold_telemetry
from tofae_jax.plots.timeline import timer_timeline
from tofae_jax.plots.views import EventView, check_view, load_views, save_views

__all__ = [
    "Against",
    "EventView",
    "Units",
    "check_view",
    "dataset_distributions",
    "deliver",
    "event_3d",
    "load_views",
    "output_comparison",
    "save_views",
    "stage_panels",
    "style",
    "threshold_telemetry",
    "timer_timeline",
    "training_curves",
]
