import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tofae_jax.steps import StepSettings
from tofae_jax.steps.types import typed


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"threshold": 1.5}, "threshold must satisfy 0 <= threshold < 1, got 1.5"),
        ({"threshold": -1.0}, "threshold must satisfy"),
        ({"tof_tolerance_bins": -1.0}, "tof_tolerance_bins must be at least 0, got -1.0"),
        ({"tof_tolerance_bins": float("nan")}, "tof_tolerance_bins must be at least 0"),
        ({"learning_rate": -1e-3}, "learning_rate must be a finite number from 0"),
        ({"tolerance_bins": -1.0}, "tolerance_bins must be a finite number from 0"),
        ({"scale_growth_steps": 0}, "scale_growth_steps must be a finite number from 1"),
        ({"loss_weights": {"hit_weight": float("nan")}}, "hit_weight must be a finite number"),
        ({"evaluation_loss_weights": {"w": float("inf")}}, "w must be a finite number"),
    ],
)
def test_step_settings_bad_numbers_are_refused_when_made(settings, expected):
    with pytest.raises(ValueError, match=expected):
        StepSettings(**settings)
    with pytest.raises(ValueError, match=expected):
        StepSettings()._replace(**settings)


def test_step_settings_travel_through_jax_transformations():
    settings = StepSettings(learning_rate=1e-3, loss_weights={"hit_weight": 2.0})
    again = jax.jit(lambda s: s)(settings)
    assert type(again) is type(jax.tree.map(jnp.asarray, settings)) is StepSettings
    assert again.loss_weights["hit_weight"] == 2
    assert again.score_threshold is None
    assert jax.jit(lambda s: s.threshold)(settings._replace(threshold=np.float32(0.25))) == 0.25


def test_typed_plain_numbers_become_32_bit_and_others_stay():
    settings = typed(StepSettings(threshold=np.float64(0.5), learning_rate=1e-3))
    assert settings.learning_rate.dtype == jnp.float32
    assert settings.scale_growth_steps.dtype == jnp.int32
    assert settings.degradation.n_noise[0].dtype == jnp.int32
    assert typed(settings).learning_rate is settings.learning_rate
