from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_parts import SHAPE, Hits, Images, own_hinge, own_mse

from tofae_jax.core.degradation import DegradationSettings
from tofae_jax.engine.default_models import build_model
from tofae_jax.losses import LOSSES, bce, mse, split
from tofae_jax.models import MODELS, model_from_module
from tofae_jax.steps import StepSettings
from tofae_jax.steps.options import as_step_loss, check_fit, check_slots, reducible, step_options

SLOTS = {"max_signal": 4, "max_noise": 4}


def images(**options):
    return model_from_module(Images(), shape_xyt=SHAPE, **options)


def hit_model():
    return model_from_module(Hits(), shape_xyt=SHAPE, inputs="hits", outputs="hits")


def test_step_options_target_and_loss_follow_the_model():
    assert step_options(images(), "mse", **SLOTS).target == "pattern"
    options = step_options(hit_model(), own_hinge, **SLOTS)
    assert (options.target, options.loss.takes, options.scores_hits) == ("signal", "hits", True)
    assert options.evaluation_loss is options.loss


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("model", "loss", "changes", "expected"),
    [
        (
            images,
            "hit_bce",
            {},
            "loss hit_bce takes hits, but model Images gives image; another loss, or takes='image'",
        ),
        (hit_model, "acb_mse", {}, "loss acb_mse takes image, but model Hits gives hits"),
        (hit_model, own_mse, {"takes": "image"}, "loss own_mse takes image, but model Hits gives hits"),
        (images, "nonsense", {}, "loss 'nonsense' is not known; known: acb_mse"),
        (images, 3, {}, "loss must be a name or a function, got 3"),
        (images, "mse", {"max_noise": -1}, "max_noise must be at least 0, got -1"),
        (images, "mse", {"overflow": "wrap"}, "overflow must be one of drop, clamp, got 'wrap'"),
        (images, "mse", {"selection": "x"}, "selection must be one of random, even"),
        (images, "mse", {"target": "x"}, "target must be one of pattern, signal"),
        (images, "mse", {"normalisation": "x"}, "normalisation 'x' is not known"),
        (images, "acb_mse_3d", {"normalisation": "none"}, "reads times needs normalisation 'gapped'"),
        (images, "mse", {"evaluation_loss": "hit_bce"}, "loss hit_bce takes hits"),
    ],
)
def test_step_options_what_does_not_fit_is_said(model, loss, changes, expected):
    with pytest.raises(ValueError, match=expected):
        step_options(model(), loss, **(SLOTS | changes))


def test_check_fit_another_detector_is_named():
    options = step_options(images(), "mse", **SLOTS)
    other = model_from_module(Images(), shape_xyt=(9, 9, 9))
    with pytest.raises(ValueError, match=r"of shape \(9, 9, 9\), but the options of \(12, 16, 40\)"):
        check_fit(other, options)


def test_reducible_loss_without_reduce_gives_batch_and_events():
    y, t = (jax.random.uniform(jax.random.key(i), (5, 3, 4)) for i in range(2))
    loss = reducible(own_mse)
    np.testing.assert_allclose(loss(y, t, reduce="batch"), mse(y, t), rtol=1e-6)
    np.testing.assert_allclose(loss(y, t, reduce="event"), mse(y, t, reduce="event"), rtol=1e-6)


def test_reducible_loss_of_one_number_per_event_is_averaged():
    logits = jnp.array([[2.0, -2.0], [0.5, 3.0]])
    is_signal, is_hit = jnp.array([[True, False], [True, True]]), jnp.array([[True, True], [True, False]])
    loss = reducible(own_hinge)
    np.testing.assert_allclose(loss(logits, is_signal, is_hit, reduce="event"), [0, 0.5])
    np.testing.assert_allclose(loss(logits, is_signal, is_hit, reduce="batch"), 0.25)


def test_reducible_loss_of_another_shape_is_named():
    with pytest.raises(ValueError, match=r"loss .*: gives shape \[5, 3\], expected one number, or one per event"):
        reducible(lambda y, t: jnp.mean(y - t, axis=-1))(jnp.zeros((5, 3, 4)), jnp.zeros((5, 3, 4)), reduce="batch")


@pytest.mark.parametrize("name", LOSSES)
def test_as_step_loss_every_name_is_taken(name):
    loss = as_step_loss(name)
    assert (loss.takes, loss.reads_time) == (LOSSES[name].takes, LOSSES[name].reads_time)
    assert as_step_loss(LOSSES[name]) == loss
    assert as_step_loss(loss) is loss


def test_model_that_needs_normalised_images_refuses_none():
    assert MODELS["unet"].needs_normalised_images


def test_check_slots_more_hits_than_slots_are_refused():
    options = step_options(images(), "mse", **SLOTS)
    fits = StepSettings(DegradationSettings(n_signal=(1, 4), n_noise=(4, 4)))
    check_slots(fits, options)
    with pytest.raises(ValueError, match=r"settings.degradation.n_noise is up to 9, but options.max_noise is 4"):
        check_slots(StepSettings(DegradationSettings(n_signal=(1, 4), n_noise=(4, 9))), options)


def test_as_step_loss_function_of_the_registry_is_its_declaration():
    assert as_step_loss(LOSSES["hit_bce"].function).takes == "hits"
    assert as_step_loss(LOSSES["acb_mse_3d"].function).reads_time


def test_step_options_takes_against_what_the_loss_says_is_refused():
    with pytest.raises(ValueError, match="takes is hits, but this loss says itself that it takes image"):
        step_options(images(), "mse", takes="hits", max_signal=1, max_noise=1)


def test_step_options_static_settings_by_partial():
    options = step_options(images(), partial(split, zero_loss="mae"), max_signal=1, max_noise=1)
    output, target = jnp.zeros((2, 3, 4)), jnp.full((2, 3, 4), 0.5).at[:, 0].set(0)
    given = options.loss.function(output, target, reduce="event")
    np.testing.assert_array_equal(given, split(output, target, zero_loss="mae", reduce="event"))


@pytest.mark.parametrize("loss", ["bce", bce])
def test_step_options_unit_targets_need_a_normalisation(loss):
    with pytest.raises(ValueError, match=r"loss bce needs targets in \[0, 1\], which normalisation 'none'"):
        step_options(images(), loss, normalisation="none", max_signal=1, max_noise=1)


def autoencoder(n_t=40):
    return build_model("autoencoder", shape_xyt=(12, 16, n_t), latent=2, fc=4)


def test_step_options_targets_beyond_the_outputs_are_refused():
    """A sigmoid reaches no time bin above 1; a module of one's own may."""
    said = r"outputs of model autoencoder lie in \[0, 1\] and cannot reach .* 'none', time bins up to 40; choose gapped"
    with pytest.raises(ValueError, match=said):
        step_options(autoencoder(), "mse", normalisation="none", **SLOTS)
    for name in ("gapped", "binary"):
        assert step_options(autoencoder(), "mse", normalisation=name, **SLOTS).max_signal == 4
    assert step_options(images(), "mse", normalisation="none", **SLOTS).max_signal == 4
    assert step_options(autoencoder(n_t=1), "mse", normalisation="none", **SLOTS).max_signal == 4


def test_check_fit_lets_models_trained_beyond_their_reach_be_used():
    options = step_options(images(), "mse", normalisation="none", **SLOTS)
    assert check_fit(autoencoder(), options) is None
