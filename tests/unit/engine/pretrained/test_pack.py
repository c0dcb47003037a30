"""What cannot be packed."""

import jax
import numpy as np
import pytest
from tiny import settings_from

from tofae_jax.engine.build import build_run
from tofae_jax.engine.load import LoadedRun
from tofae_jax.engine.pretrained.pack import check_name, pack_run
from tofae_jax.runs.folder import RunPaths
from tofae_jax.runs.record import RunRecord

SIZES = {"width": 8, "hidden": 8, "layers": 1, "queries": 2, "value_width": 2, "event_width": 8}


TREE = {
    "detector": {"n_x": 12, "n_y": 16, "n_t": 40},
    "data": {"source": "simulate", "simulate": {"events": 20}, "max_hits": 24},
    "degradation": {"n_signal": 8, "n_noise": 10},
    "model": {"name": "hit_transformer", "hit_transformer": SIZES},
    "loss": {"name": "hit_bce"},
}


def loaded(tmp_path, **sections):
    """A run as `load_run` gives it, with zeros as weights."""
    setup = build_run(settings_from(TREE, **sections))
    shapes = jax.eval_shape(setup.model.init, jax.random.key(0))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return LoadedRun(RunPaths(tmp_path / "run"), RunRecord(run_id="run"), setup, variables, 1)


@pytest.mark.parametrize("name", ["lhcb_torch", "m", "A-1_b"])
def test_check_name_word_is_allowed(name):
    assert check_name(name) is None


@pytest.mark.parametrize("name", ["", "1m", "-m", "_m", "a b", "a/b", "../m", "a.b", "ä", "m\n"])
def test_check_name_other_characters_raise(name):
    with pytest.raises(ValueError, match="letters, digits, '_' and '-' allowed, and a letter at the beginning"):
        check_name(name)


def test_pack_run_name_of_a_path_raises(tmp_path):
    with pytest.raises(ValueError, match=r"name '\.\./m'"):
        pack_run(loaded(tmp_path), "../m", parent=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_pack_run_batch_statistics_raise(tmp_path):
    tree = {"model": {"name": "autoencoder", "autoencoder": {"latent": 4, "fc": 16}}, "loss": {"name": "mse"}}
    with pytest.raises(ValueError, match="run: has batch statistics, which are not stored here"):
        pack_run(loaded(tmp_path, **tree), "m", parent=tmp_path)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"model": {"hit_transformer": SIZES | {"width": 16}}}, "run: its weights do not fit the settings: "),
        ({"model": {"hit_transformer": SIZES | {"layers": 2}}}, "do not fit the settings: it lacks"),
        ({"loss": {"name": "bce"}, "normalisation": {"name": "none"}}, "loss.name"),
        ({"data": {"validation_share": 0}}, "leave none for validation; raise data.validation_share"),
        ({"data": {"test_share": 0}}, "leave none for test; raise data.test_share"),
    ],
)
def test_pack_run_settings_that_do_not_fit_raise(tmp_path, sections, said):
    with pytest.raises(ValueError, match=said):
        pack_run(loaded(tmp_path), "m", config=settings_from(TREE, **sections), parent=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
