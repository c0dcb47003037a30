"""Precision policies: dtypes everywhere, loss scaling, fallback, and the NaN that started it all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from places import ROOT
from small_training import DETECTOR, config

from tofae_jax.cli import app
from tofae_jax.config import PrecisionName
from tofae_jax.core import precision
from tofae_jax.core.detector import Detector
from tofae_jax.data.batches import TrainSource
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.engine import device_precision
from tofae_jax.engine.build import build_run
from tofae_jax.engine.checksums import checksums
from tofae_jax.engine.load import load_run
from tofae_jax.engine.training import loop, train
from tofae_jax.runs.history import read_history
from tofae_jax.runs.record import read_record
from tofae_jax.steps import loss_scaling

NARROW = [name for name, policy in precision.POLICIES.items() if not policy.needs_64_bit]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("precision")
    simulated_dataset(path / "d", detector=Detector(**DETECTOR), weights={"v": 2, "blank": 1}, n_events=400, seed=1)
    return path


def parts(folder, policy, **sections):
    settings = config(precision={"policy": policy, **sections.pop("precision", {})}, **sections)
    setup = build_run(settings)
    dataset = Dataset(folder / "d")
    source = TrainSource(dataset, np.arange(len(dataset)), batch=32, max_hits=24, seed=0)
    return setup, setup.fresh_state(), source, build_run(settings).step_settings()


def products(jaxpr):
    """Dtypes of the operands of all matrix products and convolutions, however deep."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            found.extend(operand.aval.dtype for operand in equation.invars)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                found += products(inner)
    return found


def dtypes_of(tree):
    return {leaf.dtype for leaf in jax.tree.leaves(tree)}


def test_settings_and_code_know_the_same_policies():
    assert set(PrecisionName.__args__) == set(precision.POLICIES)
    for (failing, _), policy in loss_scaling.FALLBACKS.items():
        assert precision.POLICIES[failing].scales_loss
        assert not precision.POLICIES[policy].scales_loss
    with pytest.raises(ValueError, match="'half' is not known; known: float32, bfloat16"):
        precision.policy_by_name("half")


@pytest.mark.slow
@pytest.mark.backlog("B10")
@pytest.mark.parametrize("name", NARROW)
def test_every_part_of_a_step_has_the_dtype_of_the_policy(folder, name):
    setup, state, source, settings = parts(folder, name)
    policy = precision.policy_by_name(name)
    assert dtypes_of(state.params) == {jnp.dtype(policy.param)}
    assert dtypes_of(state.batch_stats) == {jnp.dtype("float32")}
    assert {d for d in dtypes_of(state.opt_state) if jnp.issubdtype(d, jnp.floating)} == {jnp.dtype("float32")}
    image = jnp.zeros((2, *setup.config.detector.shape[1::-1]))
    forward = products(jax.make_jaxpr(setup.model.apply)(state.variables, image).jaxpr)
    assert len(forward) >= 6 + 3 + 3  # dense layers, convolutions down and up
    assert set(forward) == {jnp.dtype(policy.compute)}

    def loss(params):
        return jnp.sum(
            setup.model.apply_train({**state.variables, "params": params}, image)[0].image.astype(jnp.float32)
        )

    backward = products(jax.make_jaxpr(jax.grad(loss))(state.params).jaxpr)
    assert len(backward) > 2 * len(forward)
    assert set(backward) == {jnp.dtype(policy.compute)}
    output = setup.model.apply(state.variables, image).image
    assert output.dtype == jnp.dtype(policy.output)
    before = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), state.replace(key=None))
    step = loop.compiled_train_step(setup)
    for i in range(3):
        state, metrics = step(state, source[i], settings)
    after = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), state.replace(key=None))
    assert before == after
    assert step._cache_size() == 1
    assert {leaf.dtype.itemsize for leaf in metrics if jnp.issubdtype(leaf.dtype, jnp.floating)} == {4}
    assert all(np.isfinite(float(leaf)) for leaf in metrics)


@pytest.mark.slow
def test_all_policies_start_from_the_same_draws(folder):
    full = parts(folder, "float32")[1].params
    for name in ("mixed_float16", "float16", "bfloat16"):
        rounded = parts(folder, name)[1].params
        for a, b in zip(jax.tree.leaves(full), jax.tree.leaves(rounded), strict=True):
            np.testing.assert_array_equal(a.astype(b.dtype), b)


@pytest.mark.slow
def test_small_updates_of_rounded_parameters_add_up():
    params = {"w": jnp.ones((), jnp.bfloat16), "v": jnp.ones((), jnp.float16)}
    residual = loss_scaling.residual_of(params)
    plain = params["w"]
    for _ in range(1000):
        updates = {"w": jnp.float32(1e-3), "v": jnp.float32(-1e-4)}
        params, residual = loss_scaling.apply_compensated(params, updates, residual)
        plain = (plain + jnp.float32(1e-3)).astype(jnp.bfloat16)
    assert float(plain) == 1  # each update alone is lost
    assert float(params["w"]) == pytest.approx(2, rel=0.01)
    assert float(params["v"]) == pytest.approx(0.9, rel=0.001)
    whole = {"w": jnp.ones(())}
    assert loss_scaling.residual_of(whole) == {"w": None}
    added, rest = loss_scaling.apply_compensated(whole, {"w": jnp.float32(0.25)}, {"w": None})
    assert (float(added["w"]), rest) == (1.25, {"w": None})


def test_recast_keeps_what_the_residual_holds():
    params, residual = {"w": jnp.float16(1.0)}, {"w": jnp.float16(2**-12)}
    back, nothing = loss_scaling.recast(params, residual, precision.POLICIES["float32"])
    assert (float(back["w"]), nothing) == (1 + 2**-12, {"w": None})
    coarse, rest = loss_scaling.recast(params, residual, precision.POLICIES["bfloat16"])
    assert (float(coarse["w"]), float(rest["w"])) == (1, 2**-12)


def scales(finite, start=8.0, growth_steps=3):
    state, seen = loss_scaling.initial_scale(start), []
    for flag in finite:
        state = loss_scaling.next_scale(state, jnp.asarray(bool(flag)), growth_steps=growth_steps)
        seen.append(float(state.value))
    return seen, state


@pytest.mark.backlog("B11")
def test_the_loss_scale_backs_off_grows_and_stops_at_its_limits():
    assert scales([1, 1, 1, 1, 0, 1, 1, 1])[0] == [8, 8, 16, 16, 8, 8, 8, 16]
    down, state = scales([0] * 6)
    assert down == [4, 2, 1, 1, 1, 1]
    assert (int(state.skipped), int(state.stuck)) == (6, 3)  # the scale was the smallest before three of them
    assert int(scales([0, 0, 0, 0, 1])[1].stuck) == 0
    assert scales([1, 1], start=loss_scaling.LARGEST_SCALE, growth_steps=1)[0] == [loss_scaling.LARGEST_SCALE] * 2


@pytest.mark.slow
@pytest.mark.backlog("B11")
@pytest.mark.parametrize("name", ["float16", "mixed_float16"])
def test_an_overflowing_step_is_skipped_counted_and_changes_nothing(folder, name):
    weight = {"loss": {"acb_mse": {"zero_weight": 1e4}}, "precision": {"initial_loss_scale": 2.0**24}}
    setup, state, source, settings = parts(folder, name, **weight)
    step = loop.compiled_train_step(setup)
    before = checksums({"p": state.params, "s": state.batch_stats, "o": state.opt_state, "r": state.residual})
    state, metrics = step(state, source[0], settings)
    assert bool(metrics.skipped)
    assert np.isfinite(float(metrics.loss))
    assert float(metrics.update_norm) == 0
    after = checksums({"p": state.params, "s": state.batch_stats, "o": state.opt_state, "r": state.residual})
    assert before == after
    assert (int(state.step), int(state.scale.skipped), float(state.scale.value)) == (1, 1, 2.0**23)
    for i in range(1, 40):
        state, metrics = step(state, source[i], settings)
    assert not bool(metrics.skipped)  # it found a scale that works
    assert checksums({"p": state.params}) != {k: v for k, v in before.items() if k.startswith("['p']")}
    assert float(metrics.loss_scale) < 2.0**24


@pytest.mark.slow
def test_a_scaled_loss_gives_the_same_gradient(folder):
    norms = []
    for scale in (1.0, 2.0**12):
        setup, state, source, settings = parts(folder, "mixed_float16", precision={"initial_loss_scale": scale})
        _, metrics = loop.compiled_train_step(setup)(state, source[0], settings)
        norms.append(float(metrics.gradient_norm))
    assert norms[0] == pytest.approx(norms[1], rel=0.02)


@pytest.mark.slow
@pytest.mark.backlog("B11")
@pytest.mark.parametrize(("wanted", "gets"), [("bfloat16", "mixed_bfloat16"), ("float32", "float32")])
def test_float16_that_fails_for_good_falls_back_and_says_so(folder, monkeypatch, capsys, messages, wanted, gets):
    monkeypatch.chdir(folder)
    # gradients of such a loss overflow float16 at any scale, but not bfloat16
    settings = config(
        precision={"policy": "mixed_float16", "fallback": wanted, "fallback_after": 3, "initial_loss_scale": 4},
        loss={"acb_mse": {"zero_weight": 1e11}},
        train={"plots": "none", "epochs": 2},
    )
    paths, record = train.train(settings)
    assert record.status == "finished"
    assert f"goes on in {gets}" in capsys.readouterr().err
    assert f"goes on in {gets}" in record.results["fallback"]
    assert record.results["fallback"] in paths.summary.read_text()
    assert record.results["precision"] == gets
    assert record.results["steps_skipped"] == 6  # two to reach factor 1, three there, and on to the next look
    history = read_history(paths.metrics)
    assert [epoch["train"]["precision"] for epoch in history] == [gets, gets]
    assert all(np.isfinite(epoch["train"]["loss"]) for epoch in history)
    assert [epoch["train"]["steps_skipped"] for epoch in history] == [6, 0]
    run = load_run(paths.folder)
    assert run.setup.policy.name == gets
    assert dtypes_of(run.variables["params"]) == {jnp.dtype("float32")}


@pytest.mark.slow
@pytest.mark.backlog("B10", "B11")
def test_shuffled_empty_events_in_float16_train_with_finite_falling_losses(folder, monkeypatch):
    """What the predecessor could not do: shuffling brought events without hits, and `acb_mse` gave NaN from then on."""
    monkeypatch.chdir(folder)
    dataset = Dataset(folder / "d")
    assert (np.diff(np.concatenate([events.offsets for events in dataset.events(0, 400)])) == 0).any()
    settings = config(
        precision={"policy": "float16"}, degradation={"n_signal": [0, 8]}, train={"plots": "none", "epochs": 3}
    )
    paths, record = train.train(settings)
    history = read_history(paths.metrics)
    losses = [epoch["train"]["loss"] for epoch in history]
    assert all(type(loss) is float and np.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0]
    assert record.results["precision"] == "float16"
    assert record.results["fallback"] == ""
    assert dtypes_of(load_run(paths.folder).variables["params"]) == {jnp.dtype("float16")}


def test_a_policy_that_the_device_cannot_run_is_refused_before_anything_is_made(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    with pytest.raises(ValueError, match=r"float64 does not run .*\(tpu\).* float32, bfloat16, float16, mixed_bf"):
        device_precision.prepare("float64")
    assert not jax.config.jax_enable_x64
    real = device_precision._runs
    monkeypatch.setattr(device_precision, "_runs", lambda policy: "float16" not in policy and real(policy))
    words = [f"--detector.{k.replace('_', '-')}={v}" for k, v in DETECTOR.items()]
    assert app.main(["train", "--data.path", "d", "--precision.policy", "mixed_float16", *words]) == 2
    said = capsys.readouterr().err
    assert "mixed_float16 does not run on this device" in said
    assert "it can run: float32, bfloat16, mixed_bfloat16" in said
    assert sorted(folder.rglob("*")) == before


def test_a_device_that_raises_or_miscalculates_cannot_run_a_policy(monkeypatch):
    def broken(a, b):
        raise RuntimeError("no such numbers here")

    monkeypatch.setattr(jnp, "matmul", broken)
    assert not device_precision._runs(precision.POLICIES["bfloat16"])
    monkeypatch.setattr(jnp, "matmul", lambda a, b: a + b)
    assert not device_precision._runs(precision.POLICIES["bfloat16"])


@pytest.mark.slow
def test_an_unknown_policy_is_named_by_the_command_line(capsys):
    assert app.main(["train", "--precision.policy", "half"]) == 2
    assert "mixed_bfloat16" in capsys.readouterr().err


@pytest.mark.slow
def test_weights_may_be_used_in_another_precision(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    paths, _ = train.train(config(precision={"policy": "mixed_bfloat16"}, train={"plots": "none", "epochs": 1}))
    capsys.readouterr()
    results = {}
    for name in (None, "float32", "float16", "bfloat16"):
        assert app.main(["evaluate", str(paths.folder), *(["--precision", name] if name else [])]) == 0
        results[name] = json.loads(capsys.readouterr().out)
    assert [r["precision"] for r in results.values()] == ["mixed_bfloat16", "float32", "float16", "bfloat16"]
    assert results[None]["loss"] != results["float32"]["loss"]
    for result in results.values():
        assert result["loss"] == pytest.approx(results["float32"]["loss"], rel=0.05)
    assert dtypes_of(load_run(paths.folder, precision="float16").variables["params"]) == {jnp.dtype("float16")}
    scores = {}
    for name in ("float32", "bfloat16"):
        words = ["denoise", str(paths.folder), "d", f"{name}.npz", "--all-hits", "--precision", name]
        assert app.main(words) == 0
        assert json.loads(capsys.readouterr().out)["precision"] == name
        with np.load(f"{name}.npz") as file:
            scores[name] = file["score"]
    rounded = np.asarray(jnp.asarray(scores["bfloat16"]).astype(jnp.bfloat16).astype(jnp.float32))
    np.testing.assert_array_equal(scores["bfloat16"], rounded)
    assert not np.array_equal(scores["float32"], rounded)
    np.testing.assert_allclose(scores["float32"], rounded, atol=0.02)
    assert app.main(["evaluate", str(paths.folder), "--precision", "half"]) == 2


@pytest.mark.slow
def test_only_the_precision_in_use_must_run_on_the_device(folder, monkeypatch):
    monkeypatch.chdir(folder)
    paths, _ = train.train(config(precision={"policy": "bfloat16"}, train={"plots": "none", "epochs": 1}))
    real = device_precision._runs
    monkeypatch.setattr(device_precision, "_runs", lambda policy: "bfloat16" not in policy and real(policy))
    assert load_run(paths.folder, precision="float32").setup.policy.name == "float32"
    with pytest.raises(ValueError, match="precision bfloat16 does not run"):
        load_run(paths.folder)
    runs = sorted(folder.glob("runs/*"))
    with pytest.raises(ValueError, match="precision bfloat16 does not run"):  # what float16 would fall back to
        train.train(config(precision={"policy": "float16"}))
    assert sorted(folder.glob("runs/*")) == runs


@pytest.mark.slow
def test_float64_from_the_command_line(folder, tmp_path):
    """In processes of their own: 64-bit numbers are switched on for good."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def command(*words):
        done = subprocess.run(
            [sys.executable, "-W", "error::UserWarning", "-m", "tofae_jax", *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    words = [f"--detector.{k.replace('_', '-')}={v}" for k, v in DETECTOR.items()]
    words += ["--data.path=d", "--data.max-hits=24", "--model.hit-transformer.width=8"]
    words += ["--degradation.n-signal=8", "--degradation.n-noise=10", "--train.epochs=1", "--train.plots=none"]
    run = command("train", "--precision.policy=float64", "--train.batch=32", *words).splitlines()[-1]
    _, record = read_record(run)
    assert record.results["precision"] == "float64"
    summary = (Path(run) / "summary.txt").read_text()
    assert "float64" in summary
    assert "float32" not in summary[summary.index("parameters") :]
    result = json.loads(command("evaluate", run))
    assert result["loss"] == record.results["test"]["loss"]  # the same draws and the same numbers
    single = json.loads(command("evaluate", run, "--precision", "float32"))
    assert single["loss"] == pytest.approx(result["loss"], rel=1e-4)
    assert single["counts"] == result["counts"]
    command("denoise", run, "d", str(tmp_path / "kept.npz"), "--all-hits")
    with np.load(tmp_path / "kept.npz") as file:
        assert np.isfinite(file["score"]).all()
