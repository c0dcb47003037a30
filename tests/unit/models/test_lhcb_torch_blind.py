"""The blind model for LHCb TORCH."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from module_events import MODULE, N_SIGNAL, SMALL, build_module_model, f1_of

from tofae_jax.core.precision import policy_by_name
from tofae_jax.models import TRACK_COLUMNS, HitInput
from tofae_jax.models.lhcb_torch_blind import Guesses, centre_and_spread, log_likelihood, samples_of


@pytest.fixture(scope="module")
def blind_model():
    model = build_module_model("lhcb_torch", **SMALL, samples=64, improved=16, refined=4)
    return model, model.init(jax.random.key(0)), jax.jit(model.apply)


def guesses_of(rng, laws=3):
    root = np.tril(rng.normal(size=(laws, 6, 6))) * 0.5
    root[:, np.arange(6), np.arange(6)] = rng.uniform(1, 3, (laws, 6))
    weight = rng.uniform(0.5, 1, laws)
    arrays = (np.log(weight / weight.sum()), rng.normal(size=(laws, 6)), root)
    return Guesses(*(jnp.asarray(a, jnp.float32) for a in arrays))


def test_samples_of_mixture_have_its_density():
    from scipy.stats import multivariate_normal

    guesses = guesses_of(np.random.default_rng(0))
    weight, mean, root = (np.asarray(part, float) for part in guesses)
    covariance = np.linalg.inv(root @ root.transpose(0, 2, 1))
    point = np.full(6, 0.3)
    laws = [multivariate_normal(m, c).pdf(point) for m, c in zip(mean, covariance, strict=True)]
    expected = np.log(np.exp(weight) @ laws)
    assert float(log_likelihood(guesses, jnp.asarray(point, jnp.float32))) == pytest.approx(expected, rel=1e-4)

    samples = np.asarray(samples_of(guesses, 20_000))
    centre = np.exp(weight) @ mean
    spread = np.einsum("c,cij->ij", np.exp(weight), covariance + np.einsum("ci,cj->cij", mean - centre, mean - centre))
    np.testing.assert_allclose(samples.mean(axis=0), centre, atol=0.05)
    np.testing.assert_allclose(np.cov(samples.T), spread, atol=0.06)
    np.testing.assert_array_equal(samples_of(guesses, 20_000), samples)


@pytest.mark.slow
def test_blind_model_search_near_the_truth_scores_hits(simulated):
    """The part of the blind model that has nothing to learn."""
    hits, given, true = simulated
    model = build_module_model("lhcb_torch", **SMALL, samples=64, improved=16, refined=4)
    centre, spread = centre_and_spread(MODULE)
    numbers = np.concatenate([given[:, :4], true[:, :1], np.sqrt(1 - true[:, 1:])], axis=-1)
    mean = jnp.asarray((numbers - centre) / spread)[:, None]
    root = jnp.broadcast_to(jnp.eye(6) / 0.1, (len(hits), 1, 6, 6))
    near = Guesses(jnp.zeros((len(hits), 1)), mean, root)

    @jax.jit
    def searched(guesses, hits, scores):
        return jax.lax.map(lambda event: model.module._searched(*event), (guesses, hits, scores))

    is_signal = jnp.arange(hits.shape[1]) < N_SIGNAL
    unknown, told = jnp.zeros(hits.shape[:2]), jnp.broadcast_to(jnp.where(is_signal, 1.0, -1.0), hits.shape[:2])
    assert f1_of(np.asarray(searched(near, hits, told)) > 0) > 0.9
    unknown = unknown.at[:, ::2].set(1)  # half of the signal is not looked at, but scored all the same
    assert f1_of(np.asarray(searched(near, hits, unknown)) > 0) > 0.85
    assert f1_of(np.asarray(searched(near, hits, -told)) > 0) < 0.7  # only noise is looked at
    far = near._replace(mean=near.mean.at[..., :2].add(1.0))  # the negative control: half the plate away
    assert f1_of(np.asarray(searched(far, hits, told)) > 0) < 0.7


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(st.data())
def test_blind_model_order_and_empty_slots_have_no_effect(blind_model, simulated, data):
    _, variables, apply = blind_model
    event = simulated[0][data.draw(st.integers(0, 20))]
    n_hits = data.draw(st.sampled_from([0, 1, 2, 30, 230]))
    places = data.draw(st.permutations(range(256)))[:n_hits]
    ordered, shuffled = np.zeros((2, 256, 3), np.int32)
    ordered[:n_hits] = shuffled[np.asarray(places, int)] = event[:n_hits]
    logits = np.asarray(apply(variables, HitInput(jnp.asarray([ordered, shuffled]))).hit_logits)
    assert np.all(np.isfinite(logits))
    # what is found may depend on rounding where two tracks explain an event equally well
    np.testing.assert_allclose(logits[0, :n_hits], logits[1, np.asarray(places, int)], atol=0.05)


@pytest.mark.slow
def test_blind_model_training_learns_tracks(simulated):
    hits, given, true = simulated
    model = build_module_model("lhcb_torch", **SMALL)
    variables = model.init(jax.random.key(0))
    truth = jnp.concatenate([given, true], axis=-1)[:, None]
    assert truth.shape[-1] == len(TRACK_COLUMNS) + 2
    x = HitInput(jnp.asarray(hits), truth=truth)

    @jax.jit
    def surprise(params):
        return jnp.mean(model.apply_train({"params": params, "batch_stats": {}}, x)[0].extra_loss)

    params, first = variables["params"], surprise(variables["params"])
    for _ in range(30):
        gradients = jax.grad(surprise)(params)
        params = jax.tree.map(lambda p, g: p - 0.05 * g, params, gradients)
    assert surprise(params) < first - 0.05
    filled = jnp.concatenate([truth, jnp.zeros_like(truth)], axis=1)  # empty slots are no tracks
    more = model.apply_train(variables, x._replace(truth=filled))[0].extra_loss
    np.testing.assert_allclose(more, model.apply_train(variables, x)[0].extra_loss, rtol=1e-5)
    nothing = model.apply_train(variables, x._replace(truth=jnp.zeros_like(truth)))[0].extra_loss
    assert np.all(np.asarray(nothing) == 0)


@pytest.mark.slow
def test_blind_model_without_search_is_the_network_alone(simulated):
    model = build_module_model("lhcb_torch", **SMALL, samples=0)
    variables = model.init(jax.random.key(0))
    alone = model.apply(variables, HitInput(simulated[0][:2]))
    trained, _ = model.apply_train(variables, HitInput(simulated[0][:2]))
    np.testing.assert_allclose(alone.hit_logits, trained.hit_logits, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "float64", "float16"])  # narrowest, widest, and amid 64-bit numbers
def test_blind_model_every_precision_is_finite(policy, simulated):
    with jax.enable_x64(True):  # float32 must not mind it either
        model = build_module_model(
            "lhcb_torch", policy=policy_by_name(policy), **SMALL, samples=8, improved=4, refined=2
        )
        x = HitInput(simulated[0][:2], simulated[1][:2, None])
        output = jax.jit(model.apply)(model.init(jax.random.key(0)), x)
        assert output.hit_logits.dtype == jnp.dtype(policy_by_name(policy).output)
        assert np.all(np.isfinite(np.asarray(output.hit_logits, np.float64)))
