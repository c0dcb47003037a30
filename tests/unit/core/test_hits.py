"""Hit lists to images and back, and masking."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from strategies import hit_lists
from traced import assert_vectorised

from tofae_jax.core import hits as h

N_X, N_Y, N_T = 7, 5, 9


def slow_embed(hits):
    image = np.zeros((N_Y, N_X), np.float32)
    for x, y, t in hits:
        image[y, x] = max(image[y, x], t)
    return image


@given(hit_lists())
def test_embed_equals_a_loop_over_hits(hits):
    np.testing.assert_array_equal(h.embed(jnp.asarray(hits), n_x=N_X, n_y=N_Y), slow_embed(hits))


@pytest.mark.slow
@given(hit_lists())
def test_reconstruct_3d_round_trip_is_exact_up_to_occlusion(hits):
    image = h.embed(jnp.asarray(hits), n_x=N_X, n_y=N_Y)
    back, n_lit = h.reconstruct_3d(image, max_hits=N_X * N_Y)
    visible = hits[np.asarray(h.is_visible(jnp.asarray(hits), image))]
    expected = np.unique(visible, axis=0)
    found = np.asarray(back)[: int(n_lit)]
    np.testing.assert_array_equal(np.unique(found, axis=0), expected)
    assert int(n_lit) == len(expected)
    np.testing.assert_array_equal(h.reconstruct_3d_numpy(np.asarray(image)), found)
    assert not np.any(np.asarray(back)[int(n_lit) :])


@pytest.mark.slow
@given(hit_lists())
def test_count_occluded_every_hit_is_visible_or_counted(hits):
    image = h.embed(jnp.asarray(hits), n_x=N_X, n_y=N_Y)
    n_hits = int(np.sum(hits[:, 2] > 0))
    assert int(h.count_hits(jnp.asarray(hits))) == n_hits
    assert int(h.count_occluded(jnp.asarray(hits), image)) == n_hits - int(np.sum(slow_embed(hits) > 0))


@pytest.mark.slow
def test_is_visible_latest_hit_wins_and_equal_hits_share():
    hits = jnp.array([[1, 2, 3], [1, 2, 7], [1, 2, 7], [0, 0, 0]])
    image = h.embed(hits, n_x=N_X, n_y=N_Y)
    assert image[2, 1] == 7
    np.testing.assert_array_equal(h.is_visible(hits, image), [False, True, True, False])
    assert int(h.count_occluded(hits, image)) == 2


@pytest.mark.slow
def test_embed_batches_equal_their_events(strict):
    batch = jax.random.randint(jax.random.key(0), (4, 2, 12, 3), 0, 5, dtype=jnp.int32)
    together = h.embed(batch, n_x=N_X, n_y=N_Y)
    one = h.embed(batch[2, 1], n_x=N_X, n_y=N_Y)
    np.testing.assert_array_equal(together[2, 1], one)
    vmapped = jax.vmap(jax.vmap(lambda e: h.embed(e, n_x=N_X, n_y=N_Y)))(batch)
    np.testing.assert_array_equal(together, vmapped)
    np.testing.assert_array_equal(h.at_hits(together, batch)[2, 1], h.at_hits(one, batch[2, 1]))


def test_reconstruct_3d_full_slots_keep_the_first_hits():
    image = jnp.ones((N_Y, N_X))
    back, n_lit = h.reconstruct_3d(image, max_hits=4)
    assert int(n_lit) == N_X * N_Y
    np.testing.assert_array_equal(back, [[0, 0, 1], [1, 0, 1], [2, 0, 1], [3, 0, 1]])


def test_reconstruct_3d_rounds_times_but_keeps_lit_pixels():
    image = jnp.zeros((N_Y, N_X)).at[0, 0].set(0.2).at[1, 1].set(2.5).at[2, 2].set(3.5)
    back, n_lit = h.reconstruct_3d(image, max_hits=3)
    assert int(n_lit) == 3
    np.testing.assert_array_equal(back[:, 2], [1, 2, 4])


@pytest.mark.slow
@pytest.mark.parametrize("image", [np.zeros((N_Y, N_X)), np.zeros((1, 1))])
def test_reconstruct_3d_empty_image_has_no_hits(image):
    assert h.reconstruct_3d_numpy(image).shape == (0, 3)
    back, n_lit = h.reconstruct_3d(jnp.asarray(image, jnp.float32), max_hits=2)
    assert int(n_lit) == 0
    assert not np.any(back)


def slow_reconstruct(image):
    """Hits of one image by a loop over its pixels; times are rounded half to even."""
    lit = [(x, y) for y in range(image.shape[0]) for x in range(image.shape[1]) if image[y, x] > 0]
    return np.array([(x, y, max(round(float(image[y, x])), 1)) for x, y in lit], np.int32).reshape(-1, 3)


def images_of_all_kinds(n=6, seed=0):
    """Sparse images with fractional times, an empty one and a full one among them."""
    rng = np.random.default_rng(seed)
    images = np.where(rng.random((n, N_Y, N_X)) < 0.3, rng.integers(1, 4 * N_T, (n, N_Y, N_X)) / 4, 0)
    images[0], images[1] = 0, rng.integers(1, N_T + 1, (N_Y, N_X))
    return images.astype(np.float32)


@pytest.mark.backlog("B47")
def test_reconstruct_3d_jitted_equals_numpy_and_a_loop():
    images = images_of_all_kinds()
    hits, n_lit = jax.jit(partial(h.reconstruct_3d, max_hits=N_X * N_Y))(images)
    for image, found, n in zip(images, np.asarray(hits), np.asarray(n_lit), strict=True):
        expected = slow_reconstruct(image)
        np.testing.assert_array_equal(h.reconstruct_3d_numpy(image), expected)
        np.testing.assert_array_equal(found[:n], expected)
        assert n == len(expected) and not found[n:].any()
    assert sorted(np.asarray(n_lit))[0] == 0 and max(np.asarray(n_lit)) == N_X * N_Y


@pytest.mark.backlog("B47")
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (partial(h.reconstruct_3d, max_hits=12), ("image",)),
        (partial(h.embed, n_x=N_X, n_y=N_Y), ("hits",)),
        (h.is_visible, ("hits", "image")),
        (h.count_occluded, ("hits", "image")),
        (partial(h.mask, tof_tolerance=1.0), ("image", "image")),
    ],
    ids=["reconstruct_3d", "embed", "is_visible", "count_occluded", "mask"],
)
def test_hits_and_images_batches_are_vectorised(function, arguments):
    def batch(n):
        known = {"image": np.zeros((n, N_Y, N_X), np.float32), "hits": np.zeros((n, 12, 3), np.int32)}
        return [known[name] for name in arguments]

    assert_vectorised(function, batch(2), batch(64))


@pytest.mark.backlog("B47")
def test_reconstruct_3d_and_mask_equal_the_reference(reference):
    stages = reference("stages")
    image = stages["image"][:, 0]
    event, y, x, t = stages["points"].T.astype(int)
    for i in range(len(image)):
        theirs = np.stack([x, y, t], axis=-1)[event == i]
        np.testing.assert_array_equal(h.reconstruct_3d_numpy(image[i]), theirs)
    direct = stages[str(stages["mask_from"])][:, 0]
    np.testing.assert_array_equal(h.mask(jnp.asarray(image), jnp.asarray(direct)), stages["masked"][:, 0])


def test_mask_tolerance_keeps_hits_whose_time_agrees():
    image = jnp.array([[5.0, 9.0, 4.0, 0.0]])
    direct = jnp.array([[5.0, 6.0, 0.0, 7.0]])
    np.testing.assert_array_equal(h.mask(image, direct), [[5, 9, 0, 0]])
    np.testing.assert_array_equal(h.mask(image, direct, tof_tolerance=3.0), [[5, 9, 0, 0]])
    np.testing.assert_array_equal(h.mask(image, direct, tof_tolerance=2.9), [[5, 0, 0, 0]])
    np.testing.assert_array_equal(h.mask(image, direct, tof_tolerance=0.0), [[5, 0, 0, 0]])


def test_mask_changes_nothing_in_place():
    image, direct = jnp.ones((2, 2)), jnp.zeros((2, 2))
    before = np.asarray(image).copy()
    h.mask(image, direct)
    np.testing.assert_array_equal(image, before)
