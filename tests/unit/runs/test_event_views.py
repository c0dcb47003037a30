"""Stored events: figures can be drawn again from them."""

import ml_dtypes
import numpy as np
import pytest
from event_figures import EVENT_FIGURES
from hypothesis import given
from hypothesis import strategies as st
from plotted import (  # noqa: F401 (fixture)
    DETECTOR,
    SMALL,
    VIEWS,
    nothing_left_behind,
    png,
    single,
    v_shape,
)

from tofae_jax.data.events import DataError
from tofae_jax.plots import EventView
from tofae_jax.runs.event_views import load_views, save_views


def assert_same(views: list[EventView], others: list[EventView]) -> None:
    assert len(views) == len(others)
    for view, other in zip(views, others, strict=True):
        assert (view.has_time, view.target) == (other.has_time, other.target)
        for name in EventView._fields[:-2]:
            first, second = getattr(view, name), getattr(other, name)
            np.testing.assert_array_equal(first, second, err_msg=name)
            assert first.dtype == second.dtype, name


def random_view(seed: int, n: int) -> EventView:
    rng = np.random.default_rng(seed)
    low, high = (0, 0, 1), (SMALL.n_x, SMALL.n_y, SMALL.n_t + 1)
    lists = [rng.integers(low, high, (rng.integers(0, n + 1), 3)).astype(np.int16) for _ in range(4)]
    flags = [rng.random(len(lists[3])) < 0.5 for _ in range(2)]
    direct = rng.normal(size=(SMALL.n_y, SMALL.n_x)).astype(np.float32)
    return EventView(*lists, flags[0], direct, flags[1], bool(seed % 2), ("pattern", "signal")[seed % 3 % 2])


@given(seeds=st.lists(st.integers(0, 1000), max_size=4), n=st.integers(0, 5))
def test_save_views_come_back_exactly(seeds, n, tmp_path_factory):
    path = tmp_path_factory.mktemp("views") / "data.npz"
    views = [random_view(seed, n) for seed in seeds]
    assert save_views(path, views, SMALL) == path
    loaded, detector = load_views(path)
    assert detector == SMALL
    assert_same(loaded, views)


@pytest.mark.slow
def test_load_views_figures_can_be_drawn_again(tmp_path):
    path = save_views(tmp_path / "data.npz", list(VIEWS.values())[:2], DETECTOR)
    assert [file.name for file in tmp_path.iterdir()] == ["data.npz"]
    [view, empty], detector = load_views(path)
    for draw in EVENT_FIGURES:
        assert png(draw(view, detector=detector)) == png(draw(v_shape(), detector=DETECTOR))
        assert png(draw(empty, detector=detector)) != png(draw(view, detector=detector))


def test_save_views_bfloat16_becomes_float32(tmp_path):
    view = single()._replace(direct=single().direct.astype(ml_dtypes.bfloat16))
    [loaded], _ = load_views(save_views(tmp_path / "data.npz", [view], DETECTOR))
    assert loaded.direct.dtype == np.float32
    assert loaded.direct[127, 87] == 1000


def test_load_views_old_files_default_to_pattern(tmp_path):
    views = [v_shape(), v_shape()._replace(target="signal")]
    path = save_views(tmp_path / "data.npz", views, DETECTOR)
    assert [view.target for view in load_views(path)[0]] == ["pattern", "signal"]
    with np.load(path) as file:
        old = {name: file[name] for name in file.files if name != "target"}
    np.savez(path, **old)
    loaded, _ = load_views(path)
    assert_same(loaded, [view._replace(target="pattern") for view in views])


def test_save_views_mismatched_views_raise(tmp_path):
    with pytest.raises(ValueError, match=r"kept has shape \(3,\), but hits has shape \(230, 3\)"):
        save_views(tmp_path / "data.npz", [v_shape(), v_shape()._replace(kept=np.ones(3, bool))], DETECTOR)
    assert list(tmp_path.iterdir()) == []


def test_load_views_other_files_are_named(tmp_path):
    path = save_views(tmp_path / "data.npz", [single()], DETECTOR)
    with np.load(path) as file:
        arrays = dict(file)
    changes = {
        "it has no array 'kept'": {"kept": None},
        "version 99, this program reads 1": {"version": np.asarray(99)},
        "not plot data: damaged: Input": {"detector": np.asarray("{")},
        "is_signal has shape": {"is_signal": np.zeros(0, bool)},
        "target is 'noise', allowed are 'pattern', 'signal'": {"target": np.asarray(["noise"])},
        "not plot data": {"target": np.asarray([], str)},
        "pattern: hit 0 has t = 0": {"pattern": np.zeros((1, 3), int)},
    }
    for message, change in changes.items():
        np.savez(path, **{name: array for name, array in (arrays | change).items() if array is not None})
        with pytest.raises(DataError, match=f"data.npz: .*{message}"):
            load_views(path)
    for content in (b"", b"text", b"PK\x03\x04 torn"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"data\.npz: not plot data"):
            load_views(path)
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"a\.npy: not plot data"):
        load_views(tmp_path / "a.npy")
