"""Masked output of the steps: `mask` of images, hit by hit and pixel by pixel the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_parts import SHAPE, Hits, Images, diagonals

from tofae_jax.core import hits
from tofae_jax.models import Output, model_from_module
from tofae_jax.steps import StepSettings, step_options
from tofae_jax.steps.outputs import decode_output


@pytest.mark.backlog("B47")
@pytest.mark.parametrize("normalisation", ["gapped", "binary", "none"])
@pytest.mark.parametrize("tolerance", [None, 3.0])
def test_decode_output_masked_image_is_that_of_mask(normalisation, tolerance):
    model = model_from_module(Images(), shape_xyt=SHAPE)
    options = step_options(model, "mse", max_signal=8, max_noise=4, normalisation=normalisation)
    event_hits = jnp.asarray(diagonals().hits)
    image = hits.embed(event_hits, n_x=SHAPE[0], n_y=SHAPE[1])
    raw = jax.random.uniform(jax.random.key(0), image.shape)
    raw = jnp.where(jax.random.uniform(jax.random.key(1), image.shape) < 0.5, raw, 0.5 + image / 80)
    if normalisation == "none":
        raw = jnp.where(raw > 0.5, jnp.round((raw - 0.5) * 80), 0)
    settings = StepSettings(tof_tolerance_bins=jnp.inf if tolerance is None else tolerance)
    decoded = decode_output(image, event_hits, Output(image=raw), settings, options)
    compared = None if normalisation == "binary" else tolerance
    np.testing.assert_array_equal(decoded.masked, hits.mask(image, decoded.direct, tof_tolerance=compared))
    kept = jnp.where(decoded.kept[..., None], event_hits, 0)
    np.testing.assert_array_equal(decoded.masked, hits.embed(kept, n_x=SHAPE[0], n_y=SHAPE[1]))
    assert 0 < decoded.kept.sum() < hits.is_hit(event_hits).sum()


def test_decode_output_threshold_below_the_normalisation_keeps_dim_pixels():
    """An operating point may lie below the normalisation's threshold, where the direct output shows nothing."""
    model = model_from_module(Images(), shape_xyt=SHAPE)
    options = step_options(model, "mse", max_signal=8, max_noise=4)
    event_hits = jnp.asarray(diagonals().hits)
    image = hits.embed(event_hits, n_x=SHAPE[0], n_y=SHAPE[1])
    dim = Output(image=jnp.full(image.shape, 0.3))
    assert not decode_output(image, event_hits, dim, StepSettings(), options).kept.any()
    decoded = decode_output(image, event_hits, dim, StepSettings(score_threshold=0.2), options)
    np.testing.assert_array_equal(decoded.kept, decoded.is_shown)
    assert not decoded.direct.any()


def test_decode_output_of_hit_scores_shows_the_kept_hits():
    model = model_from_module(Hits(), shape_xyt=SHAPE, inputs="hits", outputs="hits")
    options = step_options(model, "hit_bce", max_signal=8, max_noise=4)
    event_hits = jnp.asarray(diagonals().hits)
    image = hits.embed(event_hits, n_x=SHAPE[0], n_y=SHAPE[1])
    logits = jax.random.normal(jax.random.key(0), event_hits.shape[:2])
    decoded = decode_output(image, event_hits, Output(hit_logits=logits), StepSettings(), options)
    np.testing.assert_array_equal(decoded.kept, logits > 0)
    kept = np.where(np.asarray(logits > 0)[..., None], event_hits, 0)
    np.testing.assert_array_equal(decoded.masked, hits.embed(jnp.asarray(kept), n_x=SHAPE[0], n_y=SHAPE[1]))
    assert 0 < decoded.kept.sum() < decoded.kept.size
