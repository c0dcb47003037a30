"""Pattern generators: the densely filled sets of hits that a track could make, as hit lists on the host.

Image rows count downwards: a pattern *rises* towards row 0 while its time grows. Lengths are in pixels and time bins.
Each generator takes `(rng, n_events, *, detector, origin)` and gives events of one track: `origin = (x, y, t)` fixes a
point of the pattern for all events (rounded to the nearest pixel or bin), None draws that coordinate for every event.
The origin is a hit of every pattern but `blank`. All hits lie inside the detector, none is repeated within an event,
and the hits of a track are ordered by time. Any detector shape works.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.data.events import Events, concatenate, offsets_from_counts

Origin = tuple[float | None, float | None, float | None]
ANYWHERE: Origin = (None, None, None)

BATCH_CELLS = 2**20  # array cells worked on at once: small enough for the processor's cache, and bounds the memory

V_ROWS_PER_STEP = 3  # an arm of a `v` climbs three rows per column and time bin

# The law of `parabola`, fitted to 60 events of the predecessor on 88 columns and 128 rows; every one of them is
# reproduced hit by hit. Lengths along x scale with the columns, those along y with the rows.
ARC_CENTRE_X = (36 / 88, 52 / 88)
ARC_BOTTOM_Y = (32 / 128, 120 / 128)
ARC_RADIUS = (55 / 88, 180 / 88)
ARC_STEEPEST = 52.5 / 55  # the furthest wall's distance over the radius at the limits above: bounds the arc's slope
ARM_DEGREES = (3, 26)
ARM_STEPS = 400 / 88
ARM_OVERSHOOT = 0.42  # pixels beyond the centre of the last column at which an arm turns; the fit allows 0.40 to 0.44

CROSSING_DEGREES = (60.0, 120.0)  # from 60 on, the two lines share no pixel but their centre
DOME_RADIUS = (1 / 8, 1 / 3)  # of the shorter side


def v(rng: np.random.Generator, n_events: int, *, detector: Detector, origin: Origin = ANYWHERE) -> Events:
    """Two straight arms that rise from the origin to either side, folded back at the side walls.

    Step `i` puts hits at `(fold(x0 ± i), y0 - 3 i, t0 + i)` while `y >= 0` and `t <= n_t`, with `fold` the mirror at
    the walls that repeats the wall's column: -1 -> 0, n_x -> n_x - 1. The origin is uniform over the detector.

    Two differences from the predecessor are on purpose. Its last step wraps round to the bottom of the image (a
    negative index), ours ends at the top; and it never used the last time bin, ours allows all of 1..n_t.

    Raises ValueError for an origin outside the detector.
    """
    n_steps = min((detector.n_y - 1) // V_ROWS_PER_STEP + 1, detector.n_t)

    def hits_of(x0: np.ndarray, y0: np.ndarray, t0: np.ndarray) -> Events:
        step = np.arange(n_steps, dtype=np.int32)
        y, t = y0[:, None] - V_ROWS_PER_STEP * step, t0[:, None] + step
        arms = _folded(x0[:, None] - step, detector.n_x), _folded(x0[:, None] + step, detector.n_x)
        inside = (y >= 0) & (t <= detector.n_t)
        meet = step % detector.n_x == 0  # the arms share a pixel exactly at these steps, the origin included
        keep = np.stack([inside, inside & ~meet], axis=-1)
        return _kept(np.stack([np.minimum(*arms), np.maximum(*arms)], axis=-1), y[..., None], t[..., None], keep)

    return _in_batches(hits_of, _origins(rng, n_events, detector, origin), 2 * n_steps)


def parabola(rng: np.random.Generator, n_events: int, *, detector: Detector, origin: Origin = ANYWHERE) -> Events:
    """An arc from wall to wall whose ends continue as straight arms that rise and fold back at the side walls.

    The arc is the lower part of a circle, `y(x) = y0 - R + sqrt(R^2 - (x - x0)^2)`, as all pixels that the curve meets;
    the origin `(x0, y0, t0)` is its lowest point. From the arc's pixel at either wall an arm goes on in unit steps
    `(cos a, sin a)` inwards and up, with the same angle `a` on both sides, and turns round in x where the next step
    would end more than `ARM_OVERSHOOT` beyond a wall's column. It ends after 400 n_x / 88 points or at its first hit in
    the top row. Time follows the row, `t = t0 + y0 - y`, cut at `t > n_t`. Where the arc leaves through the top before
    it reaches a wall, that side has no arm.

    On 88 x 128 pixels, `x0` is uniform in 36..52, `y0` in 32..120, `R` in 55..180, `a` in whole degrees 3..26, and `t0`
    over all bins; other shapes scale these with their columns and rows. For an `x0` given so far from a wall that the
    circle would not reach it, `R` is enlarged.

    Raises ValueError for an origin outside the detector.
    """
    x_range, y_range = _scaled(ARC_CENTRE_X, detector.n_x), _scaled(ARC_BOTTOM_Y, detector.n_y)
    x0, y0, t0 = _origins(rng, n_events, detector, origin, x_range, y_range)
    radius = rng.uniform(ARC_RADIUS[0] * detector.n_x, ARC_RADIUS[1] * detector.n_x, n_events)
    degrees = rng.integers(*ARM_DEGREES, size=n_events, endpoint=True)
    shape = partial(parabola_hits, detector=detector)
    return _in_batches(shape, (x0, y0, t0, radius, degrees), detector.n_x * detector.n_y)


def parabola_hits(
    x0: np.ndarray, y0: np.ndarray, t0: np.ndarray, radius: np.ndarray, degrees: np.ndarray, *, detector: Detector
) -> Events:
    """The hits of `parabola` for given parameters, [n_events] each: whole pixels and bins, radius in pixels, degrees.

    The law stands in the docstring of `parabola`; degrees are whole and within `ARM_DEGREES`.
    """
    # Time is a function of the row, so an image of lit pixels joins arc and arms and removes what they share.
    n_x, n_y = detector.n_x, detector.n_y
    image = np.zeros((len(x0), n_y * n_x), bool)  # rows from the bottom up: the order of time

    def light(x: np.ndarray, y: np.ndarray, keep: np.ndarray) -> None:
        place = np.arange(len(x0)).reshape((-1,) + (1,) * (keep.ndim - 1)) * (n_y * n_x) + (n_y - 1 - y) * n_x + x
        image.reshape(-1)[place[keep]] = True

    border = np.arange(n_x + 1) - 0.5 - x0[:, None]
    radius = np.maximum(radius, np.abs(border).max(axis=1) / ARC_STEEPEST)[:, None]
    row = np.floor(y0[:, None] + 0.5 - radius + np.sqrt(radius**2 - border**2)).astype(np.int64)
    top, bottom = np.minimum(row[:, :-1], row[:, 1:]), np.maximum(row[:, :-1], row[:, 1:])
    bottom[np.arange(len(x0)), x0] = y0
    for offset in range((bottom - top).max(initial=0) + 1):
        y = top + offset
        light(np.arange(n_x), y, (y >= 0) & (y <= bottom))
    column, risen, is_first = (table[degrees - ARM_DEGREES[0]] for table in _arm_tables(n_x))
    for x, start in ((column, row[:, :1]), (n_x - 1 - column, row[:, -1:])):
        y = start - risen
        light(x, y, (y > 0) | ((y == 0) & is_first))
    event, place = np.divmod(np.flatnonzero(image), n_y * n_x)
    y = n_y - 1 - place // n_x
    t = (t0 + y0)[event] - y
    keep = t <= detector.n_t
    counts = np.bincount(event[keep], minlength=len(x0))
    hits = np.stack([place % n_x, y, t], axis=1)[keep].astype(np.int16)
    return Events(hits, offsets_from_counts(counts))


def line(rng: np.random.Generator, n_events: int, *, detector: Detector, origin: Origin = ANYWHERE) -> Events:
    """A straight line through the origin from edge to edge, with time rising along it.

    Point `i` is `(x0 + i dx, y0 + i dy, t0 + i)`, rounded, for all whole `i` that lie inside the detector and its time
    window, with `max(|dx|, |dy|) = 1` so that every pixel is new. The direction is uniform over the full turn, the
    origin over the detector.

    Raises ValueError for an origin outside the detector.
    """
    centre = _origins(rng, n_events, detector, origin)
    return _lines(centre, rng.uniform(0.0, 2 * np.pi, (n_events, 1)), detector)


def cross(rng: np.random.Generator, n_events: int, *, detector: Detector, origin: Origin = ANYWHERE) -> Events:
    """Two lines (see `line`) that share the origin as their centre and cross at 60 to 120 degrees, uniformly drawn.

    Raises ValueError for an origin outside the detector.
    """
    centre = _origins(rng, n_events, detector, origin)
    first = rng.uniform(0.0, 2 * np.pi, n_events)
    second = first + np.deg2rad(rng.uniform(*CROSSING_DEGREES, n_events))
    return _lines(centre, np.stack([first, second], axis=1), detector)


def hemisphere(rng: np.random.Generator, n_events: int, *, detector: Detector, origin: Origin = ANYWHERE) -> Events:
    """The shell of a half sphere over a filled disc, its pole at the origin and first in time.

    Each pixel at a distance `d <= r` from the centre has one hit at `t = t0 + r - sqrt(r^2 - d^2)`, rounded: one time
    bin per pixel, the pole at `t0` and the rim at `t0 + r`. What lies outside the detector or its time window is cut.
    The radius is a whole number, uniform from an eighth to a third of the shorter side (at least 1), the origin uniform
    over the detector.

    Raises ValueError for an origin outside the detector.
    """
    low, high = (max(1, int(share * min(detector.n_x, detector.n_y))) for share in DOME_RADIUS)
    side = np.arange(-high, high + 1, dtype=np.int32)
    dx, dy = (offset.ravel() for offset in np.meshgrid(side, side))
    squared = dx**2 + dy**2
    order = np.argsort(squared, kind="stable")[: np.count_nonzero(squared <= high**2)]
    dx, dy, squared = dx[order], dy[order], squared[order]

    def hits_of(x0: np.ndarray, y0: np.ndarray, t0: np.ndarray, radius: np.ndarray) -> Events:
        used = slice(np.searchsorted(squared, radius.max() ** 2, side="right"))
        height_squared = (radius**2)[:, None] - squared[used]
        depth = radius[:, None] - np.sqrt(np.maximum(height_squared, 0), dtype=np.float32)
        x, y, t = x0[:, None] + dx[used], y0[:, None] + dy[used], t0[:, None] + np.rint(depth).astype(np.int32)
        return _kept(x, y, t, (height_squared >= 0) & _is_inside(x, y, t, detector))

    centre = _origins(rng, n_events, detector, origin)
    radius = rng.integers(low, high, size=n_events, endpoint=True, dtype=np.int32)
    return _in_batches(hits_of, (*centre, radius), len(squared))


def blank(rng: np.random.Generator, n_events: int, *, detector: Detector, origin: Origin = ANYWHERE) -> Events:
    """Events without hits. `rng` is not used; the origin is checked as for the others (ValueError)."""
    origin_limits(detector, origin)
    return Events(np.zeros((0, 3), np.int16), np.zeros(n_events + 1, np.int64))


PATTERNS: dict[str, Callable[..., Events]] = {
    generator.__name__: generator for generator in (v, parabola, cross, line, hemisphere, blank)
}
"""Generators by name; an event's `pattern` column counts in this order."""


def origin_limits(detector: Detector, origin: Origin) -> list[tuple[int, int]]:
    """Lowest and highest value of x, y and t; a ValueError if the origin lies outside."""
    limits = [(0, detector.n_x - 1), (0, detector.n_y - 1), (1, detector.n_t)]
    for name, value, (low, high) in zip("xyt", origin, limits, strict=True):
        if value is not None and not low <= value <= high:
            raise ValueError(f"origin has {name} = {value}, allowed: {low} to {high}, or None for random")
    return limits


def _origins(
    rng: np.random.Generator, n_events: int, detector: Detector, origin: Origin, *ranges: tuple[int, int]
) -> tuple[np.ndarray, ...]:
    """x, y, t of every event's origin, int32[n_events] each: as given, or uniform in its range (else everywhere)."""
    ranges += tuple(origin_limits(detector, origin)[len(ranges) :])
    return tuple(
        rng.integers(low, high, size=n_events, endpoint=True, dtype=np.int32)
        if value is None
        else np.full(n_events, np.rint(value), np.int32)
        for value, (low, high) in zip(origin, ranges, strict=True)
    )


def _scaled(shares: tuple[float, float], size: int) -> tuple[int, int]:
    """The range of pixels that is these shares of an axis, at most its last pixel."""
    low, high = (min(round(share * size), size - 1) for share in shares)
    return low, high


def _in_batches(hits_of: Callable[..., Events], parameters: tuple[np.ndarray, ...], cells_per_event: int) -> Events:
    """`hits_of` the parameters, each [n_events, ...], a batch of events at a time."""
    n_events, size = len(parameters[0]), max(1, BATCH_CELLS // cells_per_event)
    starts = range(0, n_events, size)
    return concatenate(hits_of(*(values[start : start + size] for values in parameters)) for start in starts)


def _kept(x: np.ndarray, y: np.ndarray, t: np.ndarray, keep: np.ndarray) -> Events:
    """The hits that `keep`, bool[n_events, ...], marks; x, y, t broadcast against it."""
    counts = np.count_nonzero(keep.reshape(len(keep), -1), axis=1)
    hits = np.empty((counts.sum(), 3), np.int16)
    for column, values in enumerate((x, y, t)):
        hits[:, column] = np.broadcast_to(values, keep.shape)[keep]
    return Events(hits, offsets_from_counts(counts))


def _is_inside(x: np.ndarray, y: np.ndarray, t: np.ndarray, detector: Detector) -> np.ndarray:
    inside_xy = (x >= 0) & (x < detector.n_x) & (y >= 0) & (y < detector.n_y)
    return inside_xy & (t >= 1) & (t <= detector.n_t)


def _folded(x: np.ndarray, n_x: int) -> np.ndarray:
    """Columns mirrored at the walls, any number of times; the wall's column comes twice."""
    x = x % (2 * n_x)
    return np.minimum(x, 2 * n_x - 1 - x)


def _lines(centre: tuple[np.ndarray, ...], angles: np.ndarray, detector: Detector) -> Events:
    """Lines through each event's centre at `angles`, float[n_events, n_lines]; the centre itself once."""
    furthest = min(max(detector.n_x, detector.n_y), detector.n_t) - 1
    step = np.arange(-furthest, furthest + 1, dtype=np.int32)[:, None]

    def hits_of(x0: np.ndarray, y0: np.ndarray, t0: np.ndarray, angle: np.ndarray) -> Events:
        direction = np.stack([np.cos(angle), np.sin(angle)])[:, :, None, :]
        dx, dy = direction / np.abs(direction).max(axis=0)
        x0, y0, t0 = (values[:, None, None] for values in (x0, y0, t0))
        x, y = np.floor(x0 + 0.5 + step * dx), np.floor(y0 + 0.5 + step * dy)
        keep = _is_inside(x, y, t0 + step, detector)
        keep[:, furthest, 1:] = False
        return _kept(x, y, t0 + step, keep)

    return _in_batches(hits_of, (*centre, angles), len(step) * angles.shape[1])


@lru_cache(maxsize=4)
def _arm_tables(n_x: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column and rows risen at each point of an arm from column 0, and whether the point is the first in its row.

    Each [n_angles, n_steps], one line per whole degree from `ARM_DEGREES[0]` on.
    """
    angle = np.deg2rad(np.arange(ARM_DEGREES[0], ARM_DEGREES[1] + 1))
    n_steps = max(1, round(ARM_STEPS * n_x))
    columns, x, dx = np.empty((len(angle), n_steps)), np.zeros(len(angle)), np.cos(angle)
    for step in range(n_steps):
        columns[:, step] = x
        turns = (x + dx > n_x - 1 + ARM_OVERSHOOT) | (x + dx < -ARM_OVERSHOOT)
        dx = np.where(turns, -dx, dx)
        x = x + dx
    column = np.clip(np.floor(columns + 0.5), 0, n_x - 1).astype(np.int32)  # a single column is less than a step wide
    risen = -np.floor(0.5 - np.sin(angle)[:, None] * np.arange(n_steps)).astype(np.int32)
    return column, risen, np.diff(risen, axis=1, prepend=-1) > 0
