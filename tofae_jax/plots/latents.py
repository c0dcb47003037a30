"""Figures of a latent space: what is drawn from it, and how events lie in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tofae_jax.core.detector import Detector
from tofae_jax.plots import style as look
from tofae_jax.plots.curves import LARGEST, name_legend
from tofae_jax.plots.detector_axes import Frame, Units, detector_frame
from tofae_jax.plots.labels import shown_name
from tofae_jax.plots.metric_grid import panel_grid

_MOST_IMAGES = 36
_MOST_COLUMNS = 6
_PANEL_INCHES = 2.0
_DEAD_BELOW = 0.01  # of the largest spread
_GROUPS = (
    (look.BLUE, "o"),
    (look.VERMILLION, "s"),
    (look.GREEN, "^"),
    (look.PURPLE, "D"),
    (look.ORANGE, "v"),
    (look.SKY_BLUE, "P"),
    (look.BLACK, "X"),
)
_OTHER = (look.NOISE, "p")
_LEGEND_POINTS = 5.0
_WITHOUT_SKLEARN = "latent projection needs scikit-learn: pip install 'tofae-jax[report]'"


def _columns(n: int) -> int:
    """Of a grid of `n` panels that is wider than high, with few places left over."""
    least = min(n, _MOST_COLUMNS, int(np.ceil(np.sqrt(n))))
    return min(range(max(1, least), max(1, min(n, _MOST_COLUMNS)) + 1), key=lambda columns: (-n % columns, columns))


def _checked(images: Any, detector: Detector) -> np.ndarray:
    images = np.asarray(images)
    expected = (detector.n_y, detector.n_x)
    if images.shape == (0,):
        return np.zeros((0, *expected))
    if images.ndim != 3 or images.shape[1:] != expected:
        raise ValueError(
            f"images have shape {images.shape}, but the detector's have shape (n, {detector.n_y}, {detector.n_x})"
        )
    return images.astype(np.float64)


@look.style()
def latent_samples(
    images: Any, *, detector: Detector, units: Units | str = "physical", has_time: bool = True, title: str = ""
) -> Figure:
    """What a decoder makes of draws from the latent space, float[n, Y, X] in time bins, 0 where dark: a panel each.

    Lit pixels are coloured by time on one scale for all, or in one colour without times; y points downward like the
    image. Each panel says how many there are. Pixels that are not finite are dark. At most 36 are drawn, and a note
    counts the rest; without any, the panel says so. Raises `ValueError` for images of another shape than the
    detector's, and for unknown units.
    """
    images, frame = _checked(images, detector), detector_frame(detector, units)
    shown = images[:_MOST_IMAGES]
    columns = _columns(len(shown))
    rows = max(1, -(-len(shown) // columns))
    wide = _PANEL_INCHES * float(np.clip(detector.n_x / detector.n_y, 0.7, 1.6)) if frame.aspect == "equal" else 2.2
    size = (max(wide * columns + 1.4, 4.5), max(_PANEL_INCHES * rows + 0.7, 3.0))
    figure = look.new_figure(*size, name="draws from the latent space", title=title)
    panels = panel_grid(figure, max(1, len(shown)), n_columns=columns)
    if len(shown):
        _draw_images(figure, panels, shown, frame, has_time=has_time, n_columns=columns)
    else:
        look.empty_panel(panels[0], "no draws")
    if len(images) > len(shown):
        notes = [f"the first {len(shown)} of {len(images):,} draws"]
        name_legend(figure, [], [], n_columns=1, notes=notes)
    return figure


def _draw_images(
    figure: Figure, panels: Sequence[Axes], images: np.ndarray, frame: Frame, *, has_time: bool, n_columns: int
) -> None:
    is_lit = np.isfinite(images) & (images > 0)
    times = np.ma.masked_array(frame.t.centre(np.where(is_lit, images, 1)), ~is_lit)
    how: dict[str, Any] = {"extent": frame.extent, "origin": "upper", "interpolation": "nearest"}
    how["aspect"] = frame.aspect
    if has_time and is_lit.any():
        first, last = float(times.min()), float(times.max())
        if first == last:
            first, last = first - frame.t.step / 2, last + frame.t.step / 2
        how |= {"cmap": look.TIME_COLOURS, "vmin": first, "vmax": last}
    else:
        times, how["cmap"] = np.ma.masked_array(np.ones_like(images), ~is_lit), look.ListedColormap([look.LIT])
    drawn = None
    for index, axes in enumerate(panels):
        n_lit = int(is_lit[index].sum())
        axes.set_title(f"{n_lit:,} lit {'pixel' if n_lit == 1 else 'pixels'}")
        drawn = axes.imshow(times[index], **how)
        frame.show(axes, "x", "y", n_ticks=4)
        if not n_lit:
            look.annotate_empty(axes, "no lit pixels")
        is_last, is_first = index + n_columns >= len(panels), index % n_columns == 0
        axes.tick_params(labelbottom=is_last, labelleft=is_first)
        axes.set_xlabel(frame.x.label if is_last else "")
        axes.set_ylabel(frame.y.label if is_first else "")
    if has_time and is_lit.any() and drawn is not None:
        figure.colorbar(
            drawn, ax=list(panels), label=frame.t.label, aspect=12 * (len(panels) // n_columns) + 10, pad=0.02
        )


def _pca(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places [n, 2] along the two directions of most variance, and their shares of it; signs are fixed."""
    from sklearn.decomposition import PCA

    centred = rows - rows.mean(axis=0)
    n, d = centred.shape
    # both are exact and draw nothing at random; the first is quick for many rows
    pca: Any = PCA(2, svd_solver="covariance_eigh" if n > d else "full").fit(centred)
    largest = np.argmax(np.abs(pca.components_), axis=1)
    signs = np.where(pca.components_[[0, 1], largest] < 0, -1.0, 1.0)
    return centred @ (signs[:, None] * pca.components_).T, pca.explained_variance_ratio_


def _require_sklearn() -> None:
    try:
        import sklearn.decomposition  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(_WITHOUT_SKLEARN) from error


def _by_label(labels: Sequence[str]) -> list[tuple[str, np.ndarray, tuple[str, str]]]:
    """Name, flags of its rows, colour and marker of each group: the most frequent labels first, the rest together."""
    counts = Counter(labels)
    ordered = sorted(counts, key=lambda label: (-counts[label], label))
    own, others = (ordered, []) if len(ordered) <= len(_GROUPS) else (ordered[: len(_GROUPS)], ordered[len(_GROUPS) :])
    groups = [
        (f"{shown_name(label, most=28)} ({counts[label]:,})", np.array([other == label for other in labels]), look_of)
        for label, look_of in zip(own, _GROUPS, strict=False)
    ]
    if others:
        is_other = np.array([label in set(others) for label in labels])
        groups.append((f"other, {len(others)} labels ({int(is_other.sum()):,})", is_other, _OTHER))
    return groups


@look.style()
def latent_projection(vectors: Any, labels: Sequence[str] | None = None, *, title: str = "") -> Figure:
    """Latent vectors, float[n, d], in the plane of their greatest variance, and how much each latent number varies.

    The plane is that of a principal component analysis; its axes say which share of the variance they hold, and have
    the same scale. Points are coloured by label; of more than 7 labels, the rarest are grouped as "other". The spread
    is the standard deviation over the vectors, sorted; numbers whose spread is below 1 % of the largest are dead: they
    say nothing of the event.

    Vectors with a value that is not finite, or beyond 1e100, are left out, and a note counts them. Panels say so where
    fewer than two vectors are left, where a vector has fewer than two numbers (no plane), and where all are the same.
    The same vectors give the same figure. Raises `ValueError` for vectors that are no matrix, and unless there is one
    label per vector; `ModuleNotFoundError` without scikit-learn.
    """
    _require_sklearn()
    vectors = np.asarray(vectors)
    vectors = np.zeros((0, 0)) if vectors.shape == (0,) else vectors.astype(np.float64)
    if vectors.ndim != 2:
        raise ValueError(f"vectors have shape {vectors.shape}, expected (n, d)")
    if labels is not None and len(labels) != len(vectors):
        raise ValueError(f"{len(labels)} labels for {len(vectors)} vectors: expected one label per vector")
    is_known = (np.abs(vectors) <= LARGEST).all(axis=1)  # not where one is NaN
    rows = vectors[is_known]
    groups = (
        []
        if labels is None
        else _by_label([str(label) for label, known in zip(labels, is_known, strict=True) if known])
    )
    figure = look.new_figure(9.4, 4.4, name="latent space", title=title)
    plane, spread = figure.subplots(1, 2, width_ratios=[1.15, 1])
    plane.set_title("principal components")
    spread.set_title("spread of the latent numbers")
    n, d = rows.shape
    handles: list[Any] = []
    if n < 2 or d < 1 or (rows == rows[0]).all():
        nothing = "fewer than two vectors" if n < 2 else "no latent numbers" if d < 1 else "all vectors are the same"
        for axes in (plane, spread):
            look.empty_panel(axes, nothing)
    else:
        _draw_spread(spread, rows)
        if d < 2:
            look.empty_panel(plane, "only one latent number")
        else:
            handles = _draw_plane(plane, rows, groups)
    notes = [f"{len(vectors) - n:,} of {len(vectors):,} vectors left out: not finite"] if n < len(vectors) else []
    names = [name for name, *_ in groups] if handles else []
    name_legend(figure, handles, names, n_columns=4, notes=notes)
    return figure


def _draw_plane(axes: Axes, rows: np.ndarray, groups: Sequence[tuple[str, np.ndarray, Any]]) -> list[Any]:
    """The plane of the first two components; the markers of the groups, if there are any."""
    scale = np.abs(rows).max()  # squares of what is very large or small leave the range of numbers
    places, shares = _pca(rows / scale)
    x, y = (places * scale).T
    size = float(np.clip(4000 / len(rows), 3, 22))
    alpha = 0.85 if len(rows) <= 500 else 0.5
    handles: list[Any] = []
    for _, of, (colour, marker) in groups or [("", np.ones(len(rows), bool), (look.BARS, "o"))]:
        how: dict[str, Any] = {"color": colour, "marker": marker}
        axes.scatter(x[of], y[of], s=size, alpha=alpha, linewidths=0, **how)
        handles.append(Line2D([], [], linestyle="", markersize=_LEGEND_POINTS, markeredgewidth=0, **how))
    axes.set_xlabel(f"first component ({100 * shares[0]:.1f} % of the variance)")
    axes.set_ylabel(f"second component ({100 * shares[1]:.1f} %)")
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(visible=True)
    return handles if groups else []


def _draw_spread(axes: Axes, rows: np.ndarray) -> None:
    scale = np.abs(rows).max()
    spread = np.sort(np.std(rows / scale, axis=0))[::-1] * scale
    d = len(spread)
    n_dead = int(np.sum(spread < _DEAD_BELOW * spread[0]))
    axes.stairs(spread, np.arange(d + 1) + 0.5, fill=True, color=look.BARS)
    if n_dead:
        axes.axvspan(d - n_dead + 0.5, d + 0.5, color="#EEEEEE", zorder=0)
    axes.plot([], [], " ", label=f"{n_dead} of {d} dead (below {100 * _DEAD_BELOW:g} % of the largest)")
    axes.set_xlim(0.5, d + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    axes.set_ylim(0, 1.18 * spread[0])  # room for the legend
    axes.set_xlabel("latent number, sorted")
    axes.set_ylabel("standard deviation")
    axes.legend(loc="upper right", handlelength=0)
