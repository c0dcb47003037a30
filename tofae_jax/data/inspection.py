"""Is a dataset what its description says, and what is in it: one pass over the shards."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tofae_jax.core.distributions import Distributions, plane_groups, plane_shape
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.event_store import origin_of
from tofae_jax.data.events import DataError, Events, event_of_hit
from tofae_jax.data.storage.checksum import file_checksum


class Inspection(NamedTuple):
    """What `inspect_dataset` found."""

    problems: list[str]
    """one line each; empty if all is well"""
    n_duplicates: int
    """hits that equal another hit of their event in x, y and t"""
    n_occluded: int
    """hits that an embedded image would not show"""
    n_empty: int
    """events without hits"""
    distributions: Distributions


def _checksum_problems(dataset: Dataset) -> list[str]:
    problems = []
    for index, shard in enumerate(dataset.description.shards):
        for name in dict.fromkeys([*shard.sha256, *dataset.files_of_shard(index)]):
            path = dataset.path / name
            if name not in shard.sha256:
                problems.append(f"{path}: has no recorded checksum, so its bytes cannot be verified")
            elif path.is_file() and file_checksum(path) != shard.sha256[name]:
                problems.append(f"{path}: its checksum is not the one it was written with")
    return problems


def _padded_add(total: np.ndarray, part: np.ndarray) -> np.ndarray:
    size = max(total.shape[-1], part.shape[-1])
    widened = [np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, size - a.shape[-1])]) for a in (total, part)]
    return widened[0] + widened[1]


def _repeats(events: Events, columns: int) -> np.ndarray:
    """Per event, the hits that equal an earlier one in their first `columns` coordinates."""
    key = event_of_hit(events)
    for column in range(columns):
        key = key * 2**15 + events.hits[:, column]  # coordinates are below 2**15, so the key is unique
    distinct = np.unique(key) >> (15 * columns)
    return events.counts - np.bincount(distinct, minlength=events.n_events)


def _plane(places: np.ndarray, t: np.ndarray, n_places: int, n_t: int) -> np.ndarray:
    of_places, of_times = plane_groups(n_places, n_t)
    shape = plane_shape(n_places, n_t)
    cells = (places // of_places) * shape[1] + t // of_times
    return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)


def _planes(events: Events, shape_xyt: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`xt`, `yt` and `hits_per_track` of events."""
    n_x, n_y, n_t = shape_xyt
    origin, track = origin_of(events), events.hit_columns.get("track")
    signal = np.ones(events.n_hits, bool) if origin is None else origin == 0
    x, y, t = events.hits[signal].T.astype(np.int64)
    xt, yt = _plane(x, t, n_x, n_t), _plane(y, t, n_y, n_t)
    if track is None or track.dtype.kind not in "iu" or track.ndim != 1:
        return xt, yt, np.zeros(0, np.int64)
    names, place = np.unique(track[signal], return_inverse=True)
    _, counts = np.unique(event_of_hit(events)[signal] * max(len(names), 1) + place, return_counts=True)
    return xt, yt, np.bincount(counts)


def inspect_dataset(dataset: Dataset) -> Inspection:
    """Check checksums, offsets, ranges and duplicates, and sum up the distributions. Shards are read one at a time."""
    problems = _checksum_problems(dataset)
    n_x, n_y, n_t = dataset.detector.shape
    empty = np.zeros(1, np.int64)
    total = Distributions(
        empty,
        np.zeros(n_x, np.int64),
        np.zeros(n_y, np.int64),
        np.zeros(n_t + 1, np.int64),
        np.zeros((2, 1), np.int64),
        np.zeros(plane_shape(n_x, n_t), np.int64),
        np.zeros(plane_shape(n_y, n_t), np.int64),
    )
    n_duplicates = n_occluded = n_empty = 0
    for index in range(len(dataset.description.shards)):
        try:
            events = dataset.shard(index)
        except DataError as error:
            problems.append(str(error))
            continue
        repeats, shared = _repeats(events, 3), _repeats(events, 2)
        n_duplicates += int(repeats.sum())
        n_occluded += int(shared.sum())
        n_empty += int(np.sum(events.counts == 0))
        x, y, t = events.hits.T
        counts = np.bincount(events.counts)
        xt, yt, per_track = _planes(events, dataset.detector.shape)
        total = Distributions(
            _padded_add(total.hits_per_event, counts),
            total.x + np.bincount(x, minlength=n_x),
            total.y + np.bincount(y, minlength=n_y),
            total.t + np.bincount(t, minlength=n_t + 1),
            _padded_add(total.occlusion, np.stack([counts, np.bincount(events.counts, weights=shared).astype(int)])),
            total.xt + xt,
            total.yt + yt,
            _padded_add(total.hits_per_track, per_track) if len(per_track) else total.hits_per_track,
        )
    return Inspection(problems, n_duplicates, n_occluded, n_empty, total)


def describe(dataset: Dataset, found: Inspection) -> list[str]:
    """What a person wants to know of a dataset, line by line."""
    description, detector = dataset.description, dataset.detector
    hits = found.distributions.hits_per_event
    n_checked = int(hits.sum())
    mean = float((np.arange(len(hits)) * hits).sum()) / max(n_checked, 1)
    lit = np.nonzero(hits)[0]
    return [
        f"dataset      {dataset.path} (schema version {description.schema_version}, {dataset.fingerprint})",
        f"detector     {detector.n_x} x {detector.n_y} pixels, {detector.n_t} time bins "
        f"({detector.width_mm:g} x {detector.height_mm:g} mm, {detector.window_ns:g} ns)",
        f"provenance   {', '.join(f'{key}={value}' for key, value in description.provenance.items())}",
        f"events       {description.n_events} in {len(description.shards)} shards, {found.n_empty} without hits",
        f"hits         {description.n_hits}, per event {mean:.1f}"
        + (f" (from {lit[0]} to {lit[-1]})" if len(lit) else ""),
        f"columns      hits: {', '.join(['x', 'y', 't', *description.hit_columns])}; "
        f"events: {', '.join(description.event_columns) or 'none'}"
        + (f"; tracks: {', '.join(description.track_columns)}" if description.track_columns is not None else ""),
        f"occlusion    {found.n_occluded} hits share a pixel with a later one",
        f"duplicates   {found.n_duplicates} hits equal another of their event",
        f"integrity    {'ok' if not found.problems else f'{len(found.problems)} problems'}",
    ]
