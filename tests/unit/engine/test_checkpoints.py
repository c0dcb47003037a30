import dataclasses
import signal
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import struct
from full_disk import largest_file
from own_parts import SHAPE, Images

from tofae_jax.config import Config, from_tree, to_tree
from tofae_jax.engine.build import build_run
from tofae_jax.engine.checkpoint_format import SCHEMA_VERSION, CheckpointError, CheckpointMeta, score_of
from tofae_jax.engine.checkpoints import Checkpoints, SaveError
from tofae_jax.engine.checksums import checksums
from tofae_jax.models import model_from_module
from tofae_jax.steps import TrainState, create_train_state

SMALL = from_tree(
    {"detector": {"n_x": 5, "n_y": 4, "n_t": 9}, "model": {"autoencoder": {"latent": 2, "fc": 4}}}, Config, "test"
)


@pytest.fixture(scope="module")
def state():
    return build_run(SMALL).fresh_state()


def meta(epoch, **changes):
    fields = {
        "run_id": "r",
        "epoch": epoch,
        "step": 10 * epoch,
        "batches_delivered": 10 * epoch,
        "data_fingerprint": "x",
        "package_versions": {},
        "model_name": "autoencoder",
        "precision": "float32",
        "config": to_tree(SMALL),
        "history": [{"epoch": i + 1} for i in range(epoch)],
    }
    return CheckpointMeta(**fields | changes)


def at(state, epoch):
    """A state that tells its epoch."""
    return state.replace(step=jnp.int32(epoch), params=jax.tree.map(lambda leaf: leaf + epoch, state.params))


def save(folder, state, scores, keep=2):
    with Checkpoints(folder, keep=keep) as checkpoints:
        for epoch, score in enumerate(scores, start=1):
            checkpoints.save(at(state, epoch), meta(epoch), score=score)


def restore(folder, state, **options):
    said = []
    with Checkpoints(folder, keep=2, read_only=True) as checkpoints:
        got, found = checkpoints.restore(lambda _: state, warn=said.append, **options)
    return got, found, said


def assert_same_state(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    assert checksums({"a": first}) == checksums({"a": second})


@pytest.mark.slow
@pytest.mark.backlog("B31", "B20")
def test_state_and_meta_come_back_exactly(tmp_path, state):
    save(tmp_path / "c", state, [0.5])
    got, found, said = restore(tmp_path / "c", state)
    assert_same_state(got, at(state, 1))
    assert not said
    assert found.model_name == "autoencoder"
    assert from_tree(found.config, Config, "meta") == SMALL
    assert found.score == 0.5 and found.structure
    assert msgspec.structs.replace(found, checksums={}, structure="", score=None) == meta(1)


@pytest.mark.slow
def test_newest_and_best_are_kept(tmp_path, state):
    save(tmp_path / "c", state, [0.1, 0.9, 0.2, float("nan"), 0.3])
    with Checkpoints(tmp_path / "c", keep=2, read_only=True) as checkpoints:
        assert checkpoints.numbers() == [20, 40, 50]
        assert checkpoints.best() == 20
    assert restore(tmp_path / "c", state)[1].epoch == 5
    assert restore(tmp_path / "c", state, best=True)[1].epoch == 2


@pytest.mark.slow
def test_scores_may_be_missing_and_several_best_kept(tmp_path, state):
    with Checkpoints(tmp_path / "c", keep=1, keep_best=2) as checkpoints:
        for epoch, score in enumerate([0.8, 0.9, 0.1, 0.2, None, None], start=1):
            checkpoints.save(at(state, epoch), meta(epoch), score=score)
    with Checkpoints(tmp_path / "c", read_only=True) as checkpoints:
        assert checkpoints.numbers() == [10, 20, 60]
        assert checkpoints.best() == 20


@pytest.mark.slow
def test_a_writer_deletes_what_is_damaged_and_saves_it_anew(tmp_path, state):
    save(tmp_path / "c", state, [0.5, 0.6])
    cut(tmp_path / "c" / "step_000000020")
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        _, found = checkpoints.restore(lambda _: state, warn=lambda _: None)
        assert (found.epoch, checkpoints.numbers()) == (1, [10])
        checkpoints.save(at(state, 2), meta(2), score=0.6)
    assert restore(tmp_path / "c", state)[1].epoch == 2


def flip_a_bit(folder):
    largest = max((p for p in folder.rglob("*") if p.is_file() and "d" in p.parts), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def cut(folder):
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip_a_bit, cut])
def test_a_damaged_checkpoint_is_passed_over_and_said(tmp_path, state, damage):
    save(tmp_path / "c", state, [0.5, 0.6, 0.7])
    damage(tmp_path / "c" / "step_000000030")
    got, found, said = restore(tmp_path / "c", state)
    assert found.epoch == 2
    assert_same_state(got, at(state, 2))
    assert len(said) == 1
    assert "checkpoint 30" in said[0]
    assert "using checkpoint 20 (epoch 2) instead" in said[0]


def test_if_all_are_damaged_that_is_the_error(tmp_path, state):
    save(tmp_path / "c", state, [0.5])
    cut(tmp_path / "c" / "step_000000010")
    with pytest.raises(CheckpointError, match="checkpoint 10"):
        restore(tmp_path / "c", state)


def test_no_checkpoint_is_named(tmp_path, state):
    with pytest.raises(CheckpointError, match="no checkpoints here"):
        restore(tmp_path / "none", state)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no finished checkpoint"):
        restore(tmp_path / "empty", state)


@pytest.mark.backlog("B21")
def test_missing_fields_and_newer_schemas_are_named(tmp_path, state):
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        checkpoints.save(state, meta(1, schema_version=SCHEMA_VERSION + 1), score=0)
    with pytest.raises(CheckpointError, match="newer than this package"):
        restore(tmp_path / "c", state)
    found = tmp_path / "c" / "step_000000010" / "meta" / "metadata"
    found.write_text('{"schema_version": 2, "run_id": "r"}')
    with pytest.raises(CheckpointError, match="missing required field"):
        restore(tmp_path / "c", state)
    found.write_text("{}")
    with pytest.raises(CheckpointError, match="lacks its schema_version"):
        restore(tmp_path / "c", state)


@pytest.mark.slow
def test_another_model_does_not_fit(tmp_path, state):
    save(tmp_path / "c", state, [0.5])
    larger = from_tree(to_tree(SMALL) | {"model": {"autoencoder": {"latent": 3, "fc": 4}}}, Config, "test")
    with pytest.raises(
        CheckpointError,
        match=r"checkpoint 10: \['model'\]\['params'\].* is float32\[2, 4\], the settings need float32\[3, 4\]",
    ):
        restore(tmp_path / "c", build_run(larger).fresh_state())


def test_a_checksum_knows_dtype_and_shape():
    zeros = np.zeros((2, 3), np.float32)
    sums = {tuple(checksums({"a": jnp.asarray(a)}).values()) for a in (zeros, zeros.astype(np.int32), zeros.T)}
    assert len(sums) == 3


@pytest.fixture(scope="module")
def adam():
    """Small states of one model and optimisers that have the same leaves in other trees."""
    model = model_from_module(Images(), shape_xyt=SHAPE)
    optimisers = (optax.adam(1e-2), optax.adamw(1e-2))
    return [create_train_state(jax.random.key(0), model, optimiser) for optimiser in optimisers]


def test_restore_another_optimiser_is_refused_and_nothing_deleted(tmp_path, adam):
    plain, decayed = adam
    with Checkpoints(tmp_path / "c", keep=5) as checkpoints:
        checkpoints.save(plain.replace(step=jnp.int32(1)))
        checkpoints.save(decayed.replace(step=jnp.int32(2)))
        checkpoints.wait()
        with pytest.raises(CheckpointError, match="checkpoint 2: its tree has another structure than the template"):
            checkpoints.restore(plain)
        assert checkpoints.numbers() == [1, 2]


def test_save_what_would_not_be_kept_is_refused(tmp_path, adam):
    state, _ = adam
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state.replace(step=jnp.int32(200)), {"note": [1, "a", None]})
        checkpoints.wait()
        with pytest.raises(SaveError, match="checkpoint 100 is not saved: there is a later 200"):
            checkpoints.save(state.replace(step=jnp.int32(100)))
        with pytest.raises(SaveError, match="there is a checkpoint 200 already"):
            checkpoints.save(state.replace(step=jnp.int32(200)))
        with pytest.raises(ValueError, match="notes must be JSON values"):
            checkpoints.save(state.replace(step=jnp.int32(300)), {"note": (1, 2)})
    with Checkpoints(tmp_path / "c", read_only=True) as checkpoints:
        assert checkpoints.restore(state)[1].notes == {"note": [1, "a", None]}
        with pytest.raises(SaveError, match="opened to read only"):
            checkpoints.save(state.replace(step=jnp.int32(300)))


def test_restore_into_float16_takes_the_scale_of_the_template(tmp_path, adam):
    model = model_from_module(Images(), shape_xyt=SHAPE, policy="mixed_float16")
    template = create_train_state(jax.random.key(1), model, optax.adam(1e-2))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(adam[0])
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        state, _ = checkpoints.restore(template)
    assert state.scale.value == template.scale.value == 2**15
    assert state.scale.in_use
    np.testing.assert_array_equal(jax.tree.leaves(state.params)[0], jax.tree.leaves(adam[0].params)[0])


class Named(TrainState):
    """A state with a static field and one that is an array."""

    label: str = struct.field(pytree_node=False, default="")
    ema: Any = None


def test_save_subclass_static_fields_are_the_templates(tmp_path, adam):
    fields = {field.name: getattr(adam[0], field.name) for field in dataclasses.fields(adam[0])}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(Named(**fields, label="saved", ema=jnp.full(3, 2.5)))
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        state, _ = checkpoints.restore(Named(**fields, label="own", ema=jnp.zeros(3)))
    assert state.label == "own"
    np.testing.assert_array_equal(state.ema, jnp.full(3, 2.5))


@pytest.mark.usefixtures("untyped")
def test_restore_what_is_no_state_is_refused(tmp_path, adam):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(adam[0])
        with pytest.raises(ValueError, match="template must be a TrainState"):
            checkpoints.restore({"params": adam[0].params})


@pytest.mark.parametrize("counts", [{"keep": -1}, {"keep": 0}, {"keep_best": -1}])
def test_checkpoints_counts_that_keep_nothing_are_refused(tmp_path, counts):
    with pytest.raises(ValueError, match="keep must be at least 1 and keep_best at least 0"):
        Checkpoints(tmp_path, **counts)


def test_save_interrupted_is_whole_and_then_interrupts(tmp_path, state, monkeypatch):
    """Within Orbax, an exception could begin anywhere, and leave threads that wait for each other."""
    real, passed = ocp.CheckpointManager.save, []

    def save(self, *words, **rest):
        signal.raise_signal(signal.SIGINT)
        passed.append("saving")
        return real(self, *words, **rest)

    monkeypatch.setattr(ocp.CheckpointManager, "save", save)
    with pytest.raises(KeyboardInterrupt), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, meta(1))
    assert passed == ["saving"]
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.numbers() == [10]
        checkpoints.restore(state)


@pytest.mark.parametrize("limit", [0, 300, 3000])
def test_save_on_a_full_disk_is_one_error_and_leaves_nothing(tmp_path, state, capfd, limit):
    with largest_file(limit), pytest.raises(SaveError) as caught, Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state, meta(1))
        checkpoints.wait()
    error = caught.value
    assert str(error) == f"{tmp_path / 'c'}: a checkpoint could not be written: File too large"
    assert (error.filename, error.strerror) == (
        str(tmp_path / "c"),
        "a checkpoint could not be written: File too large",
    )
    assert list((tmp_path / "c").iterdir()) == []
    assert capfd.readouterr().err == ""


def test_close_of_a_reader_removes_nothing(tmp_path, state):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, meta(1))
    under_way = tmp_path / "step_000000020.orbax-checkpoint-tmp"
    under_way.mkdir()
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        checkpoints.restore(state)
    assert under_way.is_dir()


@pytest.mark.slow
def test_restore_any_flipped_bit_is_named_or_without_effect(tmp_path, adam):
    """Whatever byte of a checkpoint changes: the state is the same bit for bit, or another checkpoint is said."""
    state, _ = adam
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(state.replace(step=jnp.int32(step)), {"step": step}, score=step / 10)
    expected = checksums({"a": state.replace(step=jnp.int32(2))})
    files = sorted(path for path in (tmp_path / "c").rglob("*") if path.is_file() and path.stat().st_size)
    rng, n_named = np.random.default_rng(0), 0
    for path in [*files, *rng.choice(np.array(files, object), 150)]:
        before = path.read_bytes()
        damaged = bytearray(before)
        damaged[rng.integers(len(before))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        said: list[str] = []
        with Checkpoints(tmp_path / "c", read_only=True) as checkpoints:
            found, _ = checkpoints.restore(state, best=bool(rng.integers(2)), warn=said.append)
        n_named += len(said)
        assert said or checksums({"a": found}) == expected
        assert all("\n" not in line and "checkpoint " in line for line in said)
        path.write_bytes(before)
    assert n_named > 10


def test_restore_best_names_those_whose_scores_are_damaged(tmp_path, adam):
    state, _ = adam
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(state.replace(step=jnp.int32(step)), score=step / 10)
    metadata = tmp_path / "step_000000002" / "meta" / "metadata"
    for content in (
        "",
        "{",
        "[" * 10**5,
        "null",
        '{"schema_version": true}',
        '{"schema_version": -5}',
        '{"a": "\\u0000"}',
    ):
        metadata.write_text(content)
        said: list[str] = []
        with Checkpoints(tmp_path, read_only=True) as checkpoints:
            found, _ = checkpoints.restore(state, best=True, warn=said.append)
        assert int(found.step) == 1
        assert len(said) == 1 and "checkpoint 2" in said[0] and "using checkpoint 1" in said[0] and "\n" not in said[0]


def test_restore_what_is_objected_to_is_passed_over_and_kept(tmp_path, adam):
    state, _ = adam
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for step, run in ((1, "a"), (2, "b")):
            checkpoints.save(state.replace(step=jnp.int32(step)), {"run": run})
        said: list[str] = []
        found, _ = checkpoints.restore(
            state, objection=lambda meta: None if meta.notes["run"] == "a" else "is of another", warn=said.append
        )
        assert int(found.step) == 1 and checkpoints.numbers() == [1, 2]
        assert said[0].endswith("checkpoint 2: is of another; using checkpoint 1 (epoch 0) instead")
        assert checkpoints.scores() == {}
        for step in range(3, 9):  # neither counts it among its own, nor deletes it
            checkpoints.save(state.replace(step=jnp.int32(step)), {"run": "a"}, score=step / 100)
        checkpoints.wait()
        assert checkpoints.numbers() == [2, 6, 7, 8] and checkpoints.best() == 8
        only_a = lambda meta: None if meta.notes["run"] == "a" else "no"  # noqa: E731
        best, _ = checkpoints.restore(state, best=True, objection=only_a)
        assert int(best.step) == 8
        with pytest.raises(CheckpointError, match=r"checkpoint 8: is of another.*checkpoint 2: is of another"):
            checkpoints.restore(state, objection=lambda _: "is of another")


def test_score_of_earlier_versions_lies_beside_the_metadata(tmp_path):
    old = meta(1, schema_version=2)
    for content, score in (('{"score": 0.5}', 0.5), ("", None), ("{", None), ("[]", None), ('{"score": "x"}', None)):
        (tmp_path / "metrics").mkdir(exist_ok=True)
        (tmp_path / "metrics" / "metrics").write_text(content)
        assert score_of(old, tmp_path) == score
    assert score_of(old, tmp_path / "nowhere") is None
    assert score_of(meta(1, score=0.25), tmp_path) == 0.25
