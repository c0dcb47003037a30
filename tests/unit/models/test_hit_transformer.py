"""The set transformer on hit lists."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tofae_jax.core.precision import policy_by_name
from tofae_jax.losses import hit_bce
from tofae_jax.models import HitInput, build_model
from tofae_jax.models.hit_transformer import rms_norm

SHAPE = (12, 10, 40)
SMALL = {
    "width": 8,
    "hidden": 12,
    "layers": 2,
    "queries": 4,
    "value_width": 4,
    "event_width": 16,
    "frequencies": 6,
    "finest": 5.0,
}
K = 9


@pytest.fixture(scope="module")
def model():
    built = build_model("hit_transformer", shape_xyt=SHAPE, **SMALL)
    variables = jax.jit(built.init)(jax.random.key(0))
    # fresh last layers are small: every part shall count
    variables = jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(1), leaf.shape), variables)
    return built, variables, jax.jit(lambda variables, hits: built.apply(variables, HitInput(hits)).hit_logits)


def random_hits(seed, n, k=K):
    rng = np.random.default_rng(seed)
    hits = np.zeros((1, k, 3), np.int32)
    hits[0, :n] = np.stack([rng.integers(0, SHAPE[0], n), rng.integers(0, SHAPE[1], n), rng.integers(1, 41, n)], 1)
    return hits


@given(st.integers(0, 2**31 - 1), st.integers(0, K))
def test_hit_transformer_order_has_no_effect(model, seed, n):
    _, variables, score = model
    hits = random_hits(seed, n)
    order = np.random.default_rng(seed).permutation(K)  # empty slots go anywhere too
    scores = score(variables, hits)
    np.testing.assert_allclose(score(variables, hits[:, order])[0, np.argsort(order)][:n], scores[0, :n], atol=2e-5)
    assert np.all(np.isfinite(scores))


@given(st.integers(0, 2**31 - 1), st.integers(0, K), st.integers(-(2**15), 2**15 - 1))
def test_hit_transformer_empty_slots_content_has_no_effect(model, seed, n, junk):
    _, variables, score = model
    hits = random_hits(seed, n)
    other = hits.copy()
    other[0, n:, :2] = junk
    np.testing.assert_array_equal(score(variables, other)[0, :n], score(variables, hits)[0, :n])


@pytest.mark.slow
@given(st.integers(0, 2**31 - 1), st.integers(0, K))
def test_hit_transformer_more_empty_slots_have_no_effect(model, seed, n):
    _, variables, score = model
    long = score(variables, random_hits(seed, n, k=17))[0, :n]
    np.testing.assert_allclose(long, score(variables, random_hits(seed, n))[0, :n], atol=2e-5)


def test_hit_transformer_other_hits_and_number_matter(model):
    """The negative control: these scores are of hits within their event, not of hits alone."""
    _, variables, score = model
    hits = random_hits(3, 6)
    other = hits.copy()
    other[0, 5] = [11, 0, 1]
    assert np.max(np.abs(score(variables, other)[0, :5] - score(variables, hits)[0, :5])) > 1e-3
    twice = np.concatenate([hits[:, :6], hits[:, :6]], axis=1)  # the same means, twice the hits
    assert np.max(np.abs(score(variables, twice)[0, :6] - score(variables, hits)[0, :6])) > 1e-4


def test_hit_transformer_events_are_independent(model):
    _, variables, score = model
    first, second = random_hits(1, 5), random_hits(2, 7)
    both = score(variables, np.concatenate([first, second]))
    np.testing.assert_allclose(both[:1], score(variables, first), atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16", "mixed_bfloat16", "mixed_float16"])
def test_hit_transformer_every_precision_is_finite(name):
    policy = policy_by_name(name)
    built = build_model("hit_transformer", shape_xyt=SHAPE, policy=policy, **SMALL)
    variables = jax.jit(built.init)(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables["params"])} == {jnp.dtype(policy.param)}
    hits = jnp.asarray(np.concatenate([random_hits(1, K), random_hits(2, 0), random_hits(3, 1)]))
    is_signal = jnp.arange(K) < 3

    def loss(params):
        logits = built.apply({**variables, "params": params}, HitInput(hits)).hit_logits
        assert logits.dtype == jnp.dtype(policy.output)
        return hit_bce(logits, jnp.broadcast_to(is_signal, logits.shape), hits[..., 2] > 0)

    value, gradients = jax.jit(jax.value_and_grad(loss))(variables["params"])
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(np.asarray(leaf, np.float32))) for leaf in jax.tree.leaves(gradients))
    assert any(np.any(np.asarray(leaf, np.float32) != 0) for leaf in jax.tree.leaves(gradients))


def test_rms_norm_in_half_precision_does_not_overflow():
    x = jnp.full((2, 4), 3e4, jnp.float16)
    np.testing.assert_allclose(np.asarray(rms_norm(x), np.float32), 1, rtol=1e-2)


def planted(key, shuffled):
    """Events late or early by up to 20 bins; hits later than their event's middle are signal, or labels are dealt anew.

    From a hit's time alone no more can be told than the shift leaves of it: a loss of some 0.45.
    """
    keys = jax.random.split(key, 4)
    hits = jax.random.randint(keys[0], (64, K, 3), 0, jnp.asarray((SHAPE[0], SHAPE[1], 20)))
    time = hits[..., 2] + jax.random.randint(keys[1], (64, 1), 1, 21)
    is_signal = time > jnp.mean(time, axis=1, keepdims=True)
    labels = jax.random.permutation(keys[2], is_signal, axis=1, independent=True) if shuffled else is_signal
    return hits.at[..., 2].set(time), labels


@pytest.mark.slow
@pytest.mark.parametrize("shuffled", [False, True])
def test_hit_transformer_learns_from_the_whole_event(shuffled):
    built = build_model("hit_transformer", shape_xyt=SHAPE, **SMALL | {"width": 16, "hidden": 32, "queries": 8})
    variables = jax.jit(built.init)(jax.random.key(0))
    optimiser = optax.adam(1e-2)

    def loss(params, key):
        hits, labels = planted(key, shuffled)
        logits = built.apply({**variables, "params": params}, HitInput(hits)).hit_logits
        return hit_bce(logits, labels, hits[..., 2] > 0)

    @jax.jit
    def train(params):
        def step(state, key):
            params, opt = state
            value, gradients = jax.value_and_grad(loss)(params, key)
            updates, opt = optimiser.update(gradients, opt, params)
            return (optax.apply_updates(params, updates), opt), value

        return jax.lax.scan(step, (params, optimiser.init(params)), jax.random.split(jax.random.key(1), 300))[1]

    last = np.asarray(train(variables["params"]))[-30:].mean()
    assert last > 0.67 if shuffled else last < 0.3
