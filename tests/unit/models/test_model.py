import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_parts import SHAPE, Hits, Images

from tofae_jax.models import HitInput, Output, model_from_module

KEY = jax.random.key(0)
IMAGE = jnp.zeros((2, 16, 12), jnp.float32)
HITS = HitInput(jnp.arange(1, 31, dtype=jnp.int32).reshape(2, 5, 3))


class Typed(nn.Module):
    """A module that casts by itself."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image):
        return nn.sigmoid(nn.Conv(1, (3, 3), dtype=self.dtype)(image[..., None])[..., 0])


class Half(nn.Module):
    """Computes in float16 whatever the policy says."""

    @nn.compact
    def __call__(self, image):
        return nn.Conv(1, (3, 3), dtype=jnp.float16)(image[..., None])[..., 0]


class WithCache(nn.Module):
    @nn.compact
    def __call__(self, image):
        self.variable("cache", "n", lambda: jnp.zeros(()))
        return image


class Wrong(nn.Module):
    @nn.compact
    def __call__(self, image):
        return nn.Dense(3)(image)


class Both(nn.Module):
    @nn.compact
    def __call__(self, image):
        return Output(image=image, pixel_logits=image)


@pytest.mark.parametrize(
    ("module", "options", "x", "field", "shape"),
    [
        (Images(), {}, IMAGE, "image", (2, 16, 12)),
        (Images(), {"outputs": "hits"}, IMAGE, "pixel_logits", (2, 16, 12)),
        (Hits(), {"inputs": "hits", "outputs": "hits"}, HITS, "hit_logits", (2, 5)),
        (Both(), {"outputs": ("image", "hits")}, IMAGE, "pixel_logits", (2, 16, 12)),
    ],
)
def test_model_from_module_output_goes_where_its_kind_says(module, options, x, field, shape):
    model = model_from_module(module, shape_xyt=SHAPE, **options)
    output = model.apply(model.init(KEY), x)
    assert getattr(output, field).shape == shape
    assert model.name == type(module).__name__


def test_apply_train_dropout_and_batch_statistics():
    model = model_from_module(Hits(), shape_xyt=SHAPE, inputs="hits", outputs="hits")
    variables = model.init(KEY)
    (first, stats), (again, _), (other, _) = (model.apply_train(variables, HITS, jax.random.key(i)) for i in (1, 1, 2))
    np.testing.assert_array_equal(first.hit_logits, again.hit_logits)
    assert (first.hit_logits != other.hit_logits).any()
    assert jax.tree.structure(stats) == jax.tree.structure(variables["batch_stats"])
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (stats, variables["batch_stats"])), strict=True))
    np.testing.assert_array_equal(model.apply(variables, HITS).hit_logits, model.apply(variables, HITS).hit_logits)


@pytest.mark.parametrize("module", [Images(), Typed()])
@pytest.mark.parametrize(
    ("policy", "param", "output"),
    [("bfloat16", "bfloat16", "bfloat16"), ("mixed_bfloat16", "float32", "float32"), ("float32", "float32", "float32")],
)
def test_model_from_module_policy_holds_with_and_without_dtype(module, policy, param, output):
    model = model_from_module(module, shape_xyt=SHAPE, policy=policy)
    variables = model.init(KEY)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables["params"])} == {param}
    program = str(jax.make_jaxpr(model.apply)(variables, IMAGE))
    convolved = [line for line in program.splitlines() if "conv_general_dilated" in line or "bf16" in line]
    assert any("bf16" in line for line in convolved) == ("bfloat16" in policy)
    assert model.apply(variables, IMAGE).image.dtype.name == output


class Pair(nn.Module):
    """Gives what no step can read."""

    def __call__(self, image):
        return image, image


class HalfInTraining(nn.Module):
    """Float16 hidden from inference."""

    @nn.compact
    def __call__(self, image, train=False):
        x = image[..., None]
        return nn.Dense(1, dtype=jnp.float16 if train else None)(x)[..., 0].astype(jnp.float32)


def test_model_from_module_float16_that_no_policy_says_is_refused():
    with pytest.raises(ValueError, match=r"Half: computes in float16, .* policy='mixed_float16'"):
        model_from_module(Half(), shape_xyt=SHAPE)
    assert model_from_module(Half(), shape_xyt=SHAPE, policy="mixed_float16").policy.scales_loss


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("module", "options", "expected"),
    [
        (WithCache(), {}, "model WithCache: has variables cache; allowed: params and batch_stats"),
        (Wrong(), {}, r"model Wrong: gives image of shape \[1, 16, 3\], expected \[1, 16, 12\]"),
        (Images(), {"outputs": ("image", "hits")}, "model Images: gives no pixel_logits, but outputs says hits"),
        (Images(), {"inputs": "pixels"}, "'pixels' is no kind of input or output; known: image, hits"),
        (Images(), {"outputs": "pixels"}, "'pixels' is no kind of input or output; known: image, hits"),
        (Images(), {"policy": "float8"}, "precision 'float8' is not known"),
        (Images(), {"policy": "float64"}, "precision float64 needs 64-bit numbers: jax.config.update"),
        (Images(), {"outputs": ()}, "outputs must name one at least"),
        (Images, {}, r"module must be a Flax \(Linen\) module, made: Net\(\), not Net"),
        (Pair(), {}, "model Pair: returns a tuple, expected an array or an Output"),
        (HalfInTraining(), {}, "HalfInTraining: computes in float16"),
        (Images(), {"shape_xyt": (12, 16)}, r"shape_xyt must be three whole numbers above 0"),
        (Images(), {"shape_xyt": (12, 0, 40)}, r"shape_xyt must be three whole numbers above 0"),
    ],
)
def test_model_from_module_what_cannot_be_is_said(module, options, expected):
    with pytest.raises(ValueError, match=expected):
        model_from_module(module, **{"shape_xyt": SHAPE} | options)


@pytest.mark.usefixtures("untyped")
def test_model_from_module_list_of_a_shape_is_a_shape():
    assert model_from_module(Images(), shape_xyt=list(SHAPE)) == model_from_module(Images(), shape_xyt=SHAPE)


class Unsaid(nn.Module):
    """Batch statistics that no keyword switches."""

    @nn.compact
    def __call__(self, image):
        return nn.BatchNorm(use_running_average=True)(image)


class Deterministic(nn.Module):
    """Dropout by Flax's own keyword."""

    @nn.compact
    def __call__(self, image, deterministic=True):
        return nn.Dropout(0.5, deterministic=deterministic)(image + 1)


def test_model_from_module_batch_statistics_without_a_mode_are_refused():
    with pytest.raises(ValueError, match="Unsaid: has batch statistics, but takes no keyword"):
        model_from_module(Unsaid(), shape_xyt=SHAPE)


def test_model_from_module_deterministic_is_switched_off_in_training():
    model = model_from_module(Deterministic(), shape_xyt=SHAPE)
    variables = model.init(KEY)
    trained, _ = model.apply_train(variables, IMAGE, jax.random.key(1))
    assert set(np.unique(trained.image)) == {0, 2}
    assert (model.apply(variables, IMAGE).image == 1).all()
