"""The comparison itself: every method on the same events of each data set, conditions by conditions."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from tofae_jax.core.detector import Detector

from .events import Conditions, EventSet, held_out_events
from .methods import Curve, Method, Settings, Tuned
from .scoring import OF_TIMES, Estimate, estimates
from .sources import Part

REFERENCE = Conditions()
BUDGET_S = 10.0  # of repeated timings of a method; slower ones are timed once
DEAD_COLUMN = 44  # in the middle of the detector


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of one method on one set of events."""

    data: str
    conditions: Conditions
    method: str
    settings: dict[str, Any]
    """chosen on validation events"""
    threshold: float | None
    """of its score, chosen on validation events; infinite: all hits or none are kept; None: none was to be chosen"""
    counted: str
    """hits or pixels"""
    events: int
    signal_hits: float
    """per event, in the mean"""
    noise_hits: float
    qualities: dict[str, Estimate]
    """with 95 % intervals; those of times are missing of an output that has none"""
    events_per_s: Estimate
    """median of repeated timings, the slowest and the quickest"""
    curve: Curve | None


class Plan(NamedTuple):
    """How much is done."""

    n_events: int
    n_validation: int
    seed: int
    repeats: int
    """timings of each method"""

    def check(self) -> None:
        """Raise ValueError naming the first number that is not allowed."""
        for name, least in (("n_events", 1), ("n_validation", 1), ("seed", 0), ("repeats", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed: {least} or more")


MethodsOf = Callable[[str], Sequence[Method]]
Say = Callable[[str], None]


def compared(
    names: Sequence[str], points: Sequence[Conditions], methods_of: MethodsOf, plan: Plan, say: Say
) -> Iterator[list[Row]]:
    """Rows of all methods, for each data set and conditions, as they are done.

    Thresholds are chosen for each conditions anew, on validation events of just these, and so are settings of methods
    that are quick; others' once per data set, at the reference counts (30 signal and 200 noise hits).
    """
    for name in names:
        methods = methods_of(name)
        chosen = _chosen(name, points[0], [method for method in methods if not method.chosen_anew], plan)
        for conditions in points:
            say(f"{name}: {described(conditions)}")
            validation = _drawn(name, "validation", conditions, plan)
            tuned = {
                method.name: method.tuned(chosen.get(method.name) or method.choose(validation), validation)
                for method in methods
                if is_reference(conditions) or not method.at_reference_only
            }
            if tuned:
                yield _rows(name, conditions, tuned, plan)


def withstood(
    names: Sequence[str], points: Sequence[Conditions], methods_of: MethodsOf, plan: Plan, say: Say
) -> Iterator[list[Row]]:
    """The same with everything chosen once per data set, at the reference counts, whatever comes then."""
    for name in names:
        methods = methods_of(name)
        chosen = _chosen(name, REFERENCE, methods, plan)
        validation = _drawn(name, "validation", REFERENCE, plan)
        tuned = {method.name: method.tuned(chosen[method.name], validation) for method in methods}
        for conditions in points:
            say(f"{name}: {described(conditions)}")
            yield _rows(name, conditions, tuned, plan)


def hardships(
    noise: Sequence[int], signal: Sequence[int], smearing_ps: Sequence[float], dead_column: int
) -> list[Conditions]:
    """Conditions that differ from the reference in one thing each."""
    points = [REFERENCE._replace(n_noise=n) for n in noise] + [REFERENCE._replace(n_signal=n) for n in signal]
    points += [REFERENCE._replace(time_smearing_ps=float(ps)) for ps in smearing_ps]
    return list(dict.fromkeys([*points, REFERENCE._replace(dead_column=dead_column)]))


def is_reference(conditions: Conditions) -> bool:
    """Whether it has the reference counts."""
    return (conditions.n_signal, conditions.n_noise) == (REFERENCE.n_signal, REFERENCE.n_noise)


def described(conditions: Conditions) -> str:
    """Conditions in words."""
    words = f"{conditions.n_signal} signal, {conditions.n_noise} noise"
    if conditions.time_smearing_ps is not None:
        words += f", {conditions.time_smearing_ps:g} ps"
    if conditions.dead_column is not None:
        words += f", column {conditions.dead_column} dead"
    return words


def _drawn(name: str, part: Part, conditions: Conditions, plan: Plan) -> EventSet:
    n_events = plan.n_validation if part == "validation" else plan.n_events
    return held_out_events(name, part, conditions, n_events=n_events, seed=plan.seed, detector=Detector())


def _chosen(name: str, like: Conditions, methods: Sequence[Method], plan: Plan) -> dict[str, Settings]:
    """Settings of each method, by name, at the reference counts."""
    conditions = like._replace(n_signal=REFERENCE.n_signal, n_noise=REFERENCE.n_noise)
    validation = _drawn(name, "validation", conditions, plan)
    return {method.name: method.choose(validation) for method in methods}


def _rows(name: str, conditions: Conditions, tuned: Mapping[str, Tuned], plan: Plan) -> list[Row]:
    """One row for each method, on the test events."""
    events = _drawn(name, "test", conditions, plan)
    outputs, first_s = {}, {}
    for method, one in tuned.items():
        began = time.perf_counter()
        outputs[method] = one.output(events)
        first_s[method] = time.perf_counter() - began
    seconds = _timed(tuned, events, first_s, plan.repeats)
    rows = []
    for method, one in tuned.items():
        rates = [len(events) / s for s in seconds[method]]
        row = Row(
            data=name,
            conditions=conditions,
            method=method,
            settings=dict(one.settings),
            threshold=one.threshold,
            counted="pixels" if one.counts_pixels else "hits",
            events=len(events),
            signal_hits=float(events.is_signal.sum() / len(events)),
            noise_hits=float((events.filled & ~events.is_signal).sum() / len(events)),
            qualities={
                quality: estimate
                for quality, estimate in estimates(one.counts(events, outputs[method]), seed=plan.seed).items()
                if one.has_time or quality not in OF_TIMES
            },
            events_per_s=Estimate(statistics.median(rates), min(rates), max(rates)),
            curve=one.curve(events, outputs[method]),
        )
        rows.append(row)
    return rows


def _timed(
    tuned: Mapping[str, Tuned], events: EventSet, first_s: Mapping[str, float], repeats: int
) -> dict[str, list[float]]:
    """Seconds of each method, in turns, from hit lists. A first call counts where it was long and compiled nothing."""
    seconds: dict[str, list[float]] = {
        method: [first_s[method]] if first_s[method] > BUDGET_S and not one.compiles else []
        for method, one in tuned.items()
    }
    for _ in range(repeats):
        for method, one in tuned.items():
            if sum(seconds[method]) < BUDGET_S:
                events_for_epoch = replace(events)  # without images, which others may have asked for before
                began = time.perf_counter()
                one.output(events_for_epoch)
                seconds[method].append(time.perf_counter() - began)
    return seconds
