"""The run folder: its paths, its creation and its lock."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tofae_jax.data.storage.lock import locked_file
from tofae_jax.data.storage.replaceable import no_folder_of


class RunError(ValueError):
    """A run folder is missing or is not what it should be; the message names it."""


class RunPaths:
    """Every path inside a run folder."""

    def __init__(self, folder: str | Path) -> None:
        """Paths inside `folder`; nothing is made."""
        self.folder = Path(folder).resolve()
        self.record = self.folder / "run.json"
        self.metrics = self.folder / "metrics.jsonl"
        self.checkpoints = self.folder / "checkpoints"
        self.tensorboard = self.folder / "tensorboard"
        self.plots = self.folder / "plots"
        self.plot_data = self.plots / "data.npz"
        self.plot_events = self.plots / "events.npz"
        self.plot_latents = self.plots / "latents.npz"
        self.summary = self.folder / "summary.txt"
        self.recordings = self.folder / "recordings"
        self.timeline = self.folder / "timeline.json"
        self.profile = self.folder / "profile"
        self.lock = self.folder / ".lock"
        self.scores = self.folder / "scores.npz"
        self.report = self.folder / "report.html"

    def epoch_plots(self, epoch: int) -> Path:
        """Return the folder of the figures that are drawn of an epoch during the training."""
        return self.plots / f"epoch_{epoch:04d}"


NO_RUN = no_folder_of(
    {path.name for path in vars(RunPaths("run")).values()}.__contains__, needs=RunPaths("run").record.name, kind="run"
)
"""lets only run folders be replaced, and none that holds other files"""


def timestamp() -> str:
    """Return the local time with its offset from UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def create_run_folder(parent: str | Path, name: str = "") -> RunPaths:
    """Make a run folder with a unique id, also when several processes begin in the same second."""
    parent = Path(parent)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            stamp = time.strftime("%Y%m%d-%H%M%S")
            run_id = "-".join(part for part in (name, stamp, secrets.token_hex(2)) if part)
            try:
                (parent / run_id).mkdir()
            except FileExistsError:
                continue
            paths = RunPaths(parent / run_id)
            paths.plots.mkdir()
            return paths
    except OSError as error:
        raise RunError(f"{parent}: cannot make a run folder: {error.strerror or error}") from None


@contextmanager
def locked(paths: RunPaths) -> Iterator[None]:
    """Let only one process work on a run; RunError where another one does. A killed process holds nothing."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_file(paths.lock, wait=False))
        except BlockingIOError:
            raise RunError(f"{paths.folder}: another process works on this run") from None
        yield
