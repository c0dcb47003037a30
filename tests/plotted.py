"""Events to draw, and how to read what a figure shows."""

import io

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.image import imread

from tofae_jax.core.detector import Detector
from tofae_jax.plots import EventView, style

DETECTOR = Detector()
SMALL = Detector(n_x=9, n_y=7, n_t=40, width_mm=18.0, height_mm=3.5, window_ns=2.0)
NO_HITS = np.zeros((0, 3), np.int16)
N_SIGNAL, N_NOISE = 30, 200


def v_shape() -> EventView:
    """Two arms from (45, 110) upwards, 30 hits of them seen, among 200 of noise; the left arm's foot is not found."""
    rng = np.random.default_rng(7)
    step = np.arange(36)
    pattern = np.concatenate([np.stack([45 + side * step, 110 - 3 * step, 400 + step], 1) for side in (-1, 1)])
    pattern = np.unique(pattern, axis=0)
    sparse = pattern[rng.choice(len(pattern), N_SIGNAL, replace=False)]
    smeared = sparse + rng.integers(-1, 2, sparse.shape)
    noise = np.stack([rng.integers(0, 88, N_NOISE), rng.integers(0, 128, N_NOISE), rng.integers(1, 1001, N_NOISE)], 1)
    order = rng.permutation(N_SIGNAL + N_NOISE)
    hits = np.concatenate([smeared, noise])[order].astype(np.int16)
    direct = np.zeros((128, 88), np.float32)
    for reach in (-1, 0, 1):
        direct[pattern[:, 1], np.clip(pattern[:, 0] + reach, 0, 87)] = pattern[:, 2]
    direct[95:, :45] = 0
    return EventView(pattern, sparse, smeared, hits, order < N_SIGNAL, direct, direct[hits[:, 1], hits[:, 0]] > 0)


def nothing(detector: Detector = DETECTOR) -> EventView:
    dark, none = np.zeros((detector.n_y, detector.n_x), np.float32), np.zeros(0, bool)
    return EventView(NO_HITS, NO_HITS, NO_HITS, NO_HITS, none, dark, none)


def single() -> EventView:
    """One hit in the last corner, found."""
    hit, yes, direct = np.array([[87, 127, 1000]], np.int16), np.ones(1, bool), np.zeros((128, 88), np.float32)
    direct[127, 87] = 1000
    return EventView(hit, hit, hit, hit, yes, direct, yes)


def occluded() -> EventView:
    """All hits share a pixel; the latest, which is noise, hides the rest."""
    hits = np.array([[3, 4, t] for t in (1, 5, 9, 12)], np.int16)
    direct = np.zeros((128, 88), np.float32)
    direct[4, 3] = 12
    return EventView(hits, hits[:3], hits[:3], hits, np.arange(4) < 3, direct, np.arange(4) == 3)


VIEWS = {"normal": v_shape(), "empty": nothing(), "single": single(), "occluded": occluded()}


def png(figure, dpi: float | str = "figure") -> bytes:
    with style.style():
        figure.savefig(buffer := io.BytesIO(), format="png", dpi=dpi)
    return buffer.getvalue()


def pixels(figure) -> np.ndarray:
    """What the figure looks like: [Y, X, RGB] in 0..255."""
    return np.round(imread(io.BytesIO(png(figure)))[..., :3] * 255).astype(int)


def panel(figure, name):
    """The panel whose title begins with the name."""
    return next(axes for axes in figure.axes if axes.get_title().startswith(name))


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()] if figure.legends else []


def notes(figure) -> str:
    """What is written beneath the panels."""
    return figure.get_supxlabel() + "".join(found.get_title().get_text() for found in figure.legends)


def offsets(axes, name) -> np.ndarray:
    """Positions of the markers of one group, [n, 2]."""
    return np.asarray(next(found for found in axes.collections if found.get_label() == name).get_offsets())


def centres_mm(hits) -> np.ndarray:
    return np.stack([(hits[:, 0] + 0.5) * 7.5, (hits[:, 1] + 0.5) * 53 / 128], axis=1)


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """No figure stays with pyplot, and no setting of matplotlib changes; for every module that imports it."""
    before = dict(matplotlib.rcParams)
    yield
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before
