"""Images in NumPy arrays as events."""

import re

import numpy as np
import pytest
from hit_files import SMALL, assert_refused, read, rows_of, write_npz

from tofae_jax.data.files.read import read_events


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint16, np.int64, ">f8", ">i4"])
@pytest.mark.parametrize("has_channel", [False, True])
@pytest.mark.parametrize("name", ["images.npy", "images.npz"])
def test_image_events_are_the_hits_of_the_images(tmp_path, dtype, has_channel, name):
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 11, (7, 3, 4)) * (rng.random((7, 3, 4)) < 0.5)).astype(dtype)
    images[2] = 0
    stored = images[:, None] if has_channel else images
    path = tmp_path / name
    np.save(path, stored) if name.endswith("npy") else np.savez(path, images=stored)
    expected = [
        (event, x, y, int(images[event, y, x]))
        for event in range(7)
        for y in range(3)
        for x in range(4)
        if images[event, y, x]
    ]
    for chunk_hits in (1, 12, 30, 1000):
        events = read(path, chunk_hits=chunk_hits)
        assert events.hits.dtype == np.int16
        assert events.offsets.dtype == np.int64
        assert events.n_events == 7
        assert np.array_equal(events.event_columns["event"], np.arange(7))
        assert np.array_equal(rows_of(events), expected)
        assert all(
            chunk.n_hits <= max(12, chunk_hits) for chunk in read_events(path, detector=SMALL, chunk_hits=chunk_hits)
        )


def test_image_events_fortran_order_npz_raises(tmp_path):
    images = np.asfortranarray(np.arange(24).reshape(2, 3, 4) % 11)
    np.save(tmp_path / "images.npy", images)
    assert read(tmp_path / "images.npy").n_hits == np.count_nonzero(images)
    assert_refused(write_npz(tmp_path / "images.npz", images=images), "Fortran order; save np.ascontiguousarray of it")


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(np.nan, "f4"), (np.inf, "f8"), (-1, "i2"), (11, "u1"), (2.5, "f2"), (-0.5, "f4"), (2**63, "u8"), (1e300, "f8")],
)
def test_image_events_bad_pixel_is_named(tmp_path, value, dtype):
    images = np.zeros((9, 3, 4), dtype)
    images[0, 0, 0] = 10
    images[6, 2, 1] = value
    np.save(tmp_path / "images.npy", images)
    for chunk_hits in (12, 1000):
        words = r"event 6, pixel x=1 y=2: .*; whole numbers from 0 \(no hit\) to 10 allowed"
        assert_refused(tmp_path / "images.npy", words, chunk_hits=chunk_hits)


@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3), (2, 2, 3, 4), (2, 1, 1, 3, 4), (), (12,)])
def test_check_images_another_shape_raises(tmp_path, shape):
    np.save(tmp_path / "images.npy", np.zeros(shape))
    words = re.escape(f"images of shape {list(shape)}; [n, 3, 4] or [n, 1, 3, 4] allowed")
    assert_refused(tmp_path / "images.npy", words)


@pytest.mark.parametrize("dtype", [bool, complex, "U3", "S3", [("x", "i4")], "M8[s]"])
def test_check_images_not_numbers_raises(tmp_path, dtype):
    np.save(tmp_path / "images.npy", np.zeros((2, 3, 4), dtype))
    assert_refused(tmp_path / "images.npy", "images of type .*; integer or float allowed")


def test_image_events_no_images_no_events(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((0, 3, 4)))
    assert read(tmp_path / "images.npy").n_events == 0


def test_image_events_signalling_nan_raises_no_warning(tmp_path):
    images = np.zeros((1, 3, 4), np.float32)
    images.view(np.uint32)[0, 1, 2] = 0x7FA00000
    np.save(tmp_path / "images.npy", images)
    assert_refused(tmp_path / "images.npy", "event 0, pixel x=2 y=1: nan")
