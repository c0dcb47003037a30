"""Files that are checkpoints of the predecessor, and what is read from them."""

import numpy as np
import pytest
from places import REFERENCE
from predecessor_files import Tensor, small_tree, small_weights, without, write_pth

from tofae_jax.data.events import DataError
from tofae_jax.data.files.predecessor_checkpoint import read_predecessor_checkpoint


def test_read_predecessor_checkpoint_all_fields(tmp_path):
    checkpoint = read_predecessor_checkpoint(write_pth(tmp_path / "c.pth", small_tree(reconstruction_threshold=0.25)))
    assert checkpoint is not None
    weights = small_weights()
    assert checkpoint.weights.keys() == weights.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(checkpoint.weights[name], array)
    assert (checkpoint.latent, checkpoint.fc, checkpoint.policy, checkpoint.threshold) == (2, 4, "float32", 0.25)
    assert checkpoint.left_out == ("optimizer_state_dict", "autoencoder_py_file_script")


def test_read_predecessor_checkpoint_without_optional_fields(tmp_path):
    tree = without(without(small_tree(), "optimizer_state_dict"), "autoencoder_py_file_script")
    checkpoint = read_predecessor_checkpoint(write_pth(tmp_path / "c.pth", tree))
    assert checkpoint is not None
    assert (checkpoint.threshold, checkpoint.left_out) == (0.5, ())


@pytest.mark.parametrize(
    ("name", "fields", "epoch"),
    [
        ("x.pth", {}, 0),
        ("model epoch 12 final.pth", {}, 12),
        ("Combined_checkpoint_epoch_1.pth", {}, 1),
        ("c_epoch_1.pth", {"epoch": 40}, 40),
    ],
)
def test_read_predecessor_checkpoint_epoch_of_field_or_name(tmp_path, name, fields, epoch):
    checkpoint = read_predecessor_checkpoint(write_pth(tmp_path / name, small_tree(**fields)))
    assert checkpoint is not None
    assert checkpoint.epoch == epoch


def test_read_predecessor_checkpoint_content_decides(tmp_path):
    for name in ("c.pth", "c.pt", "c"):
        assert read_predecessor_checkpoint(write_pth(tmp_path / name, small_tree())) is not None
    assert read_predecessor_checkpoint(REFERENCE / "small_bundle.pt") is None
    assert read_predecessor_checkpoint(tmp_path / "missing.csv") is None
    assert read_predecessor_checkpoint(tmp_path) is None
    # the words alone, deeper in the tree, do not make one; nor does one of both
    deeper = write_pth(tmp_path / "deeper.pt", {"inside": small_tree()})
    assert read_predecessor_checkpoint(deeper) is None
    half = small_tree() | {"encoder_state_dict": {"decoder_state_dict": Tensor(np.ones(1, "f4"))}}
    half["other"] = half.pop("decoder_state_dict")
    assert read_predecessor_checkpoint(write_pth(tmp_path / "half.pt", half)) is None


@pytest.mark.backlog("B21")
def test_read_predecessor_checkpoint_missing_fields_are_named(tmp_path):
    tree = without(without(small_tree(), "precision"), "latent_dim")
    with pytest.raises(
        DataError, match=r"x\.pth: is no checkpoint of the predecessor: it lacks latent_dim, precision; it has encoder"
    ):
        read_predecessor_checkpoint(write_pth(tmp_path / "x.pth", tree))
