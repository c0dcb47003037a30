"""Normalisations of images, both ways."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tofae_jax.core.normalisation import NORMALISATIONS, normalisation_by_name

GAPPED = NORMALISATIONS["gapped"]
THRESHOLDS = [0.0, 0.25, 0.5, 0.9]


@pytest.mark.parametrize("r", THRESHOLDS)
def test_gapped_both_ways_equal_the_reference(reference, r):
    stages = reference("stages")
    n_t = int(stages["time_dimension"])
    image, output = jnp.asarray(stages["image"][:, 0]), jnp.asarray(stages["network_output"][:, 0])
    normalised = GAPPED.normalise(image, threshold=r, n_t=n_t)
    np.testing.assert_allclose(normalised, stages[f"gapped_norm_r{r}"][:, 0], rtol=1e-6)
    back = GAPPED.renormalise(output, threshold=r, n_t=n_t)
    np.testing.assert_allclose(back, stages[f"gapped_renorm_r{r}"][:, 0], rtol=1e-5, atol=1e-3)
    bins = GAPPED.renormalise(output, threshold=r, n_t=n_t, whole_bins=True)
    np.testing.assert_array_equal(bins, stages[f"gapped_renorm_quantised_r{r}"][:, 0])


def test_binary_normalise_equals_the_reference(reference):
    stages = reference("stages")
    image = jnp.asarray(stages["image"][:, 0])
    ours = NORMALISATIONS["binary"].normalise(image, threshold=0.5, n_t=1000)
    np.testing.assert_array_equal(ours, stages["mask_optimised_norm"][:, 0])


@pytest.mark.slow
@pytest.mark.backlog("B13", "B33")
@given(st.floats(0, 0.99), st.sampled_from([1, 7, 1000, 2000]))
def test_gapped_whole_bins_come_back_exactly(r, n_t):
    image = jnp.arange(n_t + 1, dtype=jnp.float32)[None]
    kept = image + 0
    there = GAPPED.normalise(image, threshold=r, n_t=n_t)
    assert float(there.max()) <= 1
    back = GAPPED.renormalise(there, threshold=r, n_t=n_t, whole_bins=True)
    np.testing.assert_array_equal(back, image)
    np.testing.assert_array_equal(image, kept)


def test_gapped_renormalise_values_at_threshold_are_no_hits():
    output = jnp.array([[0.5, np.nextafter(np.float32(0.5), np.float32(1)), 0.0]])
    back = GAPPED.renormalise(output, threshold=0.5, n_t=1000)
    assert back[0, 0] == 0
    assert back[0, 1] > 0
    assert back[0, 2] == 0
    zero = GAPPED.renormalise(jnp.array([[0.0, 1e-6]]), threshold=0.0, n_t=1000)
    assert zero[0, 0] == 0
    assert zero[0, 1] > 0


def test_gapped_renormalise_rounds_half_to_even():
    output = jnp.array([[0.5, 1.5, 2.5]]) / 8  # exact in binary
    back = GAPPED.renormalise(output, threshold=0.0, n_t=8, whole_bins=True)
    np.testing.assert_array_equal(back, [[0, 2, 2]])


@pytest.mark.parametrize("r", [1, 1.0, -0.1, 2])
def test_gapped_impossible_threshold_raises(r):
    for call in (GAPPED.normalise, GAPPED.renormalise):
        with pytest.raises(ValueError, match="threshold must satisfy 0 <= threshold < 1"):
            call(jnp.zeros((1, 1)), threshold=r, n_t=10)


@pytest.mark.backlog("B49")
def test_binary_gives_a_mask_and_refuses_times():
    binary = NORMALISATIONS["binary"]
    np.testing.assert_array_equal(binary.is_lit(jnp.array([[0.4, 0.6]]), threshold=0.5), [[False, True]])
    assert not binary.has_time
    with pytest.raises(ValueError, match="keeps no time"):
        binary.renormalise(jnp.zeros((1, 1)), threshold=0.5, n_t=10)


@pytest.mark.backlog("B63")
def test_none_both_ways_is_a_bypass():
    none = NORMALISATIONS["none"]
    image = jnp.array([[0.0, 3.0, 1000.0]])
    np.testing.assert_array_equal(none.normalise(image, threshold=0.5, n_t=1000), image)
    np.testing.assert_array_equal(none.renormalise(image, threshold=0.5, n_t=1000), image)


def test_normalisation_by_name_unknown_lists_the_known():
    with pytest.raises(ValueError, match="known: gapped, binary, none"):
        normalisation_by_name("nonsense")
