"""Hit lists to images and back, and masking.

A hit list is `int[..., k, 3]` with columns x, y, t and `t = 0` in empty slots, which may stand anywhere. An
embedded-ToF image is `float[..., y, x]` holding the time bin of the hit in each pixel and 0 where there is none.
All functions take any number of leading axes, and none of them changes its arguments.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Real

from tofae_jax.core.detector import NO_HIT
from tofae_jax.core.types import Number


def is_hit(hits: Int[Array, "*batch k 3"]) -> Bool[Array, "*batch k"]:
    """Return which slots of a hit list hold a hit, `t != 0`.

    Args:
        hits: int[..., k, 3] of x, y [pixels] and t [time bins], t = 0 in empty slots, which may stand anywhere.

    Returns:
        bool[..., k], False in empty slots.
    """
    return hits[..., 2] != NO_HIT


def count_hits(hits: Int[Array, "*batch k 3"]) -> Int[Array, "*batch"]:
    """Count the hits of each event, `sum 1[t != 0]`.

    Args:
        hits: int[..., k, 3] of x, y [pixels] and t [time bins], t = 0 in empty slots, which may stand anywhere.

    Returns:
        int32[...], 0 for an event without hits.
    """
    return jnp.sum(is_hit(hits), axis=-1, dtype=jnp.int32)


def embed(hits: Int[Array, "*batch k 3"], *, n_x: int, n_y: int) -> Float[Array, "*batch y x"]:
    """Embed hit lists as images: in each pixel the time bin of its hit, 0 elsewhere.

    `image[y, x] = max t` over the hits of the pixel. Where hits share a pixel the largest t wins; `is_visible` tells
    which hits lost, and `count_occluded` how many. Hits outside `0..n_x-1`, `0..n_y-1` are left out (they cannot enter
    through the package's own readers).

    Args:
        hits: int[..., k, 3] of x, y [pixels] and t [time bins], t = 0 in empty slots, which may stand anywhere.
        n_x: pixel columns.
        n_y: pixel rows.

    Returns:
        Embedded-ToF images float32[..., n_y, n_x] [time bins], all 0 for an event without hits.
    """
    *batch, k, _ = hits.shape
    flat = hits.reshape(math.prod(batch), k, 3).astype(jnp.int32)
    x, y, t = flat[..., 0], flat[..., 1], flat[..., 2]
    inside = (x >= 0) & (x < n_x) & (y >= 0) & (y < n_y)
    event = jnp.arange(flat.shape[0], dtype=jnp.int32)[:, None]
    n_pixels = flat.shape[0] * n_y * n_x
    # one flat scatter: XLA runs it several times faster than a scatter with an index per axis
    pixel = jnp.where(inside, (event * n_y + y) * n_x + x, n_pixels)
    image = jnp.zeros(n_pixels, jnp.float32).at[pixel].max(t.astype(jnp.float32), mode="drop")
    return image.reshape(*batch, n_y, n_x)


def at_hits(image: Real[Array, "*batch y x"], hits: Int[Array, "*batch k 3"]) -> Real[Array, "*batch k"]:
    """Return the value of an image at the pixel of each hit, `image[y, x]`.

    Args:
        image: [..., y, x], of any numbers.
        hits: int[..., k, 3] of x, y [pixels] and t [time bins], t = 0 in empty slots, which may stand anywhere.

    Returns:
        [..., k], of the type and unit of `image`. Empty slots read a pixel too, `(0, 0)` where they are filled with 0,
        so mask them with `is_hit`. A hit outside the image gives NaN or the value of another pixel, without an error.
    """
    *batch, n_y, n_x = image.shape
    pixel = hits[..., 1].astype(jnp.int32) * n_x + hits[..., 0].astype(jnp.int32)
    return jnp.take_along_axis(image.reshape(*batch, n_y * n_x), pixel, axis=-1)


def is_visible(hits: Int[Array, "*batch k 3"], image: Float[Array, "*batch y x"]) -> Bool[Array, "*batch k"]:
    """Return which hits their embedded image shows, `t != 0` and `image[y, x] == t`; the others are occluded.

    Args:
        hits: int[..., k, 3] of x, y [pixels] and t [time bins], t = 0 in empty slots, which may stand anywhere.
        image: embedded-ToF image float[..., y, x] [time bins] of the same events, see `embed`.

    Returns:
        bool[..., k], False in empty slots. Hits with the same x, y and t cannot be told apart: either all of them are
        visible, or none.
    """
    return is_hit(hits) & (at_hits(image, hits) == hits[..., 2].astype(image.dtype))


def is_one_at_pixel(hits: Int[Array, "*batch k 3"], image: Float[Array, "*batch y x"]) -> Bool[Array, "*batch k"]:
    """Select one visible hit for each lit pixel of the embedded image of the same events: of equal hits the last.

    Args:
        hits: int[..., k, 3] of x, y [pixels] and t [time bins], t = 0 in empty slots, which may stand anywhere.
        image: embedded-ToF image float[..., y, x] [time bins] of the same events, see `embed`.

    Returns:
        bool[..., k], as many True per event as it has lit pixels; False in empty slots.
    """
    *batch, n_y, n_x = image.shape
    n_events, k = math.prod(batch), hits.shape[-2]
    flat = hits.reshape(n_events, k, 3).astype(jnp.int32)
    pixel = (jnp.arange(n_events, dtype=jnp.int32)[:, None] * n_y + flat[..., 1]) * n_x + flat[..., 0]
    visible = is_visible(hits, image).reshape(n_events, k)
    pixel = jnp.where(visible, pixel, n_events * n_y * n_x)
    slots = jnp.broadcast_to(jnp.arange(1, k + 1, dtype=jnp.int32), pixel.shape)
    last = jnp.zeros(n_events * n_y * n_x, jnp.int32).at[pixel].max(slots, mode="drop")
    return (visible & (last.at[pixel].get(mode="fill", fill_value=0) == slots)).reshape(*batch, k)


def count_occluded(hits: Int[Array, "*batch k 3"], image: Float[Array, "*batch y x"]) -> Int[Array, "*batch"]:
    """Count the hits of each event that its embedded image cannot show: hits minus lit pixels.

    Args:
        hits: int[..., k, 3] of x, y [pixels] and t [time bins], t = 0 in empty slots, which may stand anywhere.
        image: embedded-ToF image float[..., y, x] [time bins] of the same events, see `embed`.

    Returns:
        int32[...], 0 for an event without hits. Hits outside the image are counted too.
    """
    return count_hits(hits) - jnp.sum(image > 0, axis=(-2, -1), dtype=jnp.int32)


def reconstruct_3d(
    image: Float[Array, "*batch y x"], *, max_hits: int
) -> tuple[Int[Array, "*batch k 3"], Int[Array, "*batch"]]:
    """Reconstruct the hit list of each image, ordered by y then x, in a fixed number of slots for `jit`.

    Each lit pixel, `image[y, x] > 0`, gives the hit `(x, y, max(round(image[y, x]), 1))`. Times are rounded to whole
    bins (half to even); a lit pixel never rounds to "no hit": it gives at least bin 1.

    Args:
        image: float[..., y, x] [time bins]; 0, negative and NaN: no hit.
        max_hits: slots per event; static.

    Returns:
        `(hits, n_lit)`: int32[..., max_hits, 3] of x, y [pixels] and t [time bins], t = 0 in the empty slots at the
        end, and int32[...], all lit pixels. Where `n_lit` exceeds `max_hits`, only the first `max_hits` of them are in
        the list.
    """
    *batch, n_y, n_x = image.shape
    flat = image.reshape(math.prod(batch), n_y * n_x)
    lit = flat > 0
    rank = jnp.cumsum(lit, axis=-1, dtype=jnp.int32) - 1
    slot = jnp.where(lit, rank, max_hits)  # unlit pixels and surplus hits fall off the end
    pixel = jnp.broadcast_to(jnp.arange(n_y * n_x, dtype=jnp.int32), flat.shape)
    t = jnp.maximum(jnp.round(flat), 1).astype(jnp.int32)
    values = jnp.stack([pixel % n_x, pixel // n_x, t], axis=-1)

    def fill(slots: Array, rows: Array) -> Array:
        return jnp.zeros((max_hits, 3), jnp.int32).at[slots].set(rows, mode="drop")

    hits = jax.vmap(fill)(slot, values)
    n_lit = jnp.sum(lit, axis=-1, dtype=jnp.int32)
    return hits.reshape(*batch, max_hits, 3), n_lit.reshape(batch)


def reconstruct_3d_numpy(image: np.ndarray) -> np.ndarray:
    """Reconstruct the hit list of one image on the host, ordered by y then x, exactly as long as needed.

    The hits are those of `reconstruct_3d`: `(x, y, max(round(image[y, x]), 1))` where `image[y, x] > 0`.

    Args:
        image: float[y, x] [time bins]; 0, negative and NaN: no hit.

    Returns:
        int32[n, 3] of x, y [pixels] and t [time bins], one row per lit pixel; no rows for an image without any.
    """
    y, x = np.nonzero(image > 0)
    t = np.maximum(np.rint(image[y, x]), 1)
    return np.stack([x, y, t], axis=-1).astype(np.int32)


def mask(
    image: Float[Array, "*batch y x"],
    direct: Real[Array, "*batch y x"],
    *,
    is_lit: Bool[Array, "*batch y x"] | None = None,
    tof_tolerance: Number | None = None,
) -> Float[Array, "*batch y x"]:
    """Keep the input's own hits, with their exact ToF, at the pixels that the direct output lights.

    `masked = image` where lit and `|image - direct| <= tof_tolerance`, else 0.

    Args:
        image: embedded-ToF input float[..., y, x] [time bins], 0 where there is no hit.
        direct: direct output [..., y, x] after renormalisation [time bins].
        is_lit: where the direct output shows a hit; None: where `direct` is above 0.
        tof_tolerance: largest difference of a hit's ToF from that of `direct` [time bins]; None keeps hits of any ToF.

    Returns:
        The masked image float[..., y, x] [time bins]. Its gradient with respect to `direct` is 0.
    """
    keep = direct > 0 if is_lit is None else is_lit
    if tof_tolerance is not None:
        keep &= jnp.abs(image - direct) <= tof_tolerance
    return jnp.where(keep, image, jnp.zeros_like(image))
