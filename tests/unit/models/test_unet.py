import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tofae_jax.core.precision import POLICIES, cast_variables, policy_by_name
from tofae_jax.engine.default_models import build_model
from tofae_jax.losses import acb_mse, hit_bce
from tofae_jax.models import unet as u

N_Y, N_X = 19, 14

SMALL = {"width": 12, "depth": 2, "n_fourier": 4, "coincidences": 3}


def small(name="float32", n_y=N_Y, n_x=N_X, **settings):
    return build_model("unet", shape_xyt=(n_x, n_y, 100), policy=policy_by_name(name), **{**SMALL, **settings})


def images(key, n, n_y=N_Y, n_x=N_X, share=0.1):
    """Images with hits in (0.5, 1]."""
    key_lit, key_value = jax.random.split(jax.random.key(key))
    lit = jax.random.uniform(key_lit, (n, n_y, n_x)) < share
    return jnp.where(lit, 1 - 0.5 * jax.random.uniform(key_value, (n, n_y, n_x)), 0)


@pytest.fixture(scope="module")
def variables():
    """Of the small model in float32; all policies round the same."""
    return jax.jit(small().init)(jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize(("n_y", "n_x"), [(128, 88), (1, 1), (4, 8), (5, 3), (17, 30), (2, 61)])
@pytest.mark.parametrize("depth", [1, 3])
def test_unet_any_detector_shape_gives_finite_outputs(n_y, n_x, depth):
    model = small(n_y=n_y, n_x=n_x, depth=depth)
    x = images(0, 2, n_y, n_x, 0.3)
    variables = jax.jit(model.init)(jax.random.key(0))
    output = jax.jit(model.apply)(variables, x)
    for got in (output.image, output.pixel_logits):
        assert got.shape == x.shape
        assert np.all(np.isfinite(got))
    assert np.all((np.asarray(output.image) >= 0) & (np.asarray(output.image) <= 1))
    assert output.hit_logits is None


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_level_sizes_any_length_is_covered(depth):
    for n in range(1, 41):
        sizes = u.level_sizes(n, 41 - n, depth)
        assert len(sizes) == depth
        for axis, length in enumerate((n, 41 - n)):
            along = [size[axis] for size in sizes]
            assert (along[0] - 1) * u.PATCH < length <= along[0] * u.PATCH
            for finer, coarser in itertools.pairwise(along):
                assert 2 * coarser - finer in (0, 1)


def there_and_back(x, fold):
    joined = u.join(x, fold)
    return joined, u.part(joined, fold, x.shape[1:3])


@pytest.mark.slow
@pytest.mark.parametrize("fold", [u.PATCH, u.FOLD])
def test_part_of_join_is_the_image_for_every_length(fold):
    for n in range(1, 21):  # with 41 - n all lengths up to 40
        x = jnp.arange(2 * n * (41 - n) * 3, dtype=jnp.float32).reshape(2, n, 41 - n, 3)
        joined, again = jax.jit(there_and_back, static_argnums=1)(x, fold)
        assert joined.shape == (2, -(-n // fold), -(-(41 - n) // fold), 3 * fold**2)
        np.testing.assert_array_equal(again, x)


def test_join_pixels_of_a_patch_stand_row_by_row():
    x = jnp.arange(8 * 8, dtype=jnp.float32).reshape(1, 8, 8, 1)
    np.testing.assert_array_equal(u.join(x, 4)[0, 1, 0], x[0, 4:8, 0:4, 0].ravel())


@pytest.mark.slow
def test_fourier_equals_its_definition_and_is_0_in_the_dark():
    x = np.asarray(images(1, 2, share=0.4))[..., None]
    seen = u.fourier(jnp.asarray(x), 8)
    phase = 2 * np.pi * x[..., None, :].astype(np.float64) * 2.0 ** np.arange(8)[:, None]
    lit = x[..., None, :] > 0
    # a float32 value near 1 leaves the shortest wave a phase that is known to 2π 2^7 6e-8
    np.testing.assert_allclose(seen.sine, np.where(lit, np.sin(phase), 0), atol=1e-4)
    np.testing.assert_allclose(seen.cosine, np.where(lit, np.cos(phase), 0), atol=1e-4)
    np.testing.assert_array_equal(seen.is_lit, x > 0)
    np.testing.assert_array_equal(seen.value, x)
    half = u.fourier(jnp.asarray(x, jnp.float16), 2)
    assert {leaf.dtype for leaf in half} == {np.dtype("float32")}


def slow_agreement(x, n_fourier):
    """The sum over pairs of hits, one by one: `[windows * waves]` by hit."""
    found = {}
    hits = list(zip(*np.nonzero(x), strict=True))
    for y, x_ in hits:
        found[y, x_] = []
        for reach in u.REACHES:
            near = [
                (a, b)
                for a, b in hits
                if abs(a // 4 - y // 4) <= reach and abs(b // 4 - x_ // 4) <= reach and (a, b) != (y, x_)
            ]
            lags = np.array([x[y, x_] - x[hit] for hit in near])
            waves = (np.cos(2 * np.pi * 2**f * lags).sum() for f in range(n_fourier))
            found[y, x_].extend(wave / np.sqrt(2 + len(near)) for wave in waves)
    return found


@pytest.mark.slow
def test_agreement_equals_the_sum_over_pairs():
    x = np.asarray(images(2, 1, 30, 27, 0.08), np.float64)
    with jax.enable_x64(True):
        found = u.agreement(u.fourier(u.join(jnp.asarray(x)[..., None], u.PATCH), 3))
        b, y, x_, f, p = found.shape
        found = u.part(np.moveaxis(found, 3, 4).reshape(b, y, x_, p * f), u.PATCH, (30, 27))
    want = slow_agreement(x[0], 3)
    for place, numbers in want.items():
        np.testing.assert_allclose(found[0][place], numbers, atol=1e-12)
    assert len(want) > 40
    dark = np.asarray(found[0])[x[0] == 0]
    np.testing.assert_array_equal(dark, 0)


@pytest.mark.slow
def test_nearby_time_follows_the_likely_signal():
    x = jnp.zeros((1, 40, 40)).at[0, 1, 1].set(0.6).at[0, 2, 3].set(0.9).at[0, 38, 38].set(0.7)
    seen = u.fourier(u.join(x[..., None], u.PATCH), 1)
    sure = jnp.where(jnp.isin(seen.value, jnp.asarray([0.6, 0.7], jnp.float32)), 6.0, -6.0)
    time = u.nearby_time(seen, sure)[0, ..., 0]
    np.testing.assert_allclose([time[0, 0], time[1, 1], time[9, 9]], [0.6, 0.6, 0.7], atol=2e-3)
    np.testing.assert_allclose(time[5, 5], 0.65, atol=2e-3)  # nothing near: all likely signal of the image
    np.testing.assert_allclose(u.nearby_time(seen, -sure)[0, 0, 0, 0], 0.9, atol=2e-3)
    empty = u.fourier(jnp.zeros((1, 2, 2, 16)), 1)
    np.testing.assert_allclose(u.nearby_time(empty, jnp.zeros((1, 2, 2, 16))), 0.5)


def test_shift_takes_a_ninth_from_each_neighbour():
    x = jax.random.normal(jax.random.key(0), (2, 4, 5, 18))
    got = np.asarray(u.shift(x))
    np.testing.assert_array_equal(got[..., 8:10], x[..., 8:10])
    np.testing.assert_array_equal(got[:, 1:, 1:, :2], x[:, :-1, :-1, :2])
    np.testing.assert_array_equal(got[:, 0, :, :2], 0)
    np.testing.assert_array_equal(got[:, :-1, :-1, -2:], x[:, 1:, 1:, -2:])
    assert u.shift(x[..., :4]).shape == (2, 4, 5, 4)  # fewer channels than neighbours


@pytest.mark.slow
@pytest.mark.parametrize("name", list(POLICIES))
def test_unet_empty_and_full_images_have_finite_gradients(name, variables):
    policy = policy_by_name(name)
    with jax.enable_x64(policy.needs_64_bit):
        model = small(name)
        variables = cast_variables(variables, policy)
        x = jnp.stack([jnp.zeros((N_Y, N_X)), jnp.ones((N_Y, N_X)), images(3, 1)[0]])

        def objective(params):
            output = model.apply({**variables, "params": params}, x)
            return acb_mse(output.image, x) + hit_bce(output.pixel_logits, x > 0.7, x > 0, event_axes=2), output

        (loss, output), gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))(variables["params"])
        assert {str(output.image.dtype), str(output.pixel_logits.dtype)} == {policy.output}
        for leaf in jax.tree.leaves((loss, output, gradient)):
            assert np.all(np.isfinite(np.asarray(leaf, np.float64)))
        assert all(np.any(np.asarray(leaf, np.float64) != 0) for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_unet_empty_images_alone_have_finite_gradients(variables):
    model = small()
    nothing = jnp.zeros((2, N_Y, N_X))
    for image_loss in (True, False):

        def objective(params, image_loss=image_loss):
            output = model.apply({"params": params, "batch_stats": {}}, nothing)
            if image_loss:
                return acb_mse(output.image, nothing)
            return hit_bce(output.pixel_logits, nothing > 0, nothing > 0, event_axes=2)

        gradient = jax.jit(jax.grad(objective))(variables["params"])
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tolerance"), [("bfloat16", 0.15), ("mixed_float16", 0.02)])
def test_unet_low_precision_gives_nearly_the_same(name, tolerance, variables):
    x = images(4, 2)
    full = jax.jit(small().apply)(variables, x).pixel_logits
    low = jax.jit(small(name).apply)(cast_variables(variables, policy_by_name(name)), x).pixel_logits
    difference = np.max(np.abs(np.asarray(low, np.float32) - full))
    assert 0 < difference < tolerance


@pytest.mark.slow
def test_unet_events_are_independent_in_training_too(variables):
    model = small()
    apply = jax.jit(model.apply)
    x = images(5, 3)
    before, after = apply(variables, x), apply(variables, x.at[1].set(images(6, 1, share=0.5)[0]))
    for this, that in ((before.image, after.image), (before.pixel_logits, after.pixel_logits)):
        np.testing.assert_array_equal(this[0], that[0])
        np.testing.assert_array_equal(this[2], that[2])
        assert np.any(np.asarray(this[1]) != np.asarray(that[1]))
    training, stats = jax.jit(model.apply_train)(variables, x)
    np.testing.assert_allclose(training.image, before.image, atol=1e-6)
    assert jax.tree.leaves(stats) == []


@pytest.mark.slow
def test_unet_without_tof_image_is_the_probability(variables):
    model = small(regress_tof=False)
    output = jax.jit(model.apply)(jax.jit(model.init)(jax.random.key(0)), images(7, 2))
    np.testing.assert_allclose(output.image, jax.nn.sigmoid(output.pixel_logits), rtol=1e-6)
    gated = jax.jit(small().apply)(variables, images(7, 2))
    assert np.all(np.asarray(gated.image) < jax.nn.sigmoid(gated.pixel_logits))


def planted(key, n=16):
    """Twelve hits at one time in a corner of each image, twelve anywhere at any time: image, and which are signal."""
    keys = jax.random.split(key, 4)
    event = jnp.arange(n)[:, None]
    noise = jax.random.randint(keys[0], (n, 12), 0, N_Y * N_X)
    x = jnp.zeros((n, N_Y * N_X)).at[event, noise].set(1 - 0.5 * jax.random.uniform(keys[1], (n, 12)))
    corner = jax.random.randint(keys[2], (n, 1), 0, 8) * N_X + jax.random.randint(keys[2], (n, 1), 0, 4)
    pixels = jnp.argsort(jax.random.uniform(keys[3], (n, 64)), axis=1)[:, :12]
    pixels = corner + pixels // 8 * N_X + pixels % 8
    x = x.at[event, pixels].set(1 - 0.5 * jax.random.uniform(keys[2], (n, 1)))
    is_signal = jnp.zeros(x.shape, bool).at[event, pixels].set(True)
    return x.reshape(n, N_Y, N_X), is_signal.reshape(n, N_Y, N_X)


@pytest.mark.slow
def test_unet_learns_signal_but_not_shuffled_labels(variables):
    model, optimiser = small(), optax.adam(1e-2)

    def loss_of(params, key, shuffled):
        x, is_signal = planted(key)
        is_signal = jnp.where(shuffled, jax.random.bernoulli(jax.random.fold_in(key, 1), 0.5, x.shape), is_signal)
        output = model.apply({"params": params, "batch_stats": {}}, x)
        return hit_bce(output.pixel_logits, is_signal, x > 0, event_axes=2)

    @jax.jit
    def step(params, state, key, shuffled):
        loss, gradient = jax.value_and_grad(loss_of)(params, key, shuffled)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, updates), state, loss

    def loss_after(n_steps, *, shuffled):
        """Of fresh events, which the weights have not seen."""
        params, state, loss = variables["params"], optimiser.init(variables["params"]), None
        for i in range(n_steps + 1):
            params, state, loss = step(params, state, jax.random.key(i), shuffled)
        return float(loss)

    assert loss_after(0, shuffled=False) > 0.55
    assert loss_after(60, shuffled=False) < 0.3
    assert loss_after(60, shuffled=True) > 0.65  # log 2 is 0.693


def test_unet_default_sizes_have_148176_parameters():
    model = build_model("unet", shape_xyt=(88, 128, 1000))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == 148_176


@pytest.mark.parametrize("name", list(SMALL))
def test_unet_size_of_0_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        small(**{name: 0})
