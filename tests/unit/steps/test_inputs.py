"""Degraded batches against a slow twin in NumPy, event by event and hit by hit."""

import jax
import numpy as np
import pytest
from traced import assert_vectorised

from tofae_jax.core.batch import Batch
from tofae_jax.core.degradation import DegradationSettings
from tofae_jax.losses import mse
from tofae_jax.steps import StepLoss, StepOptions, StepSettings
from tofae_jax.steps.inputs import degrade_batch

SHAPE = N_X, N_Y, N_T = 9, 7, 30
MAX_SIGNAL, MAX_NOISE, N_HITS = 6, 8, 12
OPTIONS = StepOptions(
    SHAPE,
    max_signal=MAX_SIGNAL,
    max_noise=MAX_NOISE,
    loss=StepLoss(mse, "image"),
    evaluation_loss=StepLoss(mse, "image"),
)
SETTINGS = StepSettings(
    degradation=DegradationSettings(
        n_signal=(2, 6), sigma_x_pixels=1.5, sigma_y_pixels=1.0, sigma_t_bins=3.0, n_noise=(3, 8)
    )
)


def batch_of(n, seed=0):
    """Events of 0 to `N_HITS` hits, with empty slots anywhere."""
    rng = np.random.default_rng(seed)
    hits = rng.integers((0, 0, 1), (N_X, N_Y, N_T + 1), (n, N_HITS, 3))
    hits *= (rng.random((n, N_HITS)) < np.linspace(0, 1, n)[:, None])[..., None]
    numbers = np.arange(n, dtype=np.int32)
    fixed = (numbers, np.ones(n, bool), np.int32(0), np.int32(0), np.zeros(n, np.int32))
    return Batch(hits.astype(np.int16), *fixed, np.zeros((n, 0, 3), np.int16), None)


def degrade(keys, batch, settings):
    return degrade_batch(keys, batch, settings, OPTIONS)


def slow_degrade(key, hits):
    """Signal and noise hits of one event, from the draws of its key, by loops over hits."""
    settings = SETTINGS.degradation
    key_sparsify, key_smear, key_noise = jax.random.split(key, 3)
    key_count, key_order = jax.random.split(key_sparsify)
    n_kept = int(jax.random.randint(key_count, (), settings.n_signal[0], settings.n_signal[1] + 1))
    draw = np.asarray(jax.random.uniform(key_order, (N_HITS,)))
    filled = [i for i in range(N_HITS) if hits[i, 2] > 0]
    kept = [hits[i] for i in sorted(filled, key=lambda i: -draw[i])[:n_kept]]
    moves = np.asarray(jax.random.normal(key_smear, (MAX_SIGNAL, 3)))
    sigma = np.array([settings.sigma_x_pixels, settings.sigma_y_pixels, settings.sigma_t_bins], np.float32)
    smeared = [np.rint(np.float32(hit) + sigma * move) for hit, move in zip(kept, moves, strict=False)]
    inside = [(0 <= x < N_X) and (0 <= y < N_Y) and (1 <= t <= N_T) for x, y, t in smeared]
    signal = [hit.astype(int) if ok else np.zeros(3, int) for hit, ok in zip(smeared, inside, strict=True)]
    key_count, key_hits, _ = jax.random.split(key_noise, 3)
    n_noise = int(jax.random.randint(key_count, (), settings.n_noise[0], settings.n_noise[1] + 1))
    u = np.asarray(jax.random.uniform(key_hits, (MAX_NOISE, 5)))[:n_noise]
    noise = [[min(int(v * np.float32(n)), n - 1) for v, n in zip(row[1:4], SHAPE, strict=True)] for row in u]
    return kept, signal, [(x, y, t + 1) for x, y, t in noise]


def slow_image(hits):
    image = np.zeros((N_Y, N_X), np.float32)
    for x, y, t in hits:
        image[y, x] = max(image[y, x], t)
    return image


def slots(hits, n):
    found = np.zeros((n, 3), int)
    found[: len(hits)] = np.reshape(hits, (-1, 3))
    return found


@pytest.mark.backlog("B47")
def test_degrade_batch_jitted_equals_slow_numpy():
    n = 6
    keys, batch = jax.random.split(jax.random.key(4), n), batch_of(n)
    found = jax.jit(degrade)(keys, batch, SETTINGS)
    lost = 0
    for i in range(n):
        kept, signal, noise = slow_degrade(keys[i], batch.hits[i])
        event = jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], found.events)
        np.testing.assert_array_equal(event.sparse, slots(kept, MAX_SIGNAL))
        np.testing.assert_array_equal(event.smeared, slots(signal, MAX_SIGNAL))
        np.testing.assert_array_equal(event.hits, np.concatenate([slots(signal, MAX_SIGNAL), slots(noise, MAX_NOISE)]))
        is_signal = np.zeros(MAX_SIGNAL + MAX_NOISE, bool)
        is_signal[: len(signal)] = [hit[2] > 0 for hit in signal]
        np.testing.assert_array_equal(event.is_signal, is_signal)
        assert (event.n_pattern, event.n_kept) == ((batch.hits[i][:, 2] > 0).sum(), len(kept))
        assert (event.n_signal, event.n_noise) == (is_signal.sum(), len(noise))
        lost += len(kept) - event.n_signal
        for image, hits in ((found.pattern, batch.hits[i]), (found.signal, signal), (found.input, [*signal, *noise])):
            np.testing.assert_array_equal(np.asarray(image)[i], slow_image(hits))
    assert lost > 0  # smearing out of the detector is among what is compared
    assert np.asarray(found.events.n_pattern).min() == 0


@pytest.mark.backlog("B47")
def test_degrade_batch_is_vectorised():
    def inputs(n):
        return jax.random.split(jax.random.key(0), n), batch_of(n), SETTINGS

    assert_vectorised(degrade, inputs(2), inputs(64))
