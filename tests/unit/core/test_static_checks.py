import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tofae_jax.core.degradation import DegradationSettings, degrade
from tofae_jax.core.noise import NoiseSettings
from tofae_jax.core.static_checks import check_at_least, check_range_of, check_same_shape, static_number


@pytest.mark.parametrize("value", [3, 3.0, np.float32(3), np.int16(3), np.array(3.0)])
def test_static_number_known_number_is_returned(value):
    assert static_number(value) == 3


@pytest.mark.parametrize("value", [None, True, "3", (3,), np.ones(2), object()])
def test_static_number_anything_else_is_none(value):
    assert static_number(value) is None


def test_checks_pass_traced_values():
    def looked_at(x):
        check_at_least("x", x)
        check_range_of("x", (x, 2))
        check_same_shape(a=x, b=x)
        return x

    assert jax.jit(looked_at)(-1.0) == -1
    assert jax.jit(looked_at)(jnp.asarray(-1.0)) == -1


@pytest.mark.parametrize("value", [-1, -1e-9, float("nan"), float("inf"), np.float32(-2)])
def test_check_at_least_bad_number_is_named(value):
    with pytest.raises(ValueError, match=r"hit_weight must be a finite number from 0, got"):
        check_at_least("hit_weight", value)


@pytest.mark.parametrize(
    "bounds", [(9, 2), np.array([9, 2]), (-1, 2), (1,), (1, 2, 3), 5, [0, float("nan")], (np.int32(3), np.int32(2))]
)
def test_check_range_of_bad_range_is_named(bounds):
    with pytest.raises(ValueError, match="n_signal must be a range"):
        check_range_of("n_signal", bounds)


def test_check_same_shape_names_both_arrays():
    check_same_shape(a=np.zeros((2, 3)), b=jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"a and b must have the same shape, got \[2, 3, 4\] and \[3, 4\]"):
        check_same_shape(a=np.zeros((2, 3, 4)), b=np.zeros((3, 4)))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"n_signal": (9, 2)}, "n_signal must be a range low <= high, got"),
        ({"n_noise": (-1, 2)}, "n_noise must be a range"),
        ({"n_noise": 200}, "n_noise must be a range"),
        ({"sigma_t_bins": -1.0}, "sigma_t_bins must be a finite number from 0, or a range"),
        ({"sigma_x_pixels": (3.0, 0.0)}, "sigma_x_pixels must be a finite number from 0, or a range"),
    ],
)
def test_degradation_settings_bad_numbers_are_refused_before_any_jit(settings, expected):
    with pytest.raises(ValueError, match=expected):
        DegradationSettings(**settings)
    with pytest.raises(ValueError, match=expected):
        DegradationSettings()._replace(**settings)


@pytest.mark.parametrize("settings", [{"weights": (0.0, 0.0)}, {"weights": (-1.0, 2.0)}, {"n_clusters": -1}])
def test_noise_settings_bad_numbers_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must"):
        NoiseSettings(**settings)


def test_degradation_settings_travel_through_jax_transformations():
    settings = DegradationSettings(n_signal=(2, 3), sigma_t_bins=(0.0, 2.0))
    again = jax.tree.map(jnp.asarray, settings)
    assert type(again) is DegradationSettings
    assert type(again.noise) is NoiseSettings
    hits = jnp.stack([jnp.arange(8), jnp.arange(8), jnp.arange(1, 9)], -1)
    size = {"shape_xyt": (9, 9, 9), "max_signal": 3, "max_noise": 4}
    keys = jax.random.split(jax.random.key(0), 3)
    many = jax.jit(jax.vmap(lambda key, s: degrade(key, hits, s, **size), in_axes=(0, None)))
    for given in (settings, again):
        assert (many(keys, given).n_kept <= 3).all()
    assert jax.eval_shape(lambda s: s, settings).n_signal[0].shape == ()
