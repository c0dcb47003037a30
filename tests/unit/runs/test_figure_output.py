"""Where a finished figure goes: a window, a file, both or nowhere."""

import numpy as np
import pytest
from figure_data import RESULT
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from plotted import (  # noqa: F401 (fixture)
    DETECTOR,
    nothing_left_behind,
    png,
    v_shape,
)

from tofae_jax import plots
from tofae_jax.runs import figure_output
from tofae_jax.runs.figure_output import deliver
from tofae_jax.runs.messages import warn_once


@pytest.fixture
def figure():
    return plots.output_comparison(RESULT)


@pytest.fixture
def headless(monkeypatch):
    """No display; opening a window fails the test."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("show", "figure"):
        monkeypatch.setattr(pyplot, name, lambda *_, **__: pytest.fail("a window was opened"))
    warn_once.cache_clear()


@pytest.fixture
def screen(monkeypatch):
    """What `pyplot.show` would have shown."""
    shown = []

    def show(*, block):
        shown.extend(pyplot.figure(number).canvas.figure for number in pyplot.get_fignums())
        assert block

    monkeypatch.setattr(figure_output, "display_obstacle", lambda: "")
    monkeypatch.setattr(pyplot, "show", show)
    return shown


@pytest.mark.backlog("B18")
@pytest.mark.parametrize("mode", ["", "Save", "yes", "savefig"])
def test_deliver_unknown_mode_raises(figure, tmp_path, mode):
    with pytest.raises(ValueError, match=rf"plot mode is '{mode}', allowed are 'show', 'save', 'both', 'none'"):
        deliver(figure, tmp_path / "a.png", mode)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.backlog("B18")
@pytest.mark.parametrize("mode", ["show", "save", "both", "none"])
def test_deliver_each_mode_does_what_it_says(figure, tmp_path, screen, mode):
    path = tmp_path / "new" / "a.png"
    returned = deliver(figure, path, mode, warn=pytest.fail)
    saves = mode in ("save", "both")
    assert returned == (path if saves else None)
    assert path.is_file() == saves
    assert screen == ([figure] if mode in ("show", "both") else [])


@pytest.mark.parametrize("path", [None, "plot", "plot.pdf"])
def test_deliver_saving_needs_a_png_path(figure, path):
    for mode in ("save", "both"):
        with pytest.raises(ValueError, match=f"plot mode '{mode}' needs a path that ends in '.png', got"):
            deliver(figure, path, mode)
    assert deliver(figure, path, "none") is None


def test_deliver_saved_file_is_the_figure(tmp_path):
    figure = plots.stage_panels(v_shape(), detector=DETECTOR)
    path = deliver(figure, tmp_path / "a.png", "save")
    image = imread(path)
    np.testing.assert_allclose(image.shape[:2], figure.get_size_inches()[::-1] * 150, atol=1)
    assert image[..., :3].std() > 0.05  # a blank page has none
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_deliver_failed_save_leaves_the_old_file(figure, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG old")

    def fail(partial, **_):
        partial.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        deliver(figure, path, "save")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.png", b"\x89PNG old")]


@pytest.mark.backlog("B18")
@pytest.mark.parametrize("mode", ["show", "both"])
def test_deliver_without_a_display_warns_and_saves(figure, tmp_path, headless, mode):
    warnings = []
    returned = deliver(figure, tmp_path / "a.png", mode, warn=warnings.append)
    assert (returned is not None) == (mode == "both") == (tmp_path / "a.png").is_file()
    [warning] = warnings
    assert warning.startswith("plots are not shown: this machine has no display")
    assert "\n" not in warning


def test_deliver_default_warning_is_printed_once(figure, headless, capsys, messages):
    for _ in range(3):
        assert deliver(figure, None, "show") is None
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("plots are not shown") == 1


def test_display_obstacle_names_a_backend_without_windows(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(pyplot, "get_backend", lambda: "agg")
    assert figure_output.display_obstacle() == "matplotlib's backend 'agg' has no windows"
    monkeypatch.setattr(pyplot, "get_backend", lambda: "TkAgg")
    assert figure_output.display_obstacle() == ""


def test_deliver_window_that_does_not_open_warns(figure, screen, monkeypatch):
    def fail(**_):
        raise RuntimeError("cannot connect")

    monkeypatch.setattr(pyplot, "figure", fail)
    warnings = []
    assert deliver(figure, None, "show", warn=warnings.append) is None
    assert warnings == ["plots are not shown: no window opened: cannot connect"]


def test_deliver_shown_figure_stays_the_same(figure, screen):
    before = png(plots.output_comparison(RESULT))
    deliver(figure, None, "show")
    assert isinstance(figure.canvas, FigureCanvasAgg)
    assert png(figure) == before
