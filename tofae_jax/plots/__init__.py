"""Figures, made from arrays and plain dicts: no globals, no training code, no jax.

Every figure function returns a `matplotlib.figure.Figure` that pyplot does not know; `runs.figure_output.deliver` shows
or saves it.
What a figure shows is `figure.get_label()`, e.g. for a progress line. `plots.style` holds the colours and settings.
"""

from tofae_jax.plots import style
from tofae_jax.plots.comparison import compare_curves, compare_outputs, radar
from tofae_jax.plots.curves import Against, output_comparison, training_curves
from tofae_jax.plots.detector_axes import Units
from tofae_jax.plots.distributions import dataset_distributions
from tofae_jax.plots.event_3d import event_3d
from tofae_jax.plots.event_view import EventView, check_view, hit_image
from tofae_jax.plots.labels import LossNames
from tofae_jax.plots.latents import latent_projection, latent_samples
from tofae_jax.plots.metric_grid import metrics_grid, training_details
from tofae_jax.plots.occlusion import occlusion_by_hits
from tofae_jax.plots.photon_bands import photon_bands
from tofae_jax.plots.pixel_difference import pixel_difference
from tofae_jax.plots.score_quality import score_quality
from tofae_jax.plots.stage_panels import stage_panels
from tofae_jax.plots.threshold_telemetry import threshold_telemetry
from tofae_jax.plots.timeline import timer_timeline

__all__ = [
    "Against",
    "EventView",
    "LossNames",
    "Units",
    "check_view",
    "compare_curves",
    "compare_outputs",
    "dataset_distributions",
    "event_3d",
    "hit_image",
    "latent_projection",
    "latent_samples",
    "metrics_grid",
    "occlusion_by_hits",
    "output_comparison",
    "photon_bands",
    "pixel_difference",
    "radar",
    "score_quality",
    "stage_panels",
    "style",
    "threshold_telemetry",
    "timer_timeline",
    "training_curves",
    "training_details",
]
