import inspect
import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from tofae_jax import losses
from tofae_jax.config import EvaluationLossConfig, LossConfig
from tofae_jax.config.losses import PixelLossName

CASES = ["mixed", "all_empty", "dense", "all_hit"]
NAMES = {
    "acb_mse": "ACB_MSE",
    "mse": "MSE",
    "mae": "MAE",
    "bce": "BCE",
    "sse": "SSE",
    "acb_mse_mean": "ACB_MSE_NI",
    "ff_acb_mse": "ffACB_MSE",
    "split": "Split(MSE,L1)",
    "binary_mse": "BINARY_PRED_MSE",
    "class_mse": "TripleLossNI_CS",
}
BALANCE = {"zero_weight": 1.0, "hit_weight": 0.4}
WEIGHTS = {
    "acb_mse": BALANCE,
    "acb_mse_mean": BALANCE,
    "ff_acb_mse": BALANCE | {"full_weight": 1.5},
    "split": BALANCE | {"zero_loss": "mse", "hit_loss": "mae"},
    "class_mse": {
        "true_negative_weight": 1.0,
        "true_positive_weight": 1.5,
        "false_negative_weight": 1.0,
        "false_positive_weight": 1.0,
        "full_weight": 1e-5,
    },
}
FLOATS = ["float16", "bfloat16", "float32", "float64"]
OF_IMAGES = [name for name, loss in losses.LOSSES.items() if loss.takes == "image"]
OF_HITS = [name for name, loss in losses.LOSSES.items() if loss.takes == "hits"]
NOT_0_AT_THE_TARGET = {"bce", "binary_mse"}


def case(data, name):
    output, target = data["output"][:, 0], data["target"][:, 0]
    pick = {"mixed": slice(None), "all_empty": slice(0, 1), "dense": slice(3, 4), "all_hit": slice(0, 1)}[name]
    target = data["all_hit_target"][:, 0] if name == "all_hit" else target[pick]
    return jnp.asarray(output[pick]), jnp.asarray(target)


def loss_of(name, **options):
    return lambda y, t: losses.LOSSES[name].function(y, t, **WEIGHTS.get(name, {}), **options)


def images(shape=(2, 4, 5), dtype="float32", low=0.2, high=0.8):
    """Predictions without an exact 0, and targets of the gapped normalisation."""
    y = jax.random.uniform(jax.random.key(0), shape, dtype, low, high)
    t = jnp.where(jax.random.uniform(jax.random.key(1), shape) < 0.3, 0.55 + 0.4 * y, 0.0)
    return y, t.astype(dtype)


@pytest.mark.parametrize("case_name", CASES)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "bce"])
def test_values_and_gradients_equal_the_reference(reference, name, case_name):
    data = reference("losses")
    y, t = case(data, case_name)
    value, gradient = jax.value_and_grad(loss_of(name))(y, t)
    key = f"{case_name}|{NAMES[name]}"
    np.testing.assert_allclose(value, data[f"{key}|value"], rtol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(gradient), data[f"{key}|grad_norm"], rtol=2e-5)
    sample = np.asarray(gradient).reshape(-1)[:: int(data["grad_sample_stride"])]
    np.testing.assert_allclose(sample, data[f"{key}|grad_sample"], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("case_name", CASES)
def test_bce_differs_from_the_reference_at_0_and_1_alone(reference, case_name):
    """There the logarithm is cut at -100, so that a hit pixel at exactly 0 has a gradient of 1e12 over their number.

    Ours clips the prediction, on purpose; everywhere else, and wholly without such pixels, the two agree.
    """
    data = reference("losses")
    y, t = case(data, case_name)
    value, gradient = jax.value_and_grad(losses.bce)(y, t)
    key = f"{case_name}|BCE"
    saturated = np.asarray((y < 1e-6) & (t > 0))
    surplus = np.sum(np.asarray(t, np.float64)[saturated] * (100 + np.log(1e-6))) / y.size
    np.testing.assert_allclose(float(value) + surplus, data[f"{key}|value"], rtol=1e-5)
    stride = int(data["grad_sample_stride"])
    inside = ~saturated.reshape(-1)[::stride]
    sample = np.asarray(gradient).reshape(-1)[::stride]
    np.testing.assert_allclose(sample[inside], data[f"{key}|grad_sample"][inside], rtol=1e-4, atol=1e-9)
    assert np.linalg.norm(gradient) < 1e4
    assert (data[f"{key}|grad_norm"] > 1e7) == saturated.any() == (case_name != "all_empty")


@pytest.mark.backlog("B03")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize("reduce", losses.REDUCTIONS)
def test_empty_classes_give_zero_and_zero_gradient_at_every_precision(name, dtype, reduce):
    with jax.enable_x64(dtype == "float64"):
        for filling in (0.0, 0.75):  # no hit pixels at all; no zero pixels at all
            t = jnp.full((2, 3, 4), filling, dtype)
            loss = loss_of(name, reduce=reduce)
            value, gradient = jax.value_and_grad(lambda y, t=t, loss=loss: jnp.sum(loss(y, t)))(t)
            assert value.dtype == jnp.promote_types(dtype, jnp.float32)
            assert gradient.dtype == dtype
            assert np.all(np.isfinite(np.asarray(gradient, np.float64)))
            if name not in NOT_0_AT_THE_TARGET:
                assert float(value) == 0
                assert not np.any(np.asarray(gradient, np.float64))


OF_CLASSES = {
    "acb_mse": ("hit_weight", "zero_weight"),
    "acb_mse_mean": ("hit_weight", "zero_weight"),
    "ff_acb_mse": ("hit_weight", "zero_weight"),
    "split": ("hit_weight", "zero_weight"),
    "class_mse": ("true_positive_weight", "false_positive_weight"),
}  # weights of hit and zero pixels


@pytest.mark.backlog("B03")
@pytest.mark.parametrize("absent", [0, 1], ids=["no hits", "no zeros"])
@pytest.mark.parametrize("reduce", losses.REDUCTIONS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", OF_CLASSES)
def test_the_weight_of_an_absent_class_has_no_effect(name, dtype, reduce, absent):
    with jax.enable_x64(dtype == "float64"):
        y, t = jnp.full((2, 2, 2), 0.5, dtype), jnp.full((2, 2, 2), 0.75 * absent, dtype)
        function, weight = losses.LOSSES[name].function, OF_CLASSES[name][absent]

        def total(y, number):
            return jnp.sum(function(y, t, reduce=reduce, **{weight: number}))

        few, many = (jax.value_and_grad(total)(y, number) for number in (0.0, 1e30))
        np.testing.assert_array_equal(few[0], many[0])
        np.testing.assert_array_equal(few[1], many[1])
        assert float(few[0]) > 0  # the other class counts
        assert np.all(np.asarray(few[1], np.float64) != 0)


def test_bce_refuses_an_epsilon_that_float32_cannot_take_off():
    y = jnp.array([[[1.0, 0.0]]])
    for dtype in ("float32", "float16", "bfloat16"):
        value, gradient = jax.value_and_grad(lambda y: losses.bce(y, y, epsilon=1e-7))(y.astype(dtype))
        assert np.isfinite(value)
        assert np.all(np.isfinite(np.asarray(gradient, np.float32)))
    with pytest.raises(ValueError, match=r"epsilon must be from 1e-07 to below 0.5, got 1e-08"):
        losses.bce(y, y, epsilon=1e-8)


@pytest.mark.backlog("B03")
def test_the_old_cause_of_nan_is_the_mean_over_an_empty_class():
    def naive(y, t):
        error, hit = (y - t) ** 2, t != 0
        return jnp.sum(jnp.where(hit, error, 0)) / jnp.sum(hit) + jnp.sum(jnp.where(hit, 0, error)) / jnp.sum(~hit)

    y, t = jnp.full((1, 2, 2), 0.5), jnp.zeros((1, 2, 2))
    assert np.isnan(naive(y, t))
    value, gradient = jax.value_and_grad(losses.acb_mse)(y, t)
    assert float(value) == 0.25
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("reduce", losses.REDUCTIONS)
@pytest.mark.parametrize("name", OF_IMAGES)
def test_gradients_agree_with_finite_differences(name, reduce):
    with jax.enable_x64(True):
        y, t = images(dtype="float64")
        loss = loss_of(name, reduce=reduce)
        check_grads(lambda y: jnp.sum(loss(jnp.asarray(y), t)), (y,), order=1, modes=("rev",), eps=1e-6)


@pytest.mark.parametrize("name", OF_IMAGES)
def test_per_event_values_are_those_of_each_event_alone(strict, name):
    y, t = images((3, 4, 5))
    t = t.at[1].set(0)
    per_event = loss_of(name, reduce="event")(y, t)
    alone = [loss_of(name)(y[i : i + 1], t[i : i + 1]) for i in range(3)]
    np.testing.assert_allclose(per_event, jnp.stack(alone), rtol=1e-6)


def test_sums_do_not_overflow_in_float16():
    y, t = jnp.full((4, 128, 88), 1, jnp.float16), jnp.zeros((4, 128, 88), jnp.float16)
    assert float(losses.mse(y, t)) == 1  # 45056 ones would be inf as a float16 sum
    assert float(losses.sse(jnp.tile(y, (2, 1, 1)), jnp.tile(t, (2, 1, 1)))) == 90112


@pytest.mark.parametrize("name", list(losses.LOSSES))
def test_weights_may_be_traced(name):
    loss = losses.LOSSES[name]
    inputs = images() if loss.takes == "image" else hits_of_events()
    names = (*loss.weights, "threshold") if loss.reads_time else loss.weights
    half = dict.fromkeys(names, 0.25)
    compiled = jax.jit(lambda numbers: loss.function(*inputs, **numbers))
    np.testing.assert_allclose(compiled(half), loss.function(*inputs, **half), rtol=1e-5)


# split and class_mse


@pytest.mark.backlog("B58")
@pytest.mark.parametrize("zero_loss", list(losses.PIXEL_LOSSES))
@pytest.mark.parametrize("hit_loss", list(losses.PIXEL_LOSSES))
def test_split_takes_each_component_over_its_own_class(zero_loss, hit_loss):
    y, t = images((1, 6, 7))
    is_hit = np.asarray(t[0] != 0)

    def over(name, member):
        part = [jnp.asarray(np.asarray(image)[0][member][None, None]) for image in (y, t)]
        return losses.LOSSES[name].function(*part)

    expected = 2 * over(zero_loss, ~is_hit) + 3 * over(hit_loss, is_hit)
    value = losses.split(y, t, zero_loss=zero_loss, hit_loss=hit_loss, zero_weight=2, hit_weight=3)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_split_refuses_what_is_no_loss_of_single_pixels():
    with pytest.raises(ValueError, match="hit_loss must be one of mse, mae, bce, sse, binary_mse, got 'acb_mse'"):
        losses.split(jnp.zeros((1, 2, 2)), jnp.zeros((1, 2, 2)), hit_loss="acb_mse")


def test_class_mse_counts_its_four_classes():
    y = jnp.asarray([[[0.0, 0.5, 0.0, 0.75]]])  # true negative, false positive, false negative, true positive
    t = jnp.asarray([[[0.0, 0.0, 1.0, 1.00]]])
    full = (0.25 + 1 + 0.0625) / 4
    assert float(losses.class_mse(y, t)) == pytest.approx((0 + 0.0625 + full) / 3 + 1 + 0.25)
    only = {
        "false_positive_weight": 0,
        "false_negative_weight": 0,
        "true_positive_weight": 0,
        "true_negative_weight": 0,
    }
    assert float(losses.class_mse(y[..., 1:3], t[..., 1:3], full_weight=2, **only)) == pytest.approx(2 * 0.625)


# acb_mse_3d


def twin_3d(y, t, threshold, n_bins):
    """The same, hit by hit."""

    def depths(image):
        n_y, n_x = image.shape
        step = (1 - threshold) / n_bins
        ramps = [(0, max(threshold, step)), *((threshold + k * step, step) for k in range(n_bins))]
        xt, yt = np.zeros((n_x, n_bins + 1)), np.zeros((n_y, n_bins + 1))
        for row in range(n_y):
            for column in range(n_x):
                for k, (start, width) in enumerate(ramps):
                    share = min(max((image[row, column] - start) / width, 0), 1)
                    xt[column, k] += share
                    yt[row, k] += share
        return np.log2(1 + xt), np.log2(1 + yt)

    def balanced(p, q):
        error, hit = (p - q) ** 2, q != 0
        return sum(error[member].mean() for member in (hit, ~hit) if member.any())

    pairs = [(y, t), *zip(depths(y), depths(t), strict=True)]
    return np.mean([balanced(p, q) for p, q in pairs])


@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.5, 0.9])
@pytest.mark.parametrize("n_bins", [1, 7])
def test_3d_equals_its_slow_twin(threshold, n_bins):
    with jax.enable_x64(True):
        y = jax.random.uniform(jax.random.key(0), (1, 4, 5), jnp.float64)
        t = jnp.where(jax.random.uniform(jax.random.key(1), y.shape) < 0.3, threshold + (1 - threshold) * y, 0.0)
        value = losses.acb_mse_3d(y, t, threshold=threshold, n_time_bins=n_bins)
        assert float(value) == pytest.approx(twin_3d(np.asarray(y)[0], np.asarray(t)[0], threshold, n_bins), rel=1e-9)


def test_3d_feels_lit_ness_below_the_threshold_and_time_above():
    """Through the time projections alone: what is left when the gradient of the (x, y) term is taken away."""
    t = jnp.zeros((1, 3, 3)).at[0, 1, 1].set(0.8)

    def extra(p):
        y = jnp.zeros((1, 3, 3)).at[0, 1, 1].set(p)
        return 3 * losses.acb_mse_3d(y, t, threshold=0.5, n_time_bins=6) - losses.acb_mse(y, t)

    slope = jax.grad(extra)
    assert slope(0.2) < 0  # ought to be lit
    assert slope(0.45) < 0
    assert slope(0.75) < 0  # too early
    assert slope(0.85) > 0  # too late
    assert float(extra(0.8)) == 0


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_3d_is_finite_with_its_gradient_at_the_edges(threshold):
    for filling in (0.0, threshold, 1.0):
        y = jnp.full((2, 4, 3), filling)
        for t in (jnp.zeros_like(y), jnp.ones_like(y)):
            value, gradient = jax.value_and_grad(lambda y, t=t: losses.acb_mse_3d(y, t, threshold=threshold))(y)
            assert np.isfinite(value)
            assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("start", [-2.0, 0.3])
def test_3d_learns_a_track(start):
    """Descent on the image itself, from all dark and from all lit, brings the hits to their places and times.

    With hits counted in plain time bins it stayed near its start: pixels get stuck in early bins.
    """
    t = jnp.zeros((1, 16, 16)).at[0, jnp.arange(16), jnp.arange(16)].set(jnp.linspace(0.6, 0.95, 16))
    optimiser = optax.adam(0.05)

    def loss(z):
        return losses.acb_mse_3d(jax.nn.sigmoid(z), t, n_time_bins=8)

    def step(carry, _):
        z, state = carry
        value, gradient = jax.value_and_grad(loss)(z)
        updates, state = optimiser.update(gradient, state)
        return (z + updates, state), value

    z = jnp.full(t.shape, start)
    (z, _), values = jax.jit(lambda carry: jax.lax.scan(step, carry, length=400))((z, optimiser.init(z)))
    y = jax.nn.sigmoid(z)
    lit = (y > 0.5) & (t > 0)
    assert values[-1] < 0.1 * values[0]
    assert not jnp.any((y > 0.5) & (t == 0))
    assert jnp.sum(lit) >= 12
    assert jnp.median(jnp.abs(y - t)[lit]) < 1e-3


def test_3d_refuses_impossible_settings():
    y = jnp.zeros((1, 2, 2))
    with pytest.raises(ValueError, match="n_time_bins must be at least 1, got 0"):
        losses.acb_mse_3d(y, y, n_time_bins=0)
    with pytest.raises(ValueError, match="threshold"):
        losses.acb_mse_3d(y, y, threshold=1.0)


# hits


def hits_of_events(dtype="float32"):
    """Logits, truth and filled slots of four events: mixed, all signal, all noise, none."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 6)) * 2
    is_signal = rng.random((4, 6)) < 0.5
    is_signal[1], is_signal[2] = True, False
    is_hit = rng.random((4, 6)) < 0.7
    is_hit[3] = False
    return jnp.asarray(logits, dtype), jnp.asarray(is_signal), jnp.asarray(is_hit)


def twin_hits(name, logits, is_signal, is_hit, *, signal_weight=0.25, noise_weight=0.75, gamma=2.0):
    terms = []
    for z, s, h in zip(*(np.asarray(a).reshape(-1) for a in (logits, is_signal, is_hit)), strict=True):
        p = 1 / (1 + np.exp(-float(z) if s else float(z)))
        if h:
            power = (1 - p) ** gamma if name == "hit_focal" else 1
            terms.append(-(signal_weight if s else noise_weight) * power * np.log(p))
    return np.mean(terms) if terms else 0.0


HIT_SETTINGS = {"hit_bce": {"signal_weight": 0.25, "noise_weight": 0.75}, "hit_focal": {"alpha": 0.25, "gamma": 2.0}}


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("name", OF_HITS)
def test_hit_losses_equal_a_slow_twin(name, from_logits):
    logits, is_signal, is_hit = hits_of_events()
    scores = logits if from_logits else jax.nn.sigmoid(logits)
    loss = losses.LOSSES[name].function
    options = HIT_SETTINGS[name] | {"from_logits": from_logits}
    expected = twin_hits(name, logits, is_signal, is_hit)
    np.testing.assert_allclose(loss(scores, is_signal, is_hit, **options), expected, rtol=1e-5)
    per_event = loss(scores, is_signal, is_hit, reduce="event", **options)
    alone = [twin_hits(name, logits[i], is_signal[i], is_hit[i]) for i in range(4)]
    np.testing.assert_allclose(per_event, alone, rtol=1e-5)
    assert float(per_event[3]) == 0
    image = loss(scores[:, None], is_signal[:, None], is_hit[:, None], reduce="event", event_axes=2, **options)
    np.testing.assert_allclose(image, per_event, rtol=1e-6)


def test_focal_loss_without_focus_is_bce():
    events = hits_of_events()
    np.testing.assert_allclose(
        losses.hit_focal(*events, alpha=0.3, gamma=0.0),
        losses.hit_bce(*events, signal_weight=0.3, noise_weight=0.7),
        rtol=1e-6,
    )


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("name", OF_HITS)
def test_gradients_of_hit_losses_agree_with_finite_differences(name, from_logits):
    with jax.enable_x64(True):
        logits, is_signal, is_hit = hits_of_events("float64")
        scores = logits if from_logits else jax.nn.sigmoid(logits)
        loss = losses.LOSSES[name].function
        check_grads(
            lambda z: loss(jnp.asarray(z), is_signal, is_hit, from_logits=from_logits),
            (scores,),
            order=1,
            modes=("rev",),
        )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduce", losses.REDUCTIONS)
@pytest.mark.parametrize("name", OF_HITS)
def test_slots_without_a_hit_take_no_part_whatever_they_hold(name, reduce, dtype):
    with jax.enable_x64(dtype == "float64"):
        logits, is_signal, is_hit = hits_of_events(dtype)
        for filled, spoilt in ((is_hit, jnp.where(is_hit, logits, jnp.nan)), (is_hit & False, logits * jnp.nan)):
            for from_logits in (True, False):
                function = losses.LOSSES[name].function

                def loss(z, filled=filled, function=function, from_logits=from_logits):
                    return jnp.sum(function(z, is_signal, filled, from_logits=from_logits, reduce=reduce))

                value, gradient = jax.value_and_grad(loss)(spoilt)
                assert value.dtype == jnp.promote_types(dtype, jnp.float32)
                assert np.isfinite(value)
                assert not np.any(np.asarray(gradient, np.float64)[~np.asarray(filled)])
                assert np.all(np.isfinite(np.asarray(gradient, np.float64)))
                assert filled.any() or float(value) == 0


@given(st.floats(-1e4, 1e4, width=32), st.booleans(), st.floats(0, 5))
def test_hit_losses_stay_finite_at_any_logit(logit, signal, gamma):
    truth, filled = jnp.asarray([[signal]]), jnp.asarray([[True]])
    for loss in (losses.hit_bce, lambda *hits: losses.hit_focal(*hits, gamma=gamma)):
        value, gradient = jax.value_and_grad(loss)(jnp.asarray([[logit]], jnp.float32), truth, filled)
        assert np.isfinite(value)
        assert value >= 0
        assert np.all(np.isfinite(gradient))


# names and settings


@pytest.mark.backlog("B04", "B15")
def test_names_are_the_one_interface():
    known = typing.get_args(typing.get_type_hints(LossConfig)["name"])
    assert list(known) == list(losses.LOSSES)
    assert typing.get_args(typing.get_type_hints(EvaluationLossConfig)["name"]) == ("same", *known)
    with pytest.raises(ValueError, match="'nonsense' is not known; known: acb_mse, mse, mae, bce"):
        losses.loss_by_name("nonsense")
    with pytest.raises(ValueError, match="reduce must be one of"):
        losses.mse(jnp.zeros((1, 1, 1)), jnp.zeros((1, 1, 1)), reduce="sum")


@pytest.mark.backlog("B15", "B58")
@pytest.mark.parametrize("name", list(losses.LOSSES))
def test_settings_have_the_names_and_defaults_of_the_function(name):
    loss, section = losses.LOSSES[name], getattr(LossConfig(), name)
    assert set(section.__struct_fields__) == {*loss.weights, *loss.choices}
    parameters = inspect.signature(loss.function).parameters
    for setting in section.__struct_fields__:
        assert getattr(section, setting) == parameters[setting].default
    assert ("threshold" in parameters) == loss.reads_time


def test_split_settings_offer_the_losses_of_single_pixels():
    assert list(typing.get_args(PixelLossName)) == list(losses.PIXEL_LOSSES)


def test_a_loss_that_takes_something_else_is_refused_naming_those_that_fit():
    with pytest.raises(
        ValueError, match=r"'hit_bce' takes hits, but the model gives image; losses that fit: acb_mse, "
    ):
        losses.loss_by_name("hit_bce", gives=("image",))
    with pytest.raises(
        ValueError, match=r"takes image, but the model gives hits; losses that fit: hit_bce, hit_focal$"
    ):
        losses.loss_by_name("mse", gives=("hits",))
