"""Where a finished figure goes: a window, a file, both or nowhere."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.registry import BackendFilter, backend_registry
from matplotlib.figure import Figure

from tofae_jax.config import PlotMode
from tofae_jax.data.storage.atomic import check_can_be_written, replacing_output
from tofae_jax.data.storage.replaceable import check_free, no_file_like
from tofae_jax.plots.detector_axes import check_choice
from tofae_jax.plots.style import style
from tofae_jax.runs.display import missing_display
from tofae_jax.runs.messages import Say, warn_once


def deliver(
    figure: Figure,
    path: str | Path | None,
    mode: PlotMode | str,
    *,
    overwrite: bool = True,
    warn: Say = warn_once,
) -> Path | None:
    """Show a figure, save it as PNG, both or neither; returns the path once the file is there, None if none was asked.

    A file is there completely or not at all; missing folders are made. Showing waits until the window is closed. Where
    there is no display, `warn` is called once with one line, no window opens, and a file that was asked for is there.

    Raises `ValueError` for an unknown mode, for saving without a path or to one that does not end in `.png`, and where
    a file is there that is no PNG, or any unless `overwrite`.
    """
    check_delivery(path, mode, overwrite=overwrite)
    saved = _save(figure, Path(path), overwrite=overwrite) if path is not None and mode in ("save", "both") else None
    if mode in ("show", "both"):
        obstacle = display_obstacle() or _show(figure)
        if obstacle:
            warn(f"plots are not shown: {obstacle}")
    return saved


def check_delivery(path: str | Path | None, mode: PlotMode | str, *, overwrite: bool = True) -> None:
    """Check that a figure can be delivered, before what it shows is computed.

    Raises:
        ValueError: an unknown mode; saving without a path, to one that does not end in `.png`, to a folder that cannot
            be written, or where something is that is not to be replaced.
    """
    check_choice("plot mode", mode, PlotMode)
    if mode in ("save", "both"):
        if path is None or Path(path).suffix.lower() != ".png":
            raise ValueError(f"plot mode {mode!r} needs a path that ends in '.png', got {path and str(path)!r}")
        check_free(Path(path), no_file_like(Path(path)), overwrite=overwrite)
        check_can_be_written(Path(path).parent)


def _save(figure: Figure, path: Path, *, overwrite: bool) -> Path:
    with style(), replacing_output(path, overwrite=overwrite) as partial:
        figure.savefig(partial, format="png")
    return path


def display_obstacle() -> str:
    """Why no window can open here, empty if one can."""
    if missing := missing_display():
        return missing
    from matplotlib import pyplot  # here, because it looks for a display and keeps state

    backend = pyplot.get_backend()
    if backend.lower() in backend_registry.list_builtin(BackendFilter.NON_INTERACTIVE):
        return f"matplotlib's backend {backend!r} has no windows"
    return ""


def _show(figure: Figure) -> str:
    """Lend the figure to a window until it is closed; what went wrong, if the window did not open."""
    from matplotlib import pyplot

    dpi = figure.dpi
    with style():
        try:
            window = pyplot.figure(figsize=tuple(figure.get_size_inches()), dpi=dpi)
        except Exception as error:  # every toolkit has errors of its own; a figure is no reason to end a run
            return f"no window opened: {error}"
        window.canvas.figure = figure
        figure.set_canvas(window.canvas)
        try:
            pyplot.show(block=True)
        finally:
            pyplot.close(figure)
            FigureCanvasAgg(figure)
            figure.dpi = dpi  # a window sets it to that of its screen
    return ""
