"""What a person sees while a run goes on: a bar on a terminal, a line per epoch anywhere else. All on stderr."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


class Progress:
    """Progress over epochs and steps; a context manager."""

    def __init__(self, n_epochs: int, steps_per_epoch: int) -> None:
        """Nothing is shown before the first step."""
        self._n_epochs, self._steps = n_epochs, steps_per_epoch
        self._console = Console(stderr=True, highlight=False)
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Progress:
        self._bar.start()
        self._task = self._bar.add_task("starting", total=self._n_epochs * self._steps, note="compiling")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, epoch: int, step: int, loss: float) -> None:
        """A step, counted from 1, is done."""
        done = (epoch - 1) * self._steps + step
        note = f"loss {loss:.4g}"
        self._bar.update(self._task, completed=done, description=f"epoch {epoch}/{self._n_epochs}", note=note)

    def say(self, note: str) -> None:
        """What goes on now."""
        self._bar.update(self._task, note=note)

    def epoch_done(self, record: dict[str, Any]) -> None:
        """A line for an epoch's record."""
        loss = record["train"]["loss"]
        line = f"epoch {record['epoch']}/{self._n_epochs}: train loss {'-' if loss is None else f'{loss:.4g}'}"
        if (validation := record["validation"]) is not None:
            masked = validation["masked"]
            line += (
                f", validation loss {validation['loss']:.4g}, masked efficiency {masked['efficiency']:.3f}, "
                f"purity {masked['purity']:.3f}, F1 {masked['f1']:.3f}"
            )
        self._console.print(f"{line} ({record['time']['epoch_s']:.1f} s)", soft_wrap=True)
