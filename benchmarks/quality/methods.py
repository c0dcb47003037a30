"""What all methods have in common: a score per hit, settings and a threshold chosen on validation events.

A hit is kept where its score is above the threshold. A score of minus infinity is that of a hit which the method cannot
keep, such as one that another hit occludes in an image.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from .events import EventSet
from .scoring import OfEach, of_images, of_kept

Settings = Mapping[str, Any]
CURVE_POINTS = 200
DECIDED = 0.5
"""threshold of methods whose score is 1 where they keep a hit and 0 where not"""


class Curve(NamedTuple):
    """Efficiency and purity of pooled hits at falling thresholds, float[m] each."""

    efficiency: np.ndarray
    purity: np.ndarray


class Tuned(Protocol):
    """A method whose settings and threshold are chosen."""

    @property
    def settings(self) -> Settings:
        """The chosen settings."""
        ...

    @property
    def threshold(self) -> float | None:
        """The chosen threshold of the score; None: nothing was to be chosen."""
        ...

    @property
    def counts_pixels(self) -> bool:
        """Whether its counts are of pixels instead of hits."""
        ...

    @property
    def has_time(self) -> bool:
        """Whether its output has times, without which its image compares with nothing."""
        ...

    @property
    def compiles(self) -> bool:
        """Whether its first call is slower than others."""
        ...

    def output(self, events: EventSet) -> np.ndarray:
        """The work that is timed."""
        ...

    def counts(self, events: EventSet, output: np.ndarray) -> OfEach:
        """How good that is, event by event."""
        ...

    def curve(self, events: EventSet, output: np.ndarray) -> Curve | None:
        """What other thresholds would give; None where there is no score."""
        ...


class Method(Protocol):
    """Anything that can be compared."""

    @property
    def name(self) -> str:
        """In tables and figures."""
        ...

    @property
    def at_reference_only(self) -> bool:
        """Whether it takes so long that it is run at the reference counts alone."""
        ...

    @property
    def chosen_anew(self) -> bool:
        """Whether its settings are chosen for each conditions, not once per data set."""
        ...

    def choose(self, validation: EventSet) -> Settings:
        """Settings for a data set."""
        ...

    def tuned(self, settings: Settings, validation: EventSet) -> Tuned:
        """Ready for use, with a threshold for events like these."""
        ...


@dataclass(frozen=True)
class HitScorer:
    """A method that gives every hit a score."""

    name: str
    score: Callable[..., np.ndarray]
    """`(events, **settings) -> float[n, k]`"""
    choices: tuple[Settings, ...] = ({},)
    """settings to choose from"""
    threshold: float | None = None
    """None: chosen on validation events"""
    compiles: bool = False
    settings_events: int = 50
    """settings are chosen on so many validation events at most"""
    threshold_events: int | None = None
    """the threshold likewise; None: on all"""
    at_reference_only: bool = False
    chosen_anew: bool = False
    """settings are chosen for each conditions, not once per data set"""

    def choose(self, validation: EventSet) -> Settings:
        """The settings that give the best F1 at the best threshold."""
        if len(self.choices) == 1:
            return self.choices[0]
        few = validation.first(self.settings_events)
        return max(self.choices, key=lambda settings: best_threshold(self.score(few, **settings), few)[1])

    def tuned(self, settings: Settings, validation: EventSet) -> TunedScorer:
        """With the threshold that gives the best F1 on these events, unless it has one of its own."""
        threshold = self.threshold
        if threshold is None:
            few = validation.first(self.threshold_events or len(validation))
            threshold = best_threshold(self.score(few, **settings), few)[0]
        return TunedScorer(self, settings, threshold)


@dataclass(frozen=True)
class TunedScorer:
    """A `HitScorer` with its choices made."""

    scorer: HitScorer
    settings: Settings
    threshold: float
    counts_pixels: bool = False
    has_time: bool = True

    @property
    def compiles(self) -> bool:
        """As the scorer."""
        return self.scorer.compiles

    def output(self, events: EventSet) -> np.ndarray:
        """Scores of all hits, [n, k]."""
        return self.scorer.score(events, **self.settings)

    def counts(self, events: EventSet, output: np.ndarray) -> OfEach:
        """Of the hits above the threshold."""
        return of_kept(events, output.astype(np.float64) > self.threshold)

    def curve(self, events: EventSet, output: np.ndarray) -> Curve | None:
        """None for decisions."""
        return None if self.scorer.threshold is not None else efficiency_purity(output, events)


@dataclass(frozen=True)
class ImageOutput:
    """A method that gives images, all of whose pixels count; nothing is chosen."""

    name: str
    images: Callable[[EventSet], np.ndarray]
    """float[n, y, x] in time bins, or 1 where lit"""
    target: Callable[[EventSet], np.ndarray]
    """what they were to show"""
    has_time: bool = True
    """whether the images' values are times, not 1 where lit"""
    compiles: bool = True
    at_reference_only: bool = False
    chosen_anew: bool = False
    threshold: None = None
    counts_pixels: bool = True

    @property
    def settings(self) -> Settings:
        """None."""
        return {}

    def choose(self, validation: EventSet) -> Settings:
        """Nothing."""
        del validation
        return self.settings

    def tuned(self, settings: Settings, validation: EventSet) -> ImageOutput:
        """As it is."""
        del settings, validation
        return self

    def output(self, events: EventSet) -> np.ndarray:
        """Its images."""
        return self.images(events)

    def counts(self, events: EventSet, output: np.ndarray) -> OfEach:
        """Against the target, pixel by pixel."""
        return of_images(events, output, self.target(events))

    def curve(self, events: EventSet, output: np.ndarray) -> None:
        """There is no score."""
        del events, output


def grid(**values: Iterable[Any]) -> tuple[Settings, ...]:
    """All combinations of the values of each setting."""
    return tuple(dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values()))


def untouched() -> HitScorer:
    """The input as it is: all hits."""
    return HitScorer("input", lambda events: events.filled.astype(float), threshold=DECIDED)


def _at_each_threshold(score: np.ndarray, events: EventSet) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Scores of pooled hits that can be kept, each value once and falling; signal and hits kept down to it; all signal.

    ValueError for scores that are no numbers.
    """
    # in float64, as midway between neighbouring numbers of float32 there is none
    pooled, is_signal = score[events.filled].astype(np.float64), events.is_signal[events.filled]
    if np.isnan(pooled).any():
        raise ValueError("a score is not a number")
    possible = pooled > -np.inf
    values, place = np.unique(-pooled[possible], return_inverse=True)
    n_kept = np.cumsum(np.bincount(place, minlength=len(values)))
    n_right = np.cumsum(np.bincount(place, weights=is_signal[possible], minlength=len(values)))
    return -values, n_right, n_kept, int(is_signal.sum())


def best_threshold(score: np.ndarray, events: EventSet) -> tuple[float, float]:
    """The threshold of a score [n, k] with the best F1 over the pooled hits, and that F1.

    It lies midway between two scores; it is minus infinity where all hits that can be kept are best kept, and infinity
    where none is.
    """
    values, n_right, n_kept, n_signal = _at_each_threshold(score, events)
    if not n_signal or not len(values):
        return np.inf, float(not n_signal)
    f1 = 2 * n_right / (n_kept + n_signal)
    best = int(np.argmax(f1))
    threshold = (values[best] + values[best + 1]) / 2 if best + 1 < len(values) else -np.inf
    return float(threshold), float(f1[best])


def efficiency_purity(score: np.ndarray, events: EventSet) -> Curve:
    """Efficiency and purity of pooled hits at thresholds from high to low, at most 200, spread over the efficiency."""
    _, n_right, n_kept, n_signal = _at_each_threshold(score, events)
    last = len(n_kept) - 1
    efficiencies = np.linspace(0, n_right[last] if len(n_right) else 0, CURVE_POINTS - 1)
    chosen = np.unique(np.append(np.searchsorted(n_right, efficiencies), last))[: len(n_kept)]
    return Curve(n_right[chosen] / max(n_signal, 1), n_right[chosen] / n_kept[chosen])
