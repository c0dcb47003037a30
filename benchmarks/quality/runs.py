"""Trained runs as methods: the only part that knows how the package loads and applies them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.core.normalisation import normalisation_by_name
from tofae_jax.engine.build import module_settings
from tofae_jax.engine.denoiser import run_denoiser
from tofae_jax.engine.events import GEOMETRY
from tofae_jax.engine.load import LoadedRun, load_run
from tofae_jax.engine.pretrained.packaged_model import PackagedModel, load_packaged
from tofae_jax.lhcb_torch.simulation import ModuleSettings
from tofae_jax.models import MODELS

from .events import EventSet, embedded, padded
from .methods import DECIDED, HitScorer, ImageOutput, Method
from .sources import HELD_OUT_SEED

PACKAGED = "model:"


class Run:
    """A trained run, applied to events.

    Its rows, by what it learns:

    - `NAME`: the hits that the run itself keeps, by the cuts that it chose in training;
    - `NAME tuned`, of runs that learn to score hits: the score with a threshold chosen on validation events;
    - `NAME masked`, of runs that learn an image: hits on its lit pixels;
    - `NAME ToF-masked`, of those whose image has times: hits on its lit pixels whose time agrees with the image's
      within a tolerance chosen on validation events (the score is minus the difference in ns);
    - `NAME direct`, of runs that learn an image: its lit pixels against the run's target.
    """

    def __init__(self, name: str, folder: str) -> None:
        """Load the best checkpoint, or for `model:MODEL` what comes with the package."""
        self.name = name
        is_packaged = folder.startswith(PACKAGED)
        self.run = load_packaged(folder.removeprefix(PACKAGED)) if is_packaged else load_run(folder)
        self._denoiser = run_denoiser(self.run.setup, self.run.variables)
        self._normalisation = normalisation_by_name(self.run.setup.config.normalisation.name)
        self._model_images = jax.jit(_model_images(self.run))
        self._latest: tuple[EventSet, dict[str, np.ndarray]] | None = None

    @property
    def takes_tracks(self) -> bool:
        """Whether it is given the tracks, as the oracles are."""
        return self.run.setup.model.takes_tracks

    def check_detector(self) -> None:
        """ValueError where the run is of another detector or module than the benchmark's events."""
        config = self.run.setup.config
        if config.detector != Detector():
            raise ValueError(f"{self.name} is of another detector than the benchmark's events")
        if MODELS[config.model.name].of_module:
            own, events = module_settings(config.data.simulate), ModuleSettings()
            differing = [name for name in GEOMETRY if getattr(own, name) != getattr(events, name)]
            if differing:
                raise ValueError(f"{self.name} is of another module than the events: {', '.join(differing)}")

    def check_held_out(self, seed: int) -> None:
        """ValueError where the run's own events were simulated with the seed of the benchmark's."""
        config = self.run.setup.config
        # what comes with the package has no record, but its settings
        provenance = {} if isinstance(self.run, PackagedModel) else self.run.record.data.get("provenance", {})
        for own in (config.data.simulate.seed, provenance.get("seed")):
            if own == HELD_OUT_SEED + seed:
                raise ValueError(f"{self.name} was trained on events of seed {own}, which the benchmark's have too")

    def methods(self) -> list[Method]:
        """All its rows."""
        own = HitScorer(self.name, self.kept, threshold=DECIDED, compiles=True)
        # a model that was trained to score hits may give images too, which nobody taught it
        if self.run.setup.options.scores_hits:
            return [own, HitScorer(f"{self.name} tuned", self.score, compiles=True)]
        has_time = self._normalisation.has_time
        found: list[Method] = [own, HitScorer(f"{self.name} masked", self.lit, threshold=DECIDED, compiles=True)]
        if has_time:
            found.append(HitScorer(f"{self.name} ToF-masked", self.time_agreement, compiles=True))
        return [*found, ImageOutput(f"{self.name} direct", self.direct, self.target, has_time=has_time)]

    def _columns(self, events: EventSet) -> dict[str, np.ndarray]:
        """Per-hit columns of the denoiser, each [n, k]; 0 in empty slots. Once for the same events: two rows ask."""
        if self._latest is not None and self._latest[0] is events:
            return self._latest[1]
        parts = [part.hit_columns for part in self._denoiser(iter([events.as_events()]))]
        found = {}
        for name in ("score", "kept", "visible"):
            column = np.concatenate([part[name] for part in parts])
            found[name] = np.zeros(events.filled.shape, column.dtype)
            found[name][events.filled] = column
        self._latest = events, found
        return found

    def kept(self, events: EventSet) -> np.ndarray:
        """1 where the run keeps a hit, float[n, k]."""
        return self._columns(events)["kept"].astype(float)

    def score(self, events: EventSet) -> np.ndarray:
        """The run's score of each hit, float[n, k]; minus infinity of hits that it was not shown."""
        columns = self._columns(events)
        return np.where(columns["visible"], columns["score"], -np.inf)

    def direct(self, events: EventSet) -> np.ndarray:
        """Direct output, float[n, y, x] in time bins, or 1 where lit if the normalisation has no time."""
        # few events fill a small batch, as when hits are denoised
        batch = min(self.run.setup.config.train.batch, 1 << (len(events) - 1).bit_length())
        parts = []
        for start in range(0, len(events), batch):
            images = events.image[start : start + batch]
            filled = np.pad(images, ((0, batch - len(images)), (0, 0), (0, 0)))
            parts.append(np.asarray(self._model_images(self.run.variables, filled))[: len(images)])
        return np.concatenate(parts)

    def target(self, events: EventSet) -> np.ndarray:
        """What the direct output was trained to show."""
        if self.run.setup.options.target == "signal":
            images = events.signal_image
        else:
            most = max(len(pattern) for pattern in events.patterns)
            images = embedded(padded(events.patterns, most), events.detector)
        return images if self._normalisation.has_time else (images > 0).astype(np.float32)

    def lit(self, events: EventSet) -> np.ndarray:
        """1 at hits that the image shows and on whose pixel the direct output is lit, float[n, k]."""
        return (events.visible & (events.at_hits(self.direct(events)) > 0)).astype(float)

    def time_agreement(self, events: EventSet) -> np.ndarray:
        """Minus the difference in ns of a hit's time and the direct output's there; minus infinity where unlit."""
        time = events.at_hits(self.direct(events))
        difference_ns = np.abs(events.hits[..., 2] - time) * events.detector.bin_ns
        return np.where(events.visible & (time > 0), -difference_ns, -np.inf)


def _model_images(run: LoadedRun | PackagedModel) -> Callable[[Any, jax.Array], jax.Array]:
    """From embedded images [n, y, x] to the direct output."""
    model, config = run.setup.model, run.setup.config
    normalisation, threshold = normalisation_by_name(config.normalisation.name), config.normalisation.threshold

    def images(variables: Any, image: jax.Array) -> jax.Array:
        given = normalisation.normalise(image, threshold=threshold, n_t=config.detector.n_t)
        output: Any = model.apply(variables, given).image
        if not normalisation.has_time:
            return normalisation.is_lit(output, threshold=threshold).astype(np.float32)
        return normalisation.renormalise(output, threshold=threshold, n_t=config.detector.n_t)

    return images
