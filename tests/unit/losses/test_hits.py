import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads
from loss_inputs import FLOATS, hits_of_events

from tofae_jax import losses

OF_HITS = [name for name, loss in losses.LOSSES.items() if loss.takes == "hits"]


def twin_hits(name, logits, is_signal, is_hit, *, signal_weight=0.25, noise_weight=0.75, gamma=2.0):
    terms = []
    for z, s, h in zip(*(np.asarray(a).reshape(-1) for a in (logits, is_signal, is_hit)), strict=True):
        p = 1 / (1 + np.exp(-float(z) if s else float(z)))
        if h:
            power = (1 - p) ** gamma if name == "hit_focal" else 1
            terms.append(-(signal_weight if s else noise_weight) * power * np.log(p))
    return np.mean(terms) if terms else 0.0


HIT_SETTINGS = {"hit_bce": {"signal_weight": 0.25, "noise_weight": 0.75}, "hit_focal": {"alpha": 0.25, "gamma": 2.0}}


@pytest.mark.slow
@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("name", OF_HITS)
def test_hit_losses_random_hits_equal_slow_twin(name, from_logits):
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


def test_hit_focal_gamma_0_equals_hit_bce():
    events = hits_of_events()
    np.testing.assert_allclose(
        losses.hit_focal(*events, alpha=0.3, gamma=0.0),
        losses.hit_bce(*events, signal_weight=0.3, noise_weight=0.7),
        rtol=1e-6,
    )


@pytest.mark.slow
@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("name", OF_HITS)
def test_hit_losses_gradient_equals_finite_differences(name, from_logits):
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


@pytest.mark.slow
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduce", losses.REDUCTIONS)
@pytest.mark.parametrize("name", OF_HITS)
def test_hit_losses_empty_slots_have_no_effect(name, reduce, dtype):
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


@pytest.mark.slow
@given(st.floats(-1e4, 1e4, width=32), st.booleans(), st.floats(0, 5))
def test_hit_losses_any_logit_is_finite(logit, signal, gamma):
    truth, filled = jnp.asarray([[signal]]), jnp.asarray([[True]])
    for loss in (losses.hit_bce, lambda *hits: losses.hit_focal(*hits, gamma=gamma)):
        value, gradient = jax.value_and_grad(loss)(jnp.asarray([[logit]], jnp.float32), truth, filled)
        assert np.isfinite(value)
        assert value >= 0
        assert np.all(np.isfinite(gradient))


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("loss", [losses.hit_bce, losses.hit_focal])
def test_hit_losses_other_shapes_are_refused_and_not_broadcast(loss):
    is_hit = jnp.ones((2, 3), bool)
    with pytest.raises(ValueError, match=r"scores and is_signal must have the same shape, got \[2, 3\] and \[3\]"):
        loss(jnp.zeros((2, 3)), is_hit[0], is_hit)


@pytest.mark.parametrize(
    ("loss", "settings", "expected"),
    [
        (losses.hit_bce, {"signal_weight": -1.0}, "signal_weight must be a finite number from 0"),
        (losses.hit_bce, {"noise_weight": float("nan")}, "noise_weight must be a finite number from 0"),
        (losses.hit_focal, {"gamma": -1.0}, "gamma must be a finite number from 0"),
        (losses.hit_focal, {"alpha": 1.5}, "alpha must be from 0 to 1"),
    ],
)
def test_hit_losses_bad_settings_are_named(loss, settings, expected):
    is_hit = jnp.ones((2, 3), bool)
    with pytest.raises(ValueError, match=expected):
        loss(jnp.zeros((2, 3)), is_hit, is_hit, **settings)
