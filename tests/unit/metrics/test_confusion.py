"""Counts of hits and pixels, and their ratios."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tofae_jax import metrics as m


def test_pixel_confusion_equals_the_reference(reference):
    data = reference("metrics")
    y, t = jnp.asarray(data["prediction"][:, 0]), jnp.asarray(data["target"][:, 0])
    counts = m.pixel_confusion(y > 0, t > 0, jnp.zeros(y.shape, bool), jnp.ones(3, bool))
    assert int(counts.n_true_positives) == data["tof|true_positives_xy"]
    assert int(counts.n_false_positives) == data["tof|false_positives"]
    assert int(counts.n_false_negatives) == data["tof|false_negatives"]


@pytest.mark.backlog("B42", "B32")
def test_compute_confusion_detection_snr_is_finite():
    only_right = m.compute_confusion(m.Confusion(9, 0, 0, 0, 0), 1)
    only_wrong = m.compute_confusion(m.Confusion(0, 9, 0, 9, 9), 1)
    assert only_right["detection_snr_db"] == pytest.approx(10 * np.log10(19))
    assert only_wrong["detection_snr_db"] == pytest.approx(-10 * np.log10(19))


def test_hit_confusion_by_hand():
    flags = [[1, 1, 0, 0, 1, 1]], [[1, 0, 1, 0, 0, 1]], [[1, 1, 1, 1, 1, 0]]
    kept, signal, is_hit = (jnp.array(flag, bool) for flag in flags)
    counts = m.hit_confusion(kept, signal, is_hit, jnp.ones(1, bool))
    result = m.compute_confusion(jax.device_get(counts), 1)
    assert (result["true_positives"], result["false_positives"], result["false_negatives"]) == (1, 2, 1)
    assert result["efficiency"] == 1 / 2
    assert result["purity"] == 1 / 3
    assert result["f1"] == 2 / 5
    assert result["noise_rejection"] == 1 / 3
    assert (result["noise_left"], result["noise_made"]) == (2, 0)


def test_pixel_confusion_tells_noise_left_from_noise_made():
    lit = jnp.array([[[1, 1, 1, 0, 0]]], bool)
    target = jnp.array([[[1, 0, 0, 1, 0]]], bool)
    noise = jnp.array([[[0, 1, 0, 0, 1]]], bool)
    counts = m.pixel_confusion(lit, target, noise, jnp.ones(1, bool))
    result = m.compute_confusion(jax.device_get(counts), 1)
    assert (result["false_positives"], result["noise_left"], result["noise_made"]) == (2, 1, 1)
    assert result["noise_rejection"] == 1 / 2


@pytest.mark.parametrize(
    ("kept", "signal", "is_hit", "efficiency", "purity", "rejection"),
    [
        (0, 0, 0, 1.0, 1.0, 1.0),  # nothing at all
        (0, 1, 1, 0.0, 1.0, 1.0),  # all signal, nothing kept
        (1, 0, 1, 1.0, 0.0, 0.0),  # all noise, all kept
        (1, 1, 1, 1.0, 1.0, 1.0),  # all signal, all kept
    ],
)
def test_compute_confusion_ratios_of_nothing_are_defined(kept, signal, is_hit, efficiency, purity, rejection):
    flags = [jnp.full((2, 3), bool(flag)) for flag in (kept, signal, is_hit)]
    result = m.compute_confusion(jax.device_get(m.hit_confusion(*flags, jnp.ones(2, bool))), 2)
    assert (result["efficiency"], result["purity"], result["noise_rejection"]) == (efficiency, purity, rejection)
