import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from strategies import hit_lists

from tofae_jax.core import hits as h

N_X, N_Y, N_T = 7, 5, 9


def slow_embed(hits):
    image = np.zeros((N_Y, N_X), np.float32)
    for x, y, t in hits:
        image[y, x] = max(image[y, x], t)
    return image


@given(hit_lists())
def test_embed_agrees_with_a_loop_over_hits(hits):
    np.testing.assert_array_equal(h.embed(jnp.asarray(hits), n_x=N_X, n_y=N_Y), slow_embed(hits))


@given(hit_lists())
def test_round_trip_is_exact_up_to_occlusion(hits):
    image = h.embed(jnp.asarray(hits), n_x=N_X, n_y=N_Y)
    back, n_lit = h.reconstruct_3d(image, max_hits=N_X * N_Y)
    visible = hits[np.asarray(h.is_visible(jnp.asarray(hits), image))]
    expected = np.unique(visible, axis=0)
    found = np.asarray(back)[: int(n_lit)]
    np.testing.assert_array_equal(np.unique(found, axis=0), expected)
    assert int(n_lit) == len(expected)
    np.testing.assert_array_equal(h.reconstruct_3d_numpy(np.asarray(image)), found)
    assert not np.any(np.asarray(back)[int(n_lit) :])


@given(hit_lists())
def test_every_hit_is_visible_or_counted_as_occluded(hits):
    image = h.embed(jnp.asarray(hits), n_x=N_X, n_y=N_Y)
    n_hits = int(np.sum(hits[:, 2] > 0))
    assert int(h.count_hits(jnp.asarray(hits))) == n_hits
    assert int(h.count_occluded(jnp.asarray(hits), image)) == n_hits - int(np.sum(slow_embed(hits) > 0))


def test_the_latest_hit_wins_a_pixel_and_equal_hits_cannot_be_told_apart():
    hits = jnp.array([[1, 2, 3], [1, 2, 7], [1, 2, 7], [0, 0, 0]])
    image = h.embed(hits, n_x=N_X, n_y=N_Y)
    assert image[2, 1] == 7
    np.testing.assert_array_equal(h.is_visible(hits, image), [False, True, True, False])
    assert int(h.count_occluded(hits, image)) == 2


def test_batches_equal_their_events(strict):
    batch = jax.random.randint(jax.random.key(0), (4, 2, 12, 3), 0, 5, dtype=jnp.int32)
    together = h.embed(batch, n_x=N_X, n_y=N_Y)
    one = h.embed(batch[2, 1], n_x=N_X, n_y=N_Y)
    np.testing.assert_array_equal(together[2, 1], one)
    vmapped = jax.vmap(jax.vmap(lambda e: h.embed(e, n_x=N_X, n_y=N_Y)))(batch)
    np.testing.assert_array_equal(together, vmapped)
    np.testing.assert_array_equal(h.at_hits(together, batch)[2, 1], h.at_hits(one, batch[2, 1]))


def test_reconstruct_keeps_the_first_hits_and_counts_all_of_them():
    image = jnp.ones((N_Y, N_X))
    back, n_lit = h.reconstruct_3d(image, max_hits=4)
    assert int(n_lit) == N_X * N_Y
    np.testing.assert_array_equal(back, [[0, 0, 1], [1, 0, 1], [2, 0, 1], [3, 0, 1]])


def test_reconstruct_rounds_times_but_keeps_every_lit_pixel():
    image = jnp.zeros((N_Y, N_X)).at[0, 0].set(0.2).at[1, 1].set(2.5).at[2, 2].set(3.5)
    back, n_lit = h.reconstruct_3d(image, max_hits=3)
    assert int(n_lit) == 3
    np.testing.assert_array_equal(back[:, 2], [1, 2, 4])


@pytest.mark.parametrize("image", [np.zeros((N_Y, N_X)), np.zeros((1, 1))])
def test_an_empty_image_has_no_hits(image):
    assert h.reconstruct_3d_numpy(image).shape == (0, 3)
    back, n_lit = h.reconstruct_3d(jnp.asarray(image, jnp.float32), max_hits=2)
    assert int(n_lit) == 0
    assert not np.any(back)


@pytest.mark.backlog("B47")
def test_reference_points_and_masking(reference):
    stages = reference("stages")
    image = stages["image"][:, 0]
    event, y, x, t = stages["points"].T.astype(int)
    for i in range(len(image)):
        theirs = np.stack([x, y, t], axis=-1)[event == i]
        np.testing.assert_array_equal(h.reconstruct_3d_numpy(image[i]), theirs)
    direct = stages[str(stages["mask_from"])][:, 0]
    np.testing.assert_array_equal(h.mask(jnp.asarray(image), jnp.asarray(direct)), stages["masked"][:, 0])


def test_mask_with_tolerance_keeps_hits_whose_time_agrees():
    image = jnp.array([[5.0, 9.0, 4.0, 0.0]])
    direct = jnp.array([[5.0, 6.0, 0.0, 7.0]])
    np.testing.assert_array_equal(h.mask(image, direct), [[5, 9, 0, 0]])
    np.testing.assert_array_equal(h.mask(image, direct, tof_tolerance=3.0), [[5, 9, 0, 0]])
    np.testing.assert_array_equal(h.mask(image, direct, tof_tolerance=2.9), [[5, 0, 0, 0]])
    np.testing.assert_array_equal(h.mask(image, direct, tof_tolerance=0.0), [[5, 0, 0, 0]])


def test_nothing_is_changed_in_place():
    image, direct = jnp.ones((2, 2)), jnp.zeros((2, 2))
    before = np.asarray(image).copy()
    h.mask(image, direct)
    np.testing.assert_array_equal(image, before)
