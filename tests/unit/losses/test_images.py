import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from loss_inputs import FLOATS, images

from tofae_jax import losses

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

OF_IMAGES = [name for name, loss in losses.LOSSES.items() if loss.takes == "image"]

NOT_0_AT_THE_TARGET = {"bce", "binary_mse"}


def case(data, name):
    output, target = data["output"][:, 0], data["target"][:, 0]
    pick = {"mixed": slice(None), "all_empty": slice(0, 1), "dense": slice(3, 4), "all_hit": slice(0, 1)}[name]
    target = data["all_hit_target"][:, 0] if name == "all_hit" else target[pick]
    return jnp.asarray(output[pick]), jnp.asarray(target)


def loss_of(name, **options):
    return lambda y, t: losses.LOSSES[name].function(y, t, **WEIGHTS.get(name, {}), **options)


@pytest.mark.slow
@pytest.mark.parametrize("case_name", CASES)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "bce"])
def test_image_losses_on_reference_data_equal_predecessor(reference, name, case_name):
    data = reference("losses")
    y, t = case(data, case_name)
    value, gradient = jax.value_and_grad(loss_of(name))(y, t)
    key = f"{case_name}|{NAMES[name]}"
    np.testing.assert_allclose(value, data[f"{key}|value"], rtol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(gradient), data[f"{key}|grad_norm"], rtol=2e-5)
    sample = np.asarray(gradient).reshape(-1)[:: int(data["grad_sample_stride"])]
    np.testing.assert_allclose(sample, data[f"{key}|grad_sample"], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("case_name", CASES)
def test_bce_off_0_and_1_equals_predecessor(reference, case_name):
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


@pytest.mark.slow
@pytest.mark.backlog("B03")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize("reduce", losses.REDUCTIONS)
def test_image_losses_empty_class_has_zero_gradient(name, dtype, reduce):
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


@pytest.mark.slow
@pytest.mark.backlog("B03")
@pytest.mark.parametrize("absent", [0, 1], ids=["no hits", "no zeros"])
@pytest.mark.parametrize("reduce", losses.REDUCTIONS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", OF_CLASSES)
def test_class_losses_weight_of_absent_class_has_no_effect(name, dtype, reduce, absent):
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


@pytest.mark.slow
def test_bce_epsilon_below_float32_is_refused():
    y = jnp.array([[[1.0, 0.0]]])
    for dtype in ("float32", "float16", "bfloat16"):
        value, gradient = jax.value_and_grad(lambda y: losses.bce(y, y, epsilon=1e-7))(y.astype(dtype))
        assert np.isfinite(value)
        assert np.all(np.isfinite(np.asarray(gradient, np.float32)))
    with pytest.raises(ValueError, match=r"epsilon must be from 1e-07 to below 0.5, got 1e-08"):
        losses.bce(y, y, epsilon=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("reduce", losses.REDUCTIONS)
@pytest.mark.parametrize("name", OF_IMAGES)
def test_image_losses_gradient_equals_finite_differences(name, reduce):
    with jax.enable_x64(True):
        y, t = images(dtype="float64")
        loss = loss_of(name, reduce=reduce)
        check_grads(lambda y: jnp.sum(loss(jnp.asarray(y), t)), (y,), order=1, modes=("rev",), eps=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_IMAGES)
def test_image_losses_per_event_equal_each_event_alone(strict, name):
    y, t = images((3, 4, 5))
    t = t.at[1].set(0)
    per_event = loss_of(name, reduce="event")(y, t)
    alone = [loss_of(name)(y[i : i + 1], t[i : i + 1]) for i in range(3)]
    np.testing.assert_allclose(per_event, jnp.stack(alone), rtol=1e-6)


def test_mse_and_sse_in_float16_do_not_overflow():
    y, t = jnp.full((4, 128, 88), 1, jnp.float16), jnp.zeros((4, 128, 88), jnp.float16)
    assert float(losses.mse(y, t)) == 1  # 45056 ones would be inf as a float16 sum
    assert float(losses.sse(jnp.tile(y, (2, 1, 1)), jnp.tile(t, (2, 1, 1)))) == 90112


@pytest.mark.slow
@pytest.mark.backlog("B58")
@pytest.mark.parametrize("zero_loss", list(losses.PIXEL_LOSSES))
@pytest.mark.parametrize("hit_loss", list(losses.PIXEL_LOSSES))
def test_split_component_covers_its_own_class(zero_loss, hit_loss):
    y, t = images((1, 6, 7))
    is_hit = np.asarray(t[0] != 0)

    def over(name, member):
        part = [jnp.asarray(np.asarray(image)[0][member][None, None]) for image in (y, t)]
        return losses.LOSSES[name].function(*part)

    expected = 2 * over(zero_loss, ~is_hit) + 3 * over(hit_loss, is_hit)
    value = losses.split(y, t, zero_loss=zero_loss, hit_loss=hit_loss, zero_weight=2, hit_weight=3)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_split_component_that_is_no_pixel_loss_is_refused():
    with pytest.raises(ValueError, match="hit_loss must be one of mse, mae, bce, sse, binary_mse, got 'acb_mse'"):
        losses.split(jnp.zeros((1, 2, 2)), jnp.zeros((1, 2, 2)), hit_loss="acb_mse")


@pytest.mark.slow
def test_class_mse_four_classes_equal_hand_count():
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


IMAGE_LOSSES = [name for name, loss in losses.LOSSES.items() if loss.takes == "image"]


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_image_losses_other_shapes_are_refused_and_not_broadcast(name):
    with pytest.raises(ValueError, match=r"prediction and target must have the same shape, got \[2, 3, 4\] and"):
        jax.jit(losses.LOSSES[name].function)(jnp.zeros((2, 3, 4)), jnp.zeros((3, 4)))


@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_image_losses_negative_weights_are_named(name):
    image = jnp.zeros((1, 3, 4))
    for weight in losses.LOSSES[name].weights:
        with pytest.raises(ValueError, match=f"{weight} must be"):
            losses.LOSSES[name].function(image, image, **{weight: -1.0})


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4)])
@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_image_losses_without_pixels_are_zero_and_not_nan(name, shape):
    image = jnp.zeros(shape)
    assert losses.LOSSES[name].function(image, image) == 0
    per_event = losses.LOSSES[name].function(image, image, reduce="event")
    assert per_event.shape == shape[:1]
    assert not per_event.any()
