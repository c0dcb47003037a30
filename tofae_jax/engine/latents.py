"""The latent space of a trained model, as figures need it: vectors of events, and what draws from the space become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tofae_jax.engine.build import RunSetup
from tofae_jax.runs.saved_run import Latents
from tofae_jax.steps import Batch, EvalOutput, StepSettings, normalised

MOST_VECTORS = 5000
N_SAMPLES = 12


class LatentCollector:
    """Gathers the latent vectors of an evaluation's first events; give `add` to `Evaluator.details` as `each`."""

    def __init__(self, setup: RunSetup, variables: Any, settings: StepSettings) -> None:
        """Of the model of a run, which must have a latent space."""
        model, options = setup.model, setup.options
        self._setup, self._variables, self._settings = setup, variables, settings
        self._encode: Callable[..., jax.Array] = jax.jit(
            lambda variables, image, settings: model.encode(variables, normalised(image, settings, options))
        )
        self._found: list[np.ndarray] = []

    def add(self, batch: Batch, evaluated: EvalOutput) -> None:
        """Take the vectors of a batch, unless there are enough."""
        if sum(map(len, self._found)) < MOST_VECTORS:
            vectors = self._encode(self._variables, evaluated.degraded.input, self._settings)
            self._found.append(np.asarray(jax.device_get(vectors), np.float32)[batch.is_event])

    def latents(self, labels: list[str] | None, *, seed: int) -> Latents:
        """The vectors, with as many of the events' labels, and draws from the normal distribution that fits them."""
        vectors = np.concatenate(self._found)[:MOST_VECTORS]
        known = np.asarray(labels[: len(vectors)] if labels else [""] * len(vectors), np.str_)
        return Latents(vectors, known, self._samples(vectors, seed), self._has_time)

    @property
    def _has_time(self) -> bool:
        return self._setup.options.normalisation.has_time

    def _samples(self, vectors: np.ndarray, seed: int) -> np.ndarray:
        """What the model makes of draws, as direct outputs in time bins, or 1 where lit."""
        model, options = self._setup.model, self._setup.options
        finite = vectors[np.isfinite(vectors).all(axis=1)].astype(np.float64)
        if len(finite) < 2:
            return np.zeros((0, model.n_y, model.n_x), np.float32)
        spread = np.linalg.svd(finite - finite.mean(axis=0), full_matrices=False)
        scaled = (spread[1] / np.sqrt(len(finite) - 1))[:, None] * spread[2]  # of the covariance: its square root
        draws = np.random.default_rng(seed).normal(size=(N_SAMPLES, len(scaled))) @ scaled + finite.mean(axis=0)
        normalisation = options.normalisation

        def read(variables: Any, draws: jax.Array, threshold: Any) -> jax.Array:
            output = model.decode(variables, draws)
            if not self._has_time:
                return normalisation.is_lit(output, threshold=threshold)
            return normalisation.renormalise(output, threshold=threshold, n_t=options.shape_xyt[2])

        images = jax.jit(read)(self._variables, draws.astype(np.float32), self._settings.threshold)
        return np.asarray(jax.device_get(images), np.float32)
