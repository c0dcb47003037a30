"""Denoise events of any size with a compiled model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tofae_jax.core import hits
from tofae_jax.data.events import Events, offsets_from_counts, slice_events
from tofae_jax.data.tracks import track_table, tracks_of
from tofae_jax.engine.build import RunSetup
from tofae_jax.models import Model, Variables
from tofae_jax.steps import DenoiseOutput, StepOptions, StepSettings, TrainState, denoise_step
from tofae_jax.steps.state import variables_of
from tofae_jax.steps.types import typed

LEAST_SLOTS = 64
MOST_SLOTS_PER_BATCH = 2**20  # an event with very many hits travels in a smaller batch
BATCH = 64
"""events per batch where nothing else is asked for"""


def _padded(events: Events, rows: int, slots: int) -> np.ndarray:
    hits = np.zeros((rows, slots, 3), np.int16)
    filled = np.arange(slots) < events.counts[:, None]
    hits[: events.n_events][filled] = events.hits
    return hits


def _groups(events: Events, batch: int) -> Iterator[tuple[Events, int, int]]:
    """Events in batches, with the rows and slots to pad them to.

    Slots are a power of two: a new shape compiles anew, so there must be few of them. No hit is ever dropped.
    """
    start, batch = 0, min(batch, 1 << (max(events.n_events, 1) - 1).bit_length())  # few events fill a small batch
    while start < events.n_events:
        stop = min(start + batch, events.n_events)
        slots = _power_of_two(int(events.counts[start:stop].max()))
        rows = max(1, min(batch, MOST_SLOTS_PER_BATCH // slots))
        stop = min(stop, start + rows)
        yield slice_events(events, start, stop), rows, slots
        start = stop


def _power_of_two(n: int) -> int:
    return max(LEAST_SLOTS, 1 << (max(n, 1) - 1).bit_length())


class Denoiser:
    """A trained model, compiled for use on events of any size.

    Args:
        model: the model.
        state: its variables, or the train state that holds them.
        options: of `step_options`, as in training.
        settings: numbers of the steps, e.g. the thresholds; those of the degradation are not used.
        batch: events per batch.
    """

    def __init__(
        self,
        model: Model,
        state: TrainState | Variables,
        *,
        options: StepOptions,
        settings: StepSettings | None = None,
        batch: int = BATCH,
    ) -> None:
        """Prepare; nothing is compiled before the first batch. ValueError for a batch below 1."""
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        self.model, self._options = model, options
        self._variables = variables_of(state)
        self._settings = typed(StepSettings() if settings is None else settings)
        self._batch = batch

        def step(variables: Variables, event_hits: Any, settings: StepSettings, tracks: Any) -> DenoiseOutput:
            return denoise_step(variables, event_hits, settings, tracks, model=model, options=options)

        def pattern(variables: Variables, event_hits: Any, settings: StepSettings, tracks: Any) -> jax.Array:
            direct = step(variables, event_hits, settings, tracks).direct
            assert direct is not None  # `patterns` has checked it
            n_x, n_y, n_t = options.shape_xyt
            return hits.reconstruct_3d(jnp.minimum(direct, n_t), max_hits=n_x * n_y)[0]  # outputs may lie above 1

        self._scores = jax.jit(lambda *inputs: step(*inputs)._replace(direct=None))
        self._pattern = jax.jit(pattern)

    def __call__(self, parts: Iterator[Events]) -> Iterator[Events]:
        """Score the hits of events.

        Args:
            parts: events, part by part.

        Returns:
            The same events with hit columns `score`, `kept` and `visible`, in order. A model that is given tracks adds
            `track`: the place among its event's tracks, from 0, of the one that the hit most likely belongs to if it is
            signal, or -1 where there are none.

        Raises:
            DataError: tracks are needed and not known.
        """
        for events, output in self._computed(parts, self._scores):
            yield _scored(events, output)

    def patterns(self, parts: Iterator[Events]) -> Iterator[tuple[Events, Events]]:
        """Reconstruct the hits of the model's direct output; thresholds of the settings play no part.

        Args:
            parts: events, part by part.

        Returns:
            Pairs of events and their patterns: the pixels that the direct output lights, ordered by y then x, with
            their time bins; with the columns of the events, and none of hits.

        Raises:
            ValueError: the model scores hits and has no direct output, or its direct output has no times.
        """
        check_has_pattern(self.model, self._options)
        for events, output in self._computed(parts, self._pattern):
            found = output[: events.n_events]
            filled = found[..., 2] > 0
            offsets = offsets_from_counts(filled.sum(axis=1))
            yield events, events._replace(hits=found[filled].astype(np.int16), offsets=offsets, hit_columns={})

    def _computed(self, parts: Iterator[Events], step: Callable[..., Any]) -> Iterator[tuple[Events, Any]]:
        """Run a step over events in batches; one runs on the device while the one before it is handed out."""
        waiting: tuple[Events, Any] | None = None
        for part in parts:
            for events, rows, slots in _groups(part, self._batch):
                output = step(self._variables, _padded(events, rows, slots), self._settings, self._tracks(events, rows))
                if waiting is not None:
                    yield waiting[0], jax.device_get(waiting[1])
                waiting = (events, output)
        if waiting is not None:
            yield waiting[0], jax.device_get(waiting[1])

    def _tracks(self, events: Events, rows: int) -> np.ndarray | None:
        """Padded tracks, as many slots as a power of two; an event without tracks has no signal."""
        if not self.model.takes_tracks:
            return None
        tracks = tracks_of(events)
        most = int(tracks.counts.max(initial=0)) if tracks is not None else 0
        where = "the input" if tracks is not None else "the input, without --tracks"
        table = track_table(tracks, slots=1 << (max(most, 1) - 1).bit_length(), where=where)
        return np.concatenate([table, np.zeros((rows - len(table), *table.shape[1:]), np.float32)])


def run_denoiser(setup: RunSetup, state: TrainState | Variables) -> Denoiser:
    """Build the denoiser of a run, e.g. of `load_run(folder).setup` and its `variables`."""
    batch = setup.config.train.batch
    return Denoiser(setup.model, state, options=setup.options, settings=setup.step_settings(), batch=batch)


def check_has_pattern(model: Model, options: StepOptions) -> None:
    """Check that a model has a direct output with times.

    Raises:
        ValueError: it scores hits, or its normalisation keeps no times.
    """
    if options.scores_hits:
        raise ValueError(
            f"model {model.name} scores hits and gives no pattern; one that is trained with a loss of images does"
        )
    if not options.normalisation.has_time:
        raise ValueError("the model's output has no times (normalisation binary), so it gives no pattern of hits")


def _scored(events: Events, columns: DenoiseOutput) -> Events:
    filled = np.arange(columns.kept.shape[1]) < events.counts[:, None]
    given = {name: column for name, column in columns._asdict().items() if column is not None}
    found = {name: column[: events.n_events][filled] for name, column in given.items()}
    return events._replace(hit_columns={**events.hit_columns, **found})
