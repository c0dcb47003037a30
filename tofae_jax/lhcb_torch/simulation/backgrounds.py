"""Backgrounds of an event: other tracks, dark counts, hot pixels, afterpulses, each hit with its origin."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tofae_jax.core.hits import is_hit
from tofae_jax.core.types import Number
from tofae_jax.lhcb_torch.module import ModuleSettings, check_number, check_settings, check_shape
from tofae_jax.lhcb_torch.simulation.detection import Photons, Slots
from tofae_jax.lhcb_torch.simulation.event import simulate_tracks
from tofae_jax.lhcb_torch.simulation.slots import draw_poisson, gather_kept
from tofae_jax.lhcb_torch.simulation.tracks import draw_tracks

ORIGINS = ("signal", "other_track", "dark", "hot_pixel", "afterpulse")
"""what made a hit, in the order of its code; an empty slot has `NO_ORIGIN`"""
NO_ORIGIN = -1
SIGNAL, OTHER_TRACK, DARK, HOT_PIXEL, AFTERPULSE = range(len(ORIGINS))
MAX_HOT_PIXELS = 64
"""static capacity; the settings choose how many are hot"""

LIMITS = {
    "n_other_tracks": (0.0, 1e6),
    "n_dark": (0.0, 1e9),
    "n_hot": (0.0, 1e9),
    "n_hot_pixels": (1, MAX_HOT_PIXELS),
    "hot_pixel_seed": (0, 2**32 - 1),
    "afterpulse_chance": (0.0, 1.0),
    "afterpulse_delay_ns": (0.0, 1e6),
    "afterpulse_tau_ns": (1e-6, 1e6),
}


class BackgroundSettings(NamedTuple):
    """Mean numbers of each background per event and what shapes it. Each may be traced; mean 0 switches one off.

    The defaults give a busy LHCb event: of some 200 hits, about 80 % are photons of other tracks. Dark counts, hot
    pixels and afterpulses are set far above what micro-channel plates show (below 1 kHz per cm^2 of dark counts is
    0.01 per window; A. Lehmann et al., arXiv:2403.13938, on how these are measured), to be seen at all in training.
    """

    n_other_tracks: Number = 7.0
    """mean number of other tracks through the module, Poisson; each with the photons of a real track"""
    n_dark: Number = 5.0
    """mean number of dark counts in the window, Poisson, uniform over pixels and time bins"""
    n_hot: Number = 5.0
    """mean number of hits of all hot pixels in the window, Poisson, uniform in time"""
    n_hot_pixels: Number = 10
    """pixels that fire too often, 1..64"""
    hot_pixel_seed: Number = 0
    """which pixels are hot and how hot each is: the same in every event, as they belong to the detector"""
    afterpulse_chance: Number = 0.02
    """chance that a hit of any other origin is followed by an afterpulse in its pixel"""
    afterpulse_delay_ns: Number = 1.0
    """shortest delay of an afterpulse; an assumption, as is the next"""
    afterpulse_tau_ns: Number = 6.0
    """mean of the exponential law of its delay beyond that"""


class MixedEvent(NamedTuple):
    """Signal and backgrounds of an event in one list."""

    hits: Int[Array, "*batch k 3"]
    """column, row, time bin; the signal first, then in the order of `ORIGINS`"""
    origin: Int[Array, "*batch k"]
    """int8: place in `ORIGINS`, -1 in empty slots"""
    track: Int[Array, "*batch k"]
    """the signal's own number of its track; other tracks are numbered after all of those; -1 for hits of no track"""
    n_dropped: Int[Array, "*batch"]
    """hits and other tracks lost because there were too few slots"""


def check_backgrounds(backgrounds: BackgroundSettings) -> None:
    """Raise ValueError naming the first setting that is not allowed, its value and what is; traced values pass."""
    for name, (low, high) in LIMITS.items():
        check_number(name, getattr(backgrounds, name), low, high)


def dark_hits(
    key: Array, *, mean: Number, n_slots: int, shape_xyt: tuple[int, int, int]
) -> tuple[Int[Array, "k 3"], Int[Array, ""]]:
    """Dark counts: a Poisson number, uniform over pixels and time bins. Returns `(hits[n_slots, 3], n_dropped)`."""
    key_count, key_hits = jax.random.split(key)
    n, n_dropped = draw_poisson(key_count, mean, n_slots)
    u = jax.random.uniform(key_hits, (3, n_slots), jnp.float32)
    x, y, t = (jnp.floor(u[i] * size).astype(jnp.int32) for i, size in enumerate(shape_xyt))
    hits = jnp.stack([x, y, t + 1], axis=1)
    return jnp.where((jnp.arange(n_slots, dtype=jnp.int32) < n)[:, None], hits, 0), n_dropped


def draw_hot_pixels(
    seed: Number, *, n_hot_pixels: Number, shape_xyt: tuple[int, int, int]
) -> tuple[Int[Array, "p 2"], Float[Array, " p"]]:
    """The detector's hot pixels: `(column and row [64, 2], share of the hot hits [64])`, 0 for pixels not in use.

    Pixels are uniform over the detector; their rates follow an exponential law: a few are much hotter than the rest.
    """
    key = jax.random.key(jnp.asarray(seed, jnp.uint32))
    u = jax.random.uniform(key, (MAX_HOT_PIXELS, 3), jnp.float32)
    place = jnp.stack([jnp.floor(u[:, i] * shape_xyt[i]) for i in range(2)], axis=1).astype(jnp.int32)
    used = jnp.arange(MAX_HOT_PIXELS, dtype=jnp.int32) < jnp.asarray(n_hot_pixels, jnp.int32)
    rate = jnp.where(used, -jnp.log1p(-u[:, 2]), 0)
    return place, rate / jnp.sum(rate)


def hot_hits(
    key: Array, *, mean: Number, n_hot_pixels: Number, seed: Number, n_slots: int, shape_xyt: tuple[int, int, int]
) -> tuple[Int[Array, "k 3"], Int[Array, ""]]:
    """Hits of hot pixels (see `draw_hot_pixels`), uniform in time. Returns `(hits[n_slots, 3], n_dropped)`."""
    key_count, key_hits = jax.random.split(key)
    n, n_dropped = draw_poisson(key_count, mean, n_slots)
    place, share = draw_hot_pixels(seed, n_hot_pixels=n_hot_pixels, shape_xyt=shape_xyt)
    u = jax.random.uniform(key_hits, (2, n_slots), jnp.float32)
    below = jnp.cumsum(share)
    pixel = jnp.minimum(jnp.sum(u[0][:, None] * below[-1] >= below[None], axis=1), MAX_HOT_PIXELS - 1)
    time = jnp.floor(u[1] * shape_xyt[2]).astype(jnp.int32) + 1
    hits = jnp.concatenate([place[pixel], time[:, None]], axis=1)
    return jnp.where((jnp.arange(n_slots, dtype=jnp.int32) < n)[:, None], hits, 0), n_dropped


def afterpulses(
    key: Array,
    hits: Int[Array, "k 3"],
    *,
    chance: Number,
    delay_ns: Number,
    tau_ns: Number,
    shape_xyt: tuple[int, int, int],
    bin_ns: Number,
) -> Int[Array, "k 3"]:
    """Afterpulses: slot `i` holds the one that hit `i` caused, or nothing.

    A hit causes one with this chance, in its own pixel, later by `delay_ns` plus an exponential time with mean `tau_ns`
    (rounded to bins). Those after the window are not seen. An afterpulse causes no other.
    """
    u = jax.random.uniform(key, (2, hits.shape[0]), jnp.float32)
    later = jnp.round((delay_ns - tau_ns * jnp.log1p(-u[0])) / bin_ns)
    # cut as a float: a long delay in short bins would overflow an integer
    time = hits[:, 2] + jnp.minimum(later, shape_xyt[2]).astype(jnp.int32)
    seen = is_hit(hits) & (u[1] < chance) & (time <= shape_xyt[2])
    return jnp.where(seen[:, None], jnp.concatenate([hits[:, :2], time[:, None]], axis=1), 0)


def other_tracks(
    key: Array,
    settings: ModuleSettings,
    *,
    mean: Number,
    window_start_ns: Number,
    shape_xyt: tuple[int, int, int],
    bin_ns: Number,
    slots: Slots,
    max_other_tracks: int,
) -> tuple[Photons, Int[Array, ""]]:
    """Photons of a Poisson number of other tracks in an event's window, and what found no slot (photons and tracks)."""
    key_tracks, key_count, key_photons = jax.random.split(key, 3)
    n, n_dropped = draw_poisson(key_count, mean, max_other_tracks)
    photons = simulate_tracks(
        key_photons,
        draw_tracks(key_tracks, max_other_tracks, settings),
        (jnp.arange(max_other_tracks, dtype=jnp.int32) < n).astype(jnp.float32),
        settings,
        window_start_ns=window_start_ns,
        shape_xyt=shape_xyt,
        bin_ns=bin_ns,
        slots=slots,
    )
    return photons, photons.n_dropped + n_dropped


def mix_backgrounds(
    key: Array,
    hits: Int[Array, "s 3"],
    track: Int[Array, " s"],
    settings: ModuleSettings,
    backgrounds: BackgroundSettings,
    *,
    window_start_ns: Number,
    shape_xyt: tuple[int, int, int],
    bin_ns: Number,
    slots: Slots,
    max_other_tracks: int,
    max_tracks: int = 1,
    n_slots: int,
) -> MixedEvent:
    """Add all backgrounds to the hits of one event; `jax.vmap` for a batch.

    Other tracks are drawn like the event's own (impact anywhere on the module, own collision time, own flight time), so
    their photons are spread over the whole pixel plane and partly fall outside the window. Afterpulses follow hits of
    every other origin.

    Args:
        key: random key of this event's backgrounds.
        hits: signal hits, t = 0 in empty slots, e.g. of `SimulatedEvent.photons`.
        track: number of each one's track.
        settings: numbers of the module, for the other tracks; may be traced, as may `backgrounds`.
        backgrounds: numbers of the backgrounds.
        window_start_ns: start of the event's time window, ns after the bunch crossing.
        shape_xyt, bin_ns: pixel columns, pixel rows, time bins; length of a time bin in ns.
        slots: room per other track, see `choose_slots`; static.
        max_other_tracks: room for other tracks; static.
        max_tracks: the first number for an other track: room for tracks of the signal.
        n_slots: room for all hits together, and for the dark and hot hits each; static.

    Raises ValueError for a setting that is not allowed, naming it; traced settings are not checked.
    """
    check_settings(settings)
    check_backgrounds(backgrounds)
    check_shape(shape_xyt, 1.0, n_slots=n_slots, max_other_tracks=max_other_tracks)
    key_others, key_noise, key_after = jax.random.split(key, 3)
    others, n_others_dropped = other_tracks(
        key_others,
        settings,
        mean=backgrounds.n_other_tracks,
        window_start_ns=window_start_ns,
        shape_xyt=shape_xyt,
        bin_ns=bin_ns,
        slots=slots,
        max_other_tracks=max_other_tracks,
    )
    (dark, hot), n_noise_dropped = _noise(key_noise, backgrounds, shape_xyt, n_slots)
    parts = ((SIGNAL, hits, track), (OTHER_TRACK, others.hits, others.track + max_tracks), (DARK, dark, None))
    mixed = _joined((*parts, (HOT_PIXEL, hot, None)), n_slots)
    chance, delay, tau = backgrounds.afterpulse_chance, backgrounds.afterpulse_delay_ns, backgrounds.afterpulse_tau_ns
    law = {"chance": chance, "delay_ns": delay, "tau_ns": tau}
    after = afterpulses(key_after, mixed.hits, **law, shape_xyt=shape_xyt, bin_ns=bin_ns)
    final = _joined(((mixed.origin, mixed.hits, mixed.track), (AFTERPULSE, after, None)), n_slots)
    return final._replace(n_dropped=final.n_dropped + mixed.n_dropped + n_others_dropped + n_noise_dropped)


def _noise(
    key: Array, backgrounds: BackgroundSettings, shape_xyt: tuple[int, int, int], n_slots: int
) -> tuple[tuple[Array, Array], Array]:
    """Dark hits and hot hits, and how many of them were dropped."""
    key_dark, key_hot = jax.random.split(key)
    dark, n_dark_dropped = dark_hits(key_dark, mean=backgrounds.n_dark, n_slots=n_slots, shape_xyt=shape_xyt)
    hot, n_hot_dropped = hot_hits(
        key_hot,
        mean=backgrounds.n_hot,
        n_hot_pixels=backgrounds.n_hot_pixels,
        seed=backgrounds.hot_pixel_seed,
        n_slots=n_slots,
        shape_xyt=shape_xyt,
    )
    return (dark, hot), n_dark_dropped + n_hot_dropped


def _joined(parts: tuple[tuple[int | Array, Array, Array | None], ...], n_slots: int) -> MixedEvent:
    """Hits of all parts, each `(origin, hits, track)`, one after the other without gaps."""
    hits = jnp.concatenate([part.astype(jnp.int32) for _, part, _ in parts])
    origin = jnp.concatenate([jnp.broadcast_to(jnp.asarray(o, jnp.int8), part.shape[:1]) for o, part, _ in parts])
    track = jnp.concatenate(
        [jnp.full(part.shape[0], -1, jnp.int32) if t is None else t.astype(jnp.int32) for _, part, t in parts]
    )
    index, filled, n_dropped = gather_kept(is_hit(hits), n_slots)
    return MixedEvent(
        hits=jnp.where(filled[:, None], hits[index], 0),
        origin=jnp.where(filled, origin[index], jnp.int8(NO_ORIGIN)),
        track=jnp.where(filled, track[index], -1),
        n_dropped=n_dropped,
    )
