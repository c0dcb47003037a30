"""Normalisation of embedded-ToF images for a network with outputs in [0, 1], chosen by name, both ways.

`t` time bins with 0 = no hit, `T` bins, threshold `r`:

- `gapped`: `r + (1 - r) t/T` where t > 0, else 0. Hits lie in (r, 1], so outputs up to `r` read as "no hit".
- `binary`: 1 where t > 0. No way back to a time: only lit or not, above the threshold.
- `none`: the time bins themselves; outputs up to half a bin read as "no hit".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tofae_jax.core.types import Number

HALF_A_BIN = 0.5


class Normalisation(NamedTuple):
    """A normalisation of images, in both directions. `r` is the threshold, `n_t` the number of time bins."""

    normalise: Callable[..., Array]
    """`(image, *, threshold, n_t) -> image`: from time bins to the network's values"""
    is_lit: Callable[..., Array]
    """`(output, *, threshold) -> bool`: where the output shows a hit"""
    renormalise: Callable[..., Array]
    """`(output, *, threshold, n_t, whole_bins=False) -> image` in time bins; ValueError where there is no time"""
    has_time: bool
    """whether `renormalise` can give a time"""
    lit_above: Callable[[Any], Any] = lambda threshold: threshold
    """`(threshold) -> output above which there is a hit`"""


def check_threshold(threshold: Number) -> None:
    """Refuse a threshold outside [0, 1). Traced values cannot be looked at and pass."""
    if isinstance(threshold, int | float) and not 0 <= threshold < 1:
        raise ValueError(f"threshold must satisfy 0 <= threshold < 1, got {threshold}: at 1 no output could be a hit")


def gapped(image: Float[Array, "*batch y x"], *, threshold: Number, n_t: int) -> Float[Array, "*batch y x"]:
    """`r + (1 - r) t/T` where t > 0, else 0."""
    check_threshold(threshold)
    return jnp.where(image > 0, threshold + (1 - threshold) * (image / n_t), jnp.zeros_like(image))


def _above(output: Float[Array, "*batch y x"], *, threshold: Number) -> Bool[Array, "*batch y x"]:
    check_threshold(threshold)
    return output > threshold


def ungapped(
    output: Float[Array, "*batch y x"], *, threshold: Number, n_t: int, whole_bins: bool = False
) -> Float[Array, "*batch y x"]:
    """`T (x' - r)/(1 - r)` where x' > r, else 0, in time bins.

    `whole_bins` rounds to bins, half to even; an output that rounds to bin 0 then is no hit.
    """
    lit = _above(output, threshold=threshold)
    time = n_t * ((output - threshold) / (1 - threshold))
    return jnp.where(lit, jnp.round(time) if whole_bins else time, jnp.zeros_like(output))


def binary(image: Float[Array, "*batch y x"], *, threshold: Number, n_t: int) -> Float[Array, "*batch y x"]:
    """1 where t > 0, else 0."""
    del threshold, n_t
    return (image > 0).astype(image.dtype)


def _no_time(
    output: Float[Array, "*batch y x"], *, threshold: Number, n_t: int, whole_bins: bool = False
) -> Float[Array, "*batch y x"]:
    del output, threshold, n_t, whole_bins
    raise ValueError(
        "normalisation 'binary' keeps no time: a direct ToF image cannot be made from it; "
        "use masked output, or normalisation 'gapped'"
    )


def _bypass(image: Float[Array, "*batch y x"], *, threshold: Number, n_t: int) -> Float[Array, "*batch y x"]:
    del threshold, n_t
    return image


def _half_a_bin(output: Float[Array, "*batch y x"], *, threshold: Number) -> Bool[Array, "*batch y x"]:
    del threshold
    return output > HALF_A_BIN


def _bypass_back(
    output: Float[Array, "*batch y x"], *, threshold: Number, n_t: int, whole_bins: bool = False
) -> Float[Array, "*batch y x"]:
    del threshold, n_t
    time = jnp.where(output > HALF_A_BIN, output, jnp.zeros_like(output))
    return jnp.round(time) if whole_bins else time


NORMALISATIONS: dict[str, Normalisation] = {
    "gapped": Normalisation(gapped, _above, ungapped, has_time=True),
    "binary": Normalisation(binary, _above, _no_time, has_time=False),
    "none": Normalisation(_bypass, _half_a_bin, _bypass_back, has_time=True, lit_above=lambda _: HALF_A_BIN),
}


def normalisation_by_name(name: str) -> Normalisation:
    """Return the normalisation called `name`.

    Args:
        name: a key of `NORMALISATIONS`.

    Returns:
        Both directions, and whether a time can be read back.

    Raises:
        ValueError: an unknown name, with those that are known.
    """
    if name not in NORMALISATIONS:
        raise ValueError(f"normalisation {name!r} is not known; known: {', '.join(NORMALISATIONS)}")
    return NORMALISATIONS[name]


def normalise(
    image: Float[Array, "*batch y x"], *, n_t: int, threshold: Number = 0.5, name: str = "gapped"
) -> Float[Array, "*batch y x"]:
    """Normalise embedded-ToF images for a network.

    `gapped`: `r + (1 - r) t/T` where t > 0, else 0. `binary`: 1 where t > 0. `none`: the image itself.

    Args:
        image: float[..., y, x] [time bins], 0 where there is no hit.
        n_t: time bins T of the detector.
        threshold: r, in [0, 1).
        name: a key of `NORMALISATIONS`.

    Returns:
        The image in [0, 1], or in time bins for `none`.

    Raises:
        ValueError: an unknown name; a threshold outside [0, 1).
    """
    return normalisation_by_name(name).normalise(image, threshold=threshold, n_t=n_t)


def renormalise(
    output: Float[Array, "*batch y x"],
    *,
    n_t: int,
    threshold: Number = 0.5,
    name: str = "gapped",
    whole_bins: bool = False,
) -> Float[Array, "*batch y x"]:
    """Convert a network's output back to time bins, the inverse of `normalise`.

    `gapped`: `T (x - r)/(1 - r)` where x > r, else 0. `none`: x where x > 1/2, else 0.

    Args:
        output: float[..., y, x], normalised.
        n_t: time bins T of the detector.
        threshold: r, in [0, 1); outputs up to it are no hits.
        name: a key of `NORMALISATIONS`.
        whole_bins: round to bins, half to even; an output that rounds to bin 0 then is no hit.

    Returns:
        The image float[..., y, x] [time bins], 0 where there is no hit. Its gradient is that of the scale where x > r,
        else 0.

    Raises:
        ValueError: an unknown name, or `binary`, which keeps no times; a threshold outside [0, 1).
    """
    return normalisation_by_name(name).renormalise(output, threshold=threshold, n_t=n_t, whole_bins=whole_bins)
