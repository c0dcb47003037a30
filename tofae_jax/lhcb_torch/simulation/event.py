"""Events of one or several tracks, and batches of them."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tofae_jax.core.types import Number
from tofae_jax.lhcb_torch.module import ModuleSettings, check_number, check_pair, check_settings, check_shape
from tofae_jax.lhcb_torch.simulation.detection import Photons, Slots, draw_window_start, simulate_track
from tofae_jax.lhcb_torch.simulation.tracks import Track, draw_tracks


class SimulatedEvent(NamedTuple):
    """The photons of an event, and its truth."""

    photons: Photons
    """of all tracks, `max_tracks * slots.n_photons` slots; `track` says whose"""
    tracks: Track
    """[max_tracks]; the first is the primary, those from `n_tracks` on made no photons"""
    n_tracks: Int[Array, "*batch"]
    """tracks of the event"""
    window_start_ns: Float[Array, "*batch"]
    """start of the time window after the bunch crossing, set by the primary"""


def simulate_event(
    key: Array,
    settings: ModuleSettings,
    *,
    shape_xyt: tuple[int, int, int],
    bin_ns: Number,
    slots: Slots,
    max_tracks: int = 1,
    scale: Number = 1.0,
) -> SimulatedEvent:
    """One event: draw tracks, the window of the first, and the photons of all.

    Args:
        key: random key of this event.
        settings: numbers of the module; may be traced. `n_tracks` gives the tracks, at most `max_tracks`.
        shape_xyt: pixel columns, pixel rows, time bins.
        bin_ns: length of a time bin in ns.
        slots: room per track, see `choose_slots`; static.
        max_tracks: room for tracks; static.
        scale: how many times the photons of a real track; `settings.dense_factor` gives the event's label, from which
            a detector sees each photon with the chance `1 / dense_factor`.

    Raises ValueError for a setting that is not allowed, naming it; traced settings are not checked.
    """
    check_settings(settings)
    _check_tracks(settings, max_tracks)
    key_tracks, key_count, key_window, key_photons = jax.random.split(key, 4)
    tracks = draw_tracks(key_tracks, max_tracks, settings)
    low, high = (jnp.asarray(bound, jnp.int32) for bound in settings.n_tracks)
    n_tracks = jnp.minimum(jax.random.randint(key_count, (), low, high + 1, dtype=jnp.int32), max_tracks)
    primary = jax.tree.map(lambda column: column[0], tracks)
    start = draw_window_start(key_window, primary, settings, shape_xyt=shape_xyt, bin_ns=bin_ns)
    number = jnp.arange(max_tracks, dtype=jnp.int32)
    photons = simulate_tracks(
        key_photons,
        tracks,
        jnp.where(number < n_tracks, jnp.asarray(scale, jnp.float32), 0),
        settings,
        window_start_ns=start,
        shape_xyt=shape_xyt,
        bin_ns=bin_ns,
        slots=slots,
    )
    return SimulatedEvent(photons, tracks, n_tracks, start)


def _check_tracks(settings: ModuleSettings, max_tracks: int) -> None:
    check_number("max_tracks", max_tracks, 1, 127)
    check_pair("n_tracks", settings.n_tracks, 0, max_tracks)


def simulate_tracks(
    key: Array,
    tracks: Track,
    scales: Float[Array, " n"],
    settings: ModuleSettings,
    *,
    window_start_ns: Number,
    shape_xyt: tuple[int, int, int],
    bin_ns: Number,
    slots: Slots,
) -> Photons:
    """Photons of several tracks in one list, `n * slots.n_photons` slots; track `i` draws from `(key, i)` only.

    `scales` says how many times its real photons each track makes; 0 for none.
    """
    check_shape(shape_xyt, 1.0, **slots._asdict())
    number = jnp.arange(scales.shape[0], dtype=jnp.int32)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, number)

    def simulate(key: Array, track: Track, scale: Array) -> Photons:
        return simulate_track(
            key,
            track,
            settings,
            window_start_ns=window_start_ns,
            shape_xyt=shape_xyt,
            bin_ns=bin_ns,
            slots=slots,
            scale=scale,
        )

    photons = jax.vmap(simulate)(keys, tracks, scales)
    photons = photons._replace(track=jnp.where(photons.is_photon, number[:, None], -1))
    n_outside, n_dropped = (jnp.sum(n, dtype=jnp.int32) for n in (photons.n_outside_window, photons.n_dropped))
    flat = jax.tree.map(lambda column: column.reshape(-1, *column.shape[2:]), photons)
    return flat._replace(n_outside_window=n_outside, n_dropped=n_dropped)


def event_keys(key: Array, *, first_event: Number, n_events: int) -> Array:
    """The keys of events `first_event ..`: event `i` has `fold_in(key, i)`, whatever batch it is in."""
    number = jnp.asarray(first_event, jnp.uint32) + jnp.arange(n_events, dtype=jnp.uint32)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, number)


def simulate_batch(
    key: Array,
    settings: ModuleSettings,
    *,
    n_events: int,
    first_event: Number = 0,
    shape_xyt: tuple[int, int, int],
    bin_ns: Number,
    slots: Slots,
    max_tracks: int = 1,
    scale: Number = 1.0,
) -> SimulatedEvent:
    """Events `first_event .. first_event + n_events - 1` of the endless list that `key` stands for, compiled.

    Event `i` is a function of `(key, i)` and the settings, bit for bit the same whatever `n_events` and `first_event`
    are on one device: a stream can be cut into batches of any size and resumed anywhere. `settings`, `first_event`,
    `bin_ns` and `scale` may change without recompiling. The other arguments, and the events, are those of
    `simulate_event`.

    Raises ValueError for a setting that is not allowed, naming it.
    """
    check_settings(settings)
    _check_tracks(settings, max_tracks)
    check_number("n_events", n_events, 1, 2**31 - 1)
    check_number("first_event", first_event, 0, 2**32 - n_events)
    check_number("scale", scale, 0, 1e6)
    check_shape(shape_xyt, bin_ns, **slots._asdict())
    keys = event_keys(key, first_event=first_event, n_events=n_events)
    return _simulate_keys(keys, settings, bin_ns, scale, shape_xyt=shape_xyt, slots=slots, max_tracks=max_tracks)


@partial(jax.jit, static_argnames=("shape_xyt", "slots", "max_tracks"))
def _simulate_keys(
    keys: Array,
    settings: ModuleSettings,
    bin_ns: Number,
    scale: Number,
    *,
    shape_xyt: tuple[int, int, int],
    slots: Slots,
    max_tracks: int,
) -> SimulatedEvent:
    def simulate(key: Array) -> SimulatedEvent:
        return simulate_event(
            key, settings, shape_xyt=shape_xyt, bin_ns=bin_ns, slots=slots, max_tracks=max_tracks, scale=scale
        )

    return jax.vmap(simulate)(keys)
