"""Degradation of a dense pattern to what a detector sees: sparsify, smear, add_noise.

Everything here is for one event, `hits int[k, 3]` with `t = 0` in empty slots; use `jax.vmap` with one key per event
for a batch, so that an event's draw depends on nothing but its own key. Counts, widths and weights may be traced:
following a schedule does not recompile. Only capacities (`max_signal`, `max_noise`) and choices by name are static.
Draws are float32 whatever the precision, so runs at different precisions see the same events.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from tofae_jax.core.hits import is_hit
from tofae_jax.core.noise import NoiseSettings, Range, add_noise, draw_count
from tofae_jax.core.static_checks import CheckedFields, check_range_of, static_number
from tofae_jax.core.types import Number

OVERFLOWS = ("drop", "clamp")
WIDTHS = ("sigma_x_pixels", "sigma_y_pixels", "sigma_t_bins")
SELECTIONS = ("random", "even")


class _DegradationNumbers(NamedTuple):
    n_signal: Range = (30, 30)
    """signal hits kept per event"""
    sigma_x_pixels: Number | Range = 0.0
    """smearing in x [pixels]"""
    sigma_y_pixels: Number | Range = 0.0
    """smearing in y [pixels]"""
    sigma_t_bins: Number | Range = 0.0
    """smearing in time [time bins]"""
    n_noise: Range = (200, 200)
    """noise hits added per event"""
    noise: NoiseSettings = NoiseSettings()
    """weights and sizes of the noise profiles"""


class DegradationSettings(CheckedFields, _DegradationNumbers):
    """Numbers of the three steps of the degradation. Each may be traced; those that are not are checked.

    Ranges are inclusive, and every event draws its own number. A width of the smearing is a number or a range.

    Raises:
        ValueError: a count is no range `0 <= low <= high`, or a width no finite number from 0 nor a range of them.
    """

    __slots__ = ()

    def check(self) -> None:
        """Raise ValueError for a range or a width that is none."""
        if isinstance(self.noise, NoiseSettings):  # not so where JAX puts other things in the places of numbers
            check_range_of("n_signal", self.n_signal)
            check_range_of("n_noise", self.n_noise)
            for name in WIDTHS:
                _ends_of_width(name, getattr(self, name))


def _ends_of_width(name: str, width: Any) -> list[Any]:
    """Return a width, or both ends of a range; ValueError for what is neither, as far as it is known now."""
    ends: list[Any] = list(width) if isinstance(width, tuple | list) or jnp.ndim(width) == 1 else [width]
    known = [number for end in ends if (number := static_number(end)) is not None]
    if len(ends) not in (1, 2) or not all(0 <= end < math.inf for end in known) or known != sorted(known):
        raise ValueError(f"{name} must be a finite number from 0, or a range low <= high of them, got {width}")
    return ends


class Degraded(NamedTuple):
    """One degraded event, or a batch of them: its hits, their origin, the stages of its signal, and true counts."""

    hits: Int[Array, "*batch k 3"]
    """signal and noise hits, `max_signal + max_noise` slots: x, y [pixels] and t [time bins], t = 0 in empty slots"""
    is_signal: Bool[Array, "*batch k"]
    """which of them are signal"""
    sparse: Int[Array, "*batch s 3"]
    """the kept signal hits before smearing, `max_signal` slots"""
    smeared: Int[Array, "*batch s 3"]
    """the same after smearing; hits smeared out of the detector are empty slots, or moved inside"""
    n_pattern: Int[Array, "*batch"]
    """hits of the pattern"""
    n_kept: Int[Array, "*batch"]
    """signal hits kept by `sparsify`"""
    n_signal: Int[Array, "*batch"]
    """signal hits left after smearing; those that `drop` lost are not counted"""
    n_noise: Int[Array, "*batch"]
    """noise hits added"""


def sparsify(
    key: Array, hits: Int[Array, "k 3"], *, n_signal: Range, max_signal: int, selection: str = "random"
) -> tuple[Int[Array, "s 3"], Int[Array, ""]]:
    """Keep `n` hits of an event, drawn uniformly without replacement.

    Args:
        key: random key of this event.
        hits: int[k, 3] of x, y [pixels] and t [time bins], t = 0 in empty slots, which may stand anywhere.
        n_signal: inclusive range that `n` is drawn from; an event with fewer hits keeps them all.
        max_signal: slots of the result; more are never kept.
        selection: `random`, or `even` for hits spaced evenly along the list (no draw but that of `n`).

    Returns:
        `(hits, n_kept)`: int[max_signal, 3], the kept hits first, then empty slots; and int32[], how many were kept.

    Raises:
        ValueError: `selection` is neither `random` nor `even`.
    """
    if selection not in SELECTIONS:
        raise ValueError(f"selection must be one of {SELECTIONS}, got {selection!r}")
    key_count, key_order = jax.random.split(key)
    filled = is_hit(hits)
    n_hits = jnp.sum(filled, dtype=jnp.int32)
    slots = min(max_signal, hits.shape[0])
    n_kept = jnp.minimum(jnp.minimum(draw_count(key_count, n_signal), n_hits), slots)
    rank = jnp.arange(slots, dtype=jnp.int32)
    if selection == "random":
        draw = jnp.where(filled, jax.random.uniform(key_order, filled.shape, jnp.float32), -1.0)
        _, index = jax.lax.top_k(draw, slots)
    else:
        # the middle of each of n_kept equal stretches; empty slots may stand anywhere, so number the filled ones first
        position = jnp.nonzero(filled, size=hits.shape[0], fill_value=0)[0]
        index = position[((2 * rank + 1) * n_hits) // (2 * jnp.maximum(n_kept, 1)) % hits.shape[0]]
    kept = jnp.where((rank < n_kept)[:, None], hits[index], 0)
    return jnp.pad(kept, ((0, max_signal - slots), (0, 0))), n_kept


def smear(
    key: Array,
    hits: Int[Array, "k 3"],
    *,
    shape_xyt: tuple[int, int, int],
    sigma_x_pixels: Number,
    sigma_y_pixels: Number,
    sigma_t_bins: Number,
    overflow: str = "drop",
) -> Int[Array, "k 3"]:
    """Smear the hits of an event in x, y and t by Gaussians, `round(hit + sigma normal)`, to whole pixels and bins.

    Widths of 0 leave hits inside the detector as they are. A hit that leaves the detector or the time window is lost
    (`drop`: its slot becomes empty), or moved to the nearest pixel and bin inside (`clamp`).

    Args:
        key: random key of this event.
        hits: int[k, 3] of x, y [pixels] and t [time bins], t = 0 in empty slots, which stay empty.
        shape_xyt: pixel columns, pixel rows, time bins.
        sigma_x_pixels: width in x [pixels]; may be traced, as the other widths.
        sigma_y_pixels: width in y [pixels].
        sigma_t_bins: width in time [time bins].
        overflow: `drop` or `clamp`.

    Returns:
        int[k, 3], each hit in its own slot.

    Raises:
        ValueError: `overflow` is neither `drop` nor `clamp`.
    """
    if overflow not in OVERFLOWS:
        raise ValueError(f"overflow must be one of {OVERFLOWS}, got {overflow!r}")
    sigma = jnp.stack([jnp.asarray(s, jnp.float32) for s in (sigma_x_pixels, sigma_y_pixels, sigma_t_bins)])
    # floats until they are cut: a very wide draw would overflow an integer and come out on the other side
    moved = jnp.round(hits + sigma * jax.random.normal(key, hits.shape, jnp.float32))
    n_x, n_y, n_t = shape_xyt
    low, high = jnp.array([0, 0, 1], jnp.float32), jnp.array([n_x - 1, n_y - 1, n_t], jnp.float32)
    keep = is_hit(hits)
    if overflow == "drop":
        keep &= jnp.all((moved >= low) & (moved <= high), axis=-1)
    return jnp.where(keep[:, None], jnp.clip(moved, low, high).astype(hits.dtype), 0)


def _width(key: Array, number: int, name: str, width: Any) -> Number:
    """This event's width of a smearing. `fold_in`: where it is no range, all draws are what they are without ranges."""
    ends = _ends_of_width(name, width)
    low, high = (jnp.asarray(end, jnp.float32) for end in (ends[0], ends[-1]))
    if len(ends) == 1:
        return low
    return low + (high - low) * jax.random.uniform(jax.random.fold_in(key, number))


def degrade(
    key: Array,
    hits: Int[Array, "k 3"],
    settings: DegradationSettings,
    background: Int[Array, "b 3"] | None = None,
    *,
    shape_xyt: tuple[int, int, int],
    max_signal: int,
    max_noise: int,
    overflow: str = "drop",
    selection: str = "random",
) -> Degraded:
    """Degrade one event: keep few signal hits, smear them, add noise. For a batch, `jax.vmap` over keys and hits.

    Args:
        key: random key of this event.
        hits: the pattern, int[k, 3] of x, y [pixels] and t [time bins], t = 0 in empty slots.
        settings: numbers of the three steps; may be traced. ValueError for more noise weights than profiles.
        background: int[b, 3], hits that the event brought along, for the noise profile `data`; None: it has none.
        shape_xyt: pixel columns, pixel rows, time bins.
        max_signal: slots for signal hits; the largest `n_signal` that any schedule reaches.
        max_noise: slots for noise hits, likewise.
        overflow: `drop` or `clamp`, see `smear`; ValueError for any other.
        selection: `random` or `even`, see `sparsify`; ValueError for any other.

    Returns:
        The degraded event, `max_signal + max_noise` slots with the signal first, and its true origins and counts.
    """
    key_sparsify, key_smear, key_noise = jax.random.split(key, 3)
    hits = hits.astype(jnp.int32)
    sparse, n_kept = sparsify(
        key_sparsify, hits, n_signal=settings.n_signal, max_signal=max_signal, selection=selection
    )
    smeared = smear(
        key_smear,
        sparse,
        shape_xyt=shape_xyt,
        **{name: _width(key_smear, i, name, getattr(settings, name)) for i, name in enumerate(WIDTHS, start=1)},
        overflow=overflow,
    )
    noise, n_noise = add_noise(
        key_noise,
        background,
        n_noise=settings.n_noise,
        max_noise=max_noise,
        shape_xyt=shape_xyt,
        settings=settings.noise,
    )
    signal = is_hit(smeared)
    return Degraded(
        hits=jnp.concatenate([smeared, noise]),
        is_signal=jnp.concatenate([signal, jnp.zeros(max_noise, bool)]),
        sparse=sparse,
        smeared=smeared,
        n_pattern=jnp.sum(is_hit(hits), dtype=jnp.int32),
        n_kept=n_kept,
        n_signal=jnp.sum(signal, dtype=jnp.int32),
        n_noise=n_noise,
    )
