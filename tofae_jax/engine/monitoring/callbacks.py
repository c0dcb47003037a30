"""Monitor a run: metrics file, TensorBoard, figures, recorder, timer, profilers; closed on every path out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np

from tofae_jax import plots
from tofae_jax.config import Config
from tofae_jax.core.detector import Detector
from tofae_jax.engine.monitoring.dashboard import start_dashboard
from tofae_jax.engine.monitoring.profiler import StepProfiler, python_profile
from tofae_jax.engine.monitoring.recorder import Recorder, activations_of, split_parameters
from tofae_jax.engine.monitoring.timer import Timer
from tofae_jax.engine.monitoring.tracker import Tracker, stage_image
from tofae_jax.engine.parameters import named_parameters
from tofae_jax.models import Model
from tofae_jax.plots import EventView
from tofae_jax.runs.background_figures import BackgroundPlots
from tofae_jax.runs.event_views import save_views
from tofae_jax.runs.figure_output import deliver
from tofae_jax.runs.folder import RunPaths
from tofae_jax.steps.state import TrainState

MIB = 2**20


class EpochEnd(NamedTuple):
    """What callbacks are told of the end of an epoch."""

    record: dict[str, Any]
    """as in the history; callbacks add their own times"""
    state: TrainState
    model: Model
    detector: Detector
    views: Callable[[], list[EventView]]
    """evaluates the first validation event at every stage; none without validation events"""
    inputs: Callable[[], Any]
    """makes the model's input for one event"""


class Callbacks:
    """A context manager; without instruments it costs a few microseconds per step."""

    def __init__(
        self,
        config: Config,
        paths: RunPaths,
        *,
        settings: dict[str, Any],
        resumed_after: int | None,
        say: Callable[[str], None],
    ) -> None:
        """Nothing is opened before the context is entered; `settings` are those of the record, as a tree.

        `resumed_after` epochs were logged before.
        """
        self._settings = settings
        self._config, self._paths, self._resumed_after, self._say = config, paths, resumed_after, say
        self._stack = ExitStack()
        self.plots = BackgroundPlots(paths, say=say)
        self._profiler: StepProfiler | None = None
        self._recorder: Recorder | None = None

    def __enter__(self) -> Callbacks:
        with ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _save_timeline(self) -> None:
        self.timer.save(self._paths.timeline)
        if (mode := self._config.train.plots) != "none":
            deliver(plots.timer_timeline(self.timer.spans), self._paths.plots / "timeline.png", mode)

    def _open(self, stack: ExitStack) -> None:
        wanted, tracking = self._config.instruments, self._config.tracking
        self.timer = Timer(enabled=wanted.timer)
        if wanted.timer:
            stack.callback(self._save_timeline)  # whatever else fails to close
        stack.enter_context(self.timer)
        folder = self._paths.tensorboard if tracking.tensorboard else None
        self.tracker = stack.enter_context(Tracker(self._paths.metrics, folder, resumed_after=self._resumed_after))
        self.tracker.text("settings", msgspec.json.format(msgspec.json.encode(self._settings), indent=1).decode())
        stack.enter_context(self.plots)
        if tracking.dashboard:
            dashboard = start_dashboard(
                self._paths.folder.parent,
                port=tracking.dashboard_port,
                headless_too=tracking.dashboard_headless,
                say=self._say,
            )
            if dashboard is not None:
                stack.enter_context(dashboard)
        if wanted.record_every:
            self._recorder = stack.enter_context(
                Recorder(
                    self._paths.recordings,
                    flush_every=wanted.record_flush_every,
                    memory_cap_bytes=int(wanted.record_memory_mib * MIB),
                )
            )
        if wanted.profile_steps:
            place = Path(wanted.profile_folder) if wanted.profile_folder else self._paths.profile
            self._profiler = stack.enter_context(
                StepProfiler(place, first_step=wanted.profile_first_step, n_steps=wanted.profile_steps, say=self._say)
            )
        if wanted.python_profile:
            path = self._paths.profile / "python.pstats"
            stack.enter_context(python_profile(path, viewer=wanted.python_profile_viewer, say=self._say))

    def span(self, name: str) -> AbstractContextManager[Any]:
        """Time a part of the run, if that is wanted."""
        return self.timer.span(name)

    @contextmanager
    def step(self, number: int, state: TrainState) -> Iterator[None]:
        """Around the training step of this number, counted from 1 over the whole run, that begins with `state`."""
        if self._profiler is None:
            yield
            return
        self._profiler.at_step(number, wait_for=state)
        with self._profiler.step_annotation(number):
            yield

    def epoch(self, end: EpochEnd) -> None:
        """Record the end of an epoch: metrics, TensorBoard, figures in the background, recordings."""
        record, tracking, train = end.record, self._config.tracking, self._config.train
        epoch = record["epoch"]
        draws = train.plots in ("save", "both") and _is_due(epoch, train.plots_every) and epoch < train.epochs
        draws = draws and self.plots.is_free
        pictures = tracking.tensorboard and _is_due(epoch, tracking.images_every)
        began = time.perf_counter()
        views = end.views() if draws or pictures else []
        draws = draws and bool(views)
        if draws:
            with self.span("plots"):
                path = self._paths.epoch_plots(epoch) / self._paths.plot_data.name
                save_views(path, views, end.detector)
                plots_s = time.perf_counter() - began
                record["time"] |= {"plots_s": plots_s, "plots_share": plots_s / record["time"]["epoch_s"]}
        if drawing_s := self.plots.take_cpu_s():
            record["time"]["drawing_cpu_s"] = drawing_s
        with self.span("tracking"):
            if pictures:
                self.tracker.images(epoch, _pictures(views, end.detector))
            if tracking.tensorboard and _is_due(epoch, tracking.histograms_every):
                self.tracker.histograms(epoch, named_parameters(jax.device_get(end.state.params)))
            if self._recorder is not None and _is_due(epoch, self._config.instruments.record_every):
                _record(self._recorder, end)
            self.tracker.epoch(record)
        if draws:
            self.plots.request(epoch)


def _record(recorder: Recorder, end: EpochEnd) -> None:
    epoch, state = end.record["epoch"], end.state
    weights, biases = split_parameters(state.params)
    recorder.record(epoch, "weights", weights)
    recorder.record(epoch, "biases", biases)
    activations = activations_of(end.model, state.variables, jax.device_put(end.inputs()))
    recorder.record(epoch, "activations", activations)


def _is_due(epoch: int, every: int) -> bool:
    return every > 0 and epoch % every == 0


def _pictures(views: list[plots.EventView], detector: Detector) -> dict[str, np.ndarray]:
    """Stages of the first event."""
    if not views:
        return {}
    view = views[0]
    hits = {"pattern": view.pattern, "smeared": view.smeared, "hits": view.hits, "masked": view.hits[view.kept]}
    images = {name: plots.hit_image(of, detector) for name, of in hits.items()}
    images["direct"] = view.direct if view.has_time else view.direct * detector.n_t
    return {f"stage/{name}": stage_image(image, detector.n_t) for name, image in images.items()}
