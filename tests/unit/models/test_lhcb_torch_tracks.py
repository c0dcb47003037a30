"""The model for LHCb TORCH that is given the tracks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_events import N_NOISE, N_SIGNAL, build_module_model, f1_of

from tofae_jax.core.precision import policy_by_name
from tofae_jax.models import HitInput
from tofae_jax.models.lhcb_torch_tracks import collision_delays


@pytest.fixture(scope="module")
def tracks_model():
    model = build_module_model("lhcb_torch_tracks")
    return model, model.init(jax.random.key(0)), jax.jit(model.apply)


def test_tracks_model_untrained_scores_hits(simulated, tracks_model):
    hits, given, _ = simulated
    _, variables, apply = tracks_model
    known = apply(variables, HitInput(hits, given[:, None]))
    assert f1_of(np.asarray(known.hit_logits) > 0) > 0.88
    assert np.all(np.asarray(known.tracks) == 0)
    wrong = apply(variables, HitInput(hits, np.roll(given, 1, axis=0)[:, None]))  # the negative control
    assert f1_of(np.asarray(wrong.hit_logits) > 0) < 0.3


def test_tracks_model_scores_are_probabilities(simulated, tracks_model):
    hits, given, _ = simulated
    _, variables, apply = tracks_model
    chance = np.asarray(jax.nn.sigmoid(apply(variables, HitInput(hits, given[:, None])).hit_logits))
    is_signal = np.broadcast_to(np.arange(N_SIGNAL + N_NOISE) < N_SIGNAL, chance.shape)
    for low, high in ((0.0, 0.01), (0.01, 0.2), (0.2, 0.7), (0.7, 1.0)):
        chosen = (chance >= low) & (chance <= high)
        mean = chance[chosen].mean()
        sigma = np.sqrt(mean * (1 - mean) / chosen.sum())
        assert abs(is_signal[chosen].mean() - mean) < 4 * sigma + 0.03 * (low > 0)


@pytest.mark.slow
def test_tracks_model_assigns_hits_to_their_track(simulated, tracks_model):
    hits, given, _ = simulated
    _, variables, apply = tracks_model
    both = np.concatenate([hits[:16], hits[16:32, :N_SIGNAL]], axis=1)
    pairs = np.stack([given[:16], given[16:32]], axis=1)
    filled = np.concatenate([pairs, np.zeros_like(pairs)], axis=1)  # empty slots change nothing
    known = apply(variables, HitInput(both, filled))
    kept, owner = np.asarray(known.hit_logits) > 0, np.asarray(known.tracks)
    assert kept[:, :N_SIGNAL].mean() > 0.8 and kept[:, -N_SIGNAL:].mean() > 0.8
    assert np.mean(owner[:, :N_SIGNAL][kept[:, :N_SIGNAL]] == 0) > 0.9
    assert np.mean(owner[:, -N_SIGNAL:][kept[:, -N_SIGNAL:]] == 1) > 0.9
    swapped = apply(variables, HitInput(both, pairs[:, ::-1]))
    np.testing.assert_allclose(swapped.hit_logits, known.hit_logits, atol=2e-3)


def test_tracks_model_without_tracks_finds_no_signal(simulated, tracks_model):
    hits, given, _ = simulated
    _, variables, apply = tracks_model
    logits = np.asarray(apply(variables, HitInput(hits[:4], np.zeros_like(given[:4, None]))).hit_logits)
    assert np.all(logits < -5)
    beside = given[:4].at[:, 0].set(400.0)  # of the next module: no light here
    known = apply(variables, HitInput(hits[:4], beside[:, None]))
    assert np.all(np.asarray(known.hit_logits) < -5) and np.all(np.asarray(known.tracks) == -1)
    empty = apply(variables, HitInput(np.zeros_like(hits[:4]), given[:4, None]))
    assert np.all(np.isfinite(empty.hit_logits))


@pytest.mark.slow
def test_tracks_model_corrections_have_gradients(simulated, tracks_model):
    """Gradients of its corrections are finite, and not nothing."""
    hits, given, _ = simulated
    model, variables, _ = tracks_model
    is_signal = jnp.arange(N_SIGNAL + N_NOISE) < N_SIGNAL

    def loss(params):
        logits, _ = model.apply_train({"params": params, "batch_stats": {}}, HitInput(hits[:4], given[:4, None]))
        return jnp.mean(jax.nn.softplus(jnp.where(is_signal, -logits.hit_logits, logits.hit_logits)))

    gradients = jax.grad(loss)(variables["params"])
    for name in ("noise_out", "surer_out"):
        norm = np.linalg.norm(gradients[name]["kernel"])
        assert 1e-6 < norm < 1e3
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))


def test_collision_delays_cover_the_spread():
    delays, log_chance = collision_delays(0.18, 0.08)
    assert np.diff(delays).max() <= 0.08
    chance = np.exp(log_chance)
    assert chance.sum() == pytest.approx(1)
    assert np.sqrt((chance * delays**2).sum()) == pytest.approx(0.18, rel=0.03)
    alone, certain = collision_delays(0.0, 0.08)
    assert alone.tolist() == [0] and certain.tolist() == [0]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "float64", "float16"])  # narrowest, widest, and amid 64-bit numbers
def test_tracks_model_every_precision_is_finite(policy, simulated):
    with jax.enable_x64(True):  # float32 must not mind it either
        model = build_module_model("lhcb_torch_tracks", policy=policy_by_name(policy))
        x = HitInput(simulated[0][:2], simulated[1][:2, None])
        output = jax.jit(model.apply)(model.init(jax.random.key(0)), x)
        assert output.hit_logits.dtype == jnp.dtype(policy_by_name(policy).output)
        assert np.all(np.isfinite(np.asarray(output.hit_logits, np.float64)))
