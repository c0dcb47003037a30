"""Events of the simulated LHCb TORCH module on the host: any numbers of an endless, seeded list."""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.data.events import Events, concatenate, offsets_from_counts
from tofae_jax.data.simulated import MODULE_GENERATOR
from tofae_jax.data.simulated.stream import SimulatedEvents
from tofae_jax.lhcb_torch.simulation import (
    BackgroundSettings,
    MixedEvent,
    ModuleSettings,
    SimulatedEvent,
    Slots,
    check_settings,
    choose_slots,
    mix_backgrounds,
    simulate_event,
)
from tofae_jax.lhcb_torch.simulation.backgrounds import check_backgrounds
from tofae_jax.lhcb_torch.simulation.slots import slots_for_mean

EVENTS_AT_A_TIME = 64  # of one track, in one program: each column of their photons takes 1 MB
SIMULATED_TRACK_COLUMNS = ("x_mm", "y_mm", "slope_x", "slope_y", "momentum_gev", "particle", "arrival_ns")
TIMES_WITHIN_WINDOW = ("time_sigma_ns", "bunch_sigma_ns", "window_margin_ns", "window_jitter_ns")
MEAN_OF_SLOTS = 0.6  # photons of the brightest tracks on average, per slot of a track


class ModuleEvents(NamedTuple):
    """Events of an LHCb TORCH module, by all that decides them: event `i` is a function of this and `i` alone."""

    detector: Detector
    """shape and scale of the detector"""
    settings: ModuleSettings = ModuleSettings()
    """the module, its optics and its tracks"""
    backgrounds: BackgroundSettings = BackgroundSettings()
    """mean numbers of background hits per event"""
    photons: Literal["dense", "detected"] = "dense"
    """`dense`: patterns of many photons per track, to train with; `detected`: those that a detector sees"""
    seed: int = 0
    """seed of every draw"""

    def check(self) -> None:
        """Raise ValueError naming the first setting that is not allowed."""
        check_settings(self.settings)
        check_backgrounds(self.backgrounds)
        self._check_times()
        if self.photons not in ("dense", "detected"):
            raise ValueError(f"photons is {self.photons!r}, allowed are 'dense', 'detected'")

    def _check_times(self) -> None:
        """Raise ValueError naming the first time that does not fit into the detector's time window."""
        window_ns = self.detector.window_ns
        times = {name: getattr(self.settings, name) for name in TIMES_WITHIN_WINDOW}
        if self.backgrounds.afterpulse_chance:
            times["afterpulse_delay_ns"] = self.backgrounds.afterpulse_delay_ns
        for name, value in times.items():
            if float(value) > window_ns:
                raise ValueError(f"{name} is {value:g}, allowed: at most {window_ns:g}, the detector's time window")

    def draw(self, numbers: np.ndarray) -> tuple[Events, int]:
        """The events of these numbers, and how many hits and other tracks found no slot: rarely any.

        Columns of hits: `track` (-1: none; other tracks come after the event's own), `origin` (place in `ORIGINS`),
        `energy_ev`, `is_reflected`, `time_ns` (true arrival after the bunch crossing; these are 0 for backgrounds); of
        events: `window_start_ns`; of tracks: `SIMULATED_TRACK_COLUMNS`. The hits of an event's own tracks are signal,
        origin 0.
        """
        numbers = np.asarray(numbers, np.int64)
        parts, n_dropped = [], 0
        size = max(1, EVENTS_AT_A_TIME // max(1, int(self.settings.n_tracks[1])))
        # always one program: less to compile, and an event cannot depend on how many are asked for
        for start in range(0, len(numbers), size):
            chosen = numbers[start : start + size]
            padded = np.pad(chosen, (0, size - len(chosen)), mode="edge")
            simulated, mixed = self._simulated(padded)
            parts.append(_columns(simulated, mixed, len(chosen)))
            n_dropped += int(simulated.photons.n_dropped[: len(chosen)].sum())
            n_dropped += int(mixed.n_dropped[: len(chosen)].sum())
        return concatenate(parts), n_dropped

    def _simulated(self, numbers: np.ndarray) -> tuple[SimulatedEvent, MixedEvent]:
        is_dense = self.photons == "dense"
        scale = float(self.settings.dense_factor) if is_dense else 1.0
        n_others = slots_for_mean(float(self.backgrounds.n_other_tracks))
        real = _slots(self.settings, 1.0)
        slots = _slots(self.settings, scale)
        max_tracks = max(1, int(self.settings.n_tracks[1]))
        n_background = math.ceil(n_others * MEAN_OF_SLOTS * real.n_photons)
        n_background += slots_for_mean(float(self.backgrounds.n_dark + self.backgrounds.n_hot))
        events = _simulate(
            jax.random.key(self.seed),
            numbers.astype(np.uint32),
            jax.tree.map(np.float32, self.settings._replace(n_tracks=(0, 0)))._replace(
                n_tracks=jax.tree.map(np.int32, self.settings.n_tracks)
            ),
            self.backgrounds._replace(hot_pixel_seed=np.uint32(self.backgrounds.hot_pixel_seed)),
            np.float32(scale),
            shape_xyt=self.detector.shape,
            bin_ns=self.detector.bin_ns,
            slots=slots,
            real=real,
            max_tracks=max_tracks,
            max_other_tracks=n_others,
            n_background=n_background + (0 if is_dense else max_tracks * real.n_photons),
            with_signal=not is_dense,
        )
        return jax.device_get(events)


@cache
def _slots(settings: ModuleSettings, scale: float) -> Slots:
    return choose_slots(settings, scale=scale)


@partial(
    jax.jit,
    static_argnames=(
        "shape_xyt", "bin_ns", "slots", "real", "max_tracks", "max_other_tracks", "n_background", "with_signal",
    ),
)  # fmt: skip
def _simulate(
    key: jax.Array,
    numbers: jax.Array,
    settings: ModuleSettings,
    backgrounds: BackgroundSettings,
    scale: Any,
    *,
    shape_xyt: tuple[int, int, int],
    bin_ns: float,
    slots: Slots,
    real: Slots,
    max_tracks: int,
    max_other_tracks: int,
    n_background: int,
    with_signal: bool,
) -> tuple[SimulatedEvent, MixedEvent]:
    def one(number: jax.Array) -> tuple[SimulatedEvent, MixedEvent]:
        key_event, key_background = jax.random.split(jax.random.fold_in(key, number))
        grid = {"shape_xyt": shape_xyt, "bin_ns": bin_ns}
        event = simulate_event(key_event, settings, **grid, slots=slots, max_tracks=max_tracks, scale=scale)
        # a dense pattern's photons are no hits yet, so they cause no afterpulses
        hits, track = event.photons.hits, event.photons.track
        mixed = mix_backgrounds(
            key_background,
            hits if with_signal else jnp.zeros((1, 3), jnp.int32),
            track if with_signal else jnp.full(1, -1, jnp.int32),
            settings,
            backgrounds,
            window_start_ns=event.window_start_ns,
            **grid,
            slots=real,
            max_other_tracks=max_other_tracks,
            max_tracks=max_tracks,
            n_slots=n_background,
        )
        return event, mixed

    return jax.vmap(one)(numbers)


def _columns(simulated: SimulatedEvent, mixed: MixedEvent, n_events: int) -> Events:
    """The first events as hit lists: an event's own photons, then its backgrounds."""
    photons = jax.tree.map(lambda leaf: leaf[:n_events], simulated.photons)
    mixed = jax.tree.map(lambda leaf: leaf[:n_events], mixed)
    seen, added = photons.hits[..., 2] > 0, mixed.origin > 0
    n_seen, n_added = seen.sum(axis=1), added.sum(axis=1)
    number = np.arange(n_events)
    # of each event first its own, then what was added
    order = np.argsort(np.concatenate([np.repeat(number, n_seen), np.repeat(number, n_added)]), kind="stable")

    def hit_column(own: np.ndarray, other: Any, dtype: Any) -> np.ndarray:
        others = other[added] if isinstance(other, np.ndarray) else np.full(n_added.sum(), other)
        return np.concatenate([own[seen].astype(dtype), others.astype(dtype)])[order]

    tracks, n_tracks = simulated.tracks, np.asarray(simulated.n_tracks[:n_events])
    known = np.arange(tracks.x_mm.shape[1]) < n_tracks[:, None]
    hits = np.concatenate([photons.hits[seen], mixed.hits[added]]).astype(np.int16)[order]
    return Events(
        hits,
        offsets_from_counts(n_seen + n_added),
        {
            "track": hit_column(photons.track, mixed.track, np.int16),
            "origin": hit_column(np.zeros_like(photons.track), mixed.origin, np.int8),
            "energy_ev": hit_column(photons.energy_ev, 0, np.float32),
            "is_reflected": hit_column(photons.is_reflected, 0, bool),
            "time_ns": hit_column(photons.true_time_ns, 0, np.float32),
        },
        {"window_start_ns": np.asarray(simulated.window_start_ns[:n_events], np.float32)},
        offsets_from_counts(n_tracks),
        {
            name: np.asarray(getattr(tracks, name)[:n_events][known], np.int8 if name == "particle" else np.float32)
            for name in SIMULATED_TRACK_COLUMNS
        },
    )


def module_stream(source: ModuleEvents, *, n_events: int) -> SimulatedEvents:
    """Simulate events of an LHCb TORCH module as they are asked for; training gets new ones in every epoch.

    Args:
        source: detector, module, backgrounds, photons per track and seed.
        n_events: events that stay the same, for validation and test, and events of an epoch.

    Returns:
        An event store, for `TrainSource`, `EvaluationSource` and `evaluate`.

    Raises:
        ValueError: a number of the module or of its backgrounds is not allowed.
    """
    source.check()
    provenance = {
        "generator": MODULE_GENERATOR,
        "photons": source.photons,
        "seed": source.seed,
        "module": _plain(source.settings),
        "background": _plain(source.backgrounds),
    }
    return SimulatedEvents(
        lambda events: source.draw(events)[0], n_events=n_events, detector=source.detector, provenance=provenance
    )


def _plain(settings: ModuleSettings | BackgroundSettings) -> dict[str, Any]:
    """Return settings as JSON values."""
    numbers = jax.tree.map(float, settings)._asdict()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in numbers.items()}
