"""Classical image filters: the filtered value at a hit's pixel is its score.

Each filters the lit image (1 where there is a hit) or the embedded-ToF image in units of the time window; which one,
and the filter's own parameters, are chosen on validation events. scikit-image and bm3d are optional peers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from scipy import ndimage

from .events import EventSet
from .methods import HitScorer, grid

IMAGES = ("lit", "tof")
SIDE_BY_SIDE = (1, 2)  # axes of an image in [n, y, x]


def _score(events: EventSet, *, image: str, filtered: Callable[..., np.ndarray], **settings: Any) -> np.ndarray:
    """Scores [n, k] from what a filter makes of images [n, y, x]; occluded hits cannot be kept."""
    images = events.image / events.detector.n_t if image == "tof" else (events.image > 0).astype(np.float32)
    return np.where(events.visible, events.at_hits(filtered(images, **settings)), -np.inf)


def _median(images: np.ndarray, *, size: int) -> np.ndarray:
    return ndimage.median_filter(images, size=size, axes=SIDE_BY_SIDE)


def _gaussian(images: np.ndarray, *, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(images, sigma=sigma, axes=SIDE_BY_SIDE)


def _one_by_one(function: Callable[..., np.ndarray], images: np.ndarray, **settings: Any) -> np.ndarray:
    return np.stack([function(image, **settings) for image in images])


def classical_filters(say: Callable[[str], None]) -> list[HitScorer]:
    """All filters whose libraries are there; `say` is told of the others."""
    quick = {"chosen_anew": True}
    filters = [
        _scorer("median", _median, quick, size=(3, 5, 7)),
        _scorer("Gaussian", _gaussian, quick, sigma=(1.0, 2.0, 3.0, 5.0, 8.0)),
    ]
    try:
        restoration: Any = import_module("skimage.restoration")
    except ImportError:
        say("bilateral, non-local means, total variation: left out, as scikit-image is not installed")
    else:
        filters += _of_scikit_image(restoration)
    try:
        bm3d: Any = import_module("bm3d")
    except ImportError:
        say("BM3D: left out, as bm3d is not installed")
    else:
        # more than a second per image
        effort = {"settings_events": 5, "threshold_events": 30, "at_reference_only": True}
        filters.append(_scorer("BM3D", partial(_one_by_one, bm3d.bm3d), effort, sigma_psd=(0.1, 0.3)))
    return filters


def _of_scikit_image(restoration: Any) -> list[HitScorer]:
    bilateral, non_local_means, total_variation = (
        partial(_one_by_one, function)
        for function in (
            restoration.denoise_bilateral,
            partial(restoration.denoise_nl_means, fast_mode=True),
            restoration.denoise_tv_chambolle,
        )
    )
    return [
        _scorer("bilateral", bilateral, sigma_spatial=(1.0, 2.0, 3.0), sigma_color=(0.1, 1.0)),
        _scorer("non-local means", non_local_means, patch_size=(3, 7), patch_distance=(5, 9), h=(0.1, 0.4, 1.0)),
        _scorer("total variation", total_variation, weight=(0.1, 0.3, 1.0, 3.0)),
    ]


def _scorer(name: str, filtered: Callable[..., np.ndarray], effort: Any = None, **values: Any) -> HitScorer:
    return HitScorer(name, partial(_score, filtered=filtered), grid(image=IMAGES, **values), **(effort or {}))
