"""Training, evaluating and denoising by the pure functions alone: the same numbers as by command."""

import json
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from own_parts import Hits, Images, own_hinge, own_mse
from small_run import TREE, config, folder, inside  # noqa: F401 (fixtures)

import tofae_jax as tj
from tofae_jax.cli import app
from tofae_jax.engine.checksums import checksums
from tofae_jax.engine.training.train import train

BATCH, EPOCHS = 16, 2
SETTINGS = tj.StepSettings(
    tj.DegradationSettings(n_signal=(8, 8), n_noise=(10, 20)), score_threshold=0.5, learning_rate=3e-3
)


@pytest.fixture(scope="module")
def by_command(folder):
    """A run of the command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        paths, record = train(config(runs={"name": "by_command"}, train={"epochs": EPOCHS}))
    return tj.load_run(paths.folder, best=False), record


@pytest.fixture(scope="module")
def by_functions(folder):
    """The same training, composed of functions: `(state, model, options, step, splits)`."""
    dataset = tj.Dataset(folder / "d")
    splits = tj.split_events(len(dataset), train=0.7, validation=0.15, test=0.15, seed=0)
    model = tj.build_model("autoencoder", shape_xyt=dataset.detector.shape, latent=4, fc=16)
    options = tj.step_options(model, "acb_mse", max_signal=8, max_noise=20)
    optimiser = tj.build_optimiser(weight_decay=1e-4)
    state = tj.create_train_state(jax.random.key(0), model, optimiser)
    step = jax.jit(partial(tj.train_step, model=model, optimiser=optimiser, options=options), donate_argnums=0)
    source = tj.TrainSource(dataset, splits.train, batch=BATCH, max_hits=24)
    for _, batch in zip(range(EPOCHS * source.steps_per_epoch), tj.batches(source), strict=False):
        state, _ = step(state, batch, SETTINGS)
    return state, model, options, step, splits


@pytest.mark.slow
def test_training_by_functions_is_that_of_the_command_bit_for_bit(by_command, by_functions):
    run, _ = by_command
    state, *_, step, _ = by_functions
    assert checksums({"v": state.variables}) == checksums({"v": run.variables})
    assert step._cache_size() == 1


@pytest.mark.slow
def test_evaluate_gives_the_numbers_of_the_command(by_command, by_functions, folder):
    run, _ = by_command
    _, model, options, _, splits = by_functions
    answer = tj.evaluate_run(run.paths.folder, split="test", seed=7)
    settings = SETTINGS._replace(tolerance_bins=run.setup.step_settings().tolerance_bins)
    for batch, precision in ((BATCH, 0), (5, 1e-5)):  # sums of floats in another order
        which = {"events": splits.test, "seed": 7, "batch": batch}
        result = tj.evaluate(run.variables, model, folder / "d", options=options, settings=settings, **which)
        for name in result:
            assert jax.tree.structure(result[name]) == jax.tree.structure(answer[name])
            for x, y in zip(jax.tree.leaves(result[name]), jax.tree.leaves(answer[name]), strict=True):
                assert x == pytest.approx(y, rel=precision, abs=precision)


@pytest.mark.slow
def test_denoise_gives_the_file_of_the_command(by_command, by_functions, folder, tmp_path):
    run, _ = by_command
    _, model, options, _, _ = by_functions
    files = [tmp_path / name for name in ("command.csv", "functions.csv")]
    tj.denoise_run(run.paths.folder, folder / "d", files[0])
    detector = tj.Detector(**TREE["detector"])
    counts = tj.denoise(
        run.variables, model, folder / "d", files[1], options=options, detector=detector, settings=SETTINGS
    )
    assert files[0].read_bytes() == files[1].read_bytes()
    assert counts.hits_written == counts.hits_kept == len(files[1].read_text().splitlines()) - 1


@pytest.mark.slow
def test_denoise_pattern_holds_the_direct_output(by_command, folder, tmp_path):
    run, _ = by_command
    report = tj.denoise_run(run.paths.folder, folder / "d", tmp_path / "p.npz", write="pattern")
    (events,) = tj.read_events(tmp_path / "p.npz", detector=tj.Detector(**TREE["detector"]))
    assert report.counts.events == events.n_events == 160
    assert report.counts.hits_kept is None
    (whole,) = tj.Dataset(folder / "d").events()
    hits = (
        jnp.zeros((1, 64, 3), jnp.int32).at[0, : whole.counts[3]].set(whole.hits[whole.offsets[3] : whole.offsets[4]])
    )
    setup = run.setup
    output = tj.denoise_step(run.variables, hits, setup.step_settings(), model=setup.model, options=setup.options)
    expected = tj.reconstruct_3d_numpy(np.asarray(output.direct[0]))
    np.testing.assert_array_equal(events.hits[events.offsets[3] : events.offsets[4]], expected)


@pytest.fixture
def toy_events():
    return tj.pattern_stream("v", detector=tj.Detector(n_x=12, n_y=16, n_t=40), n_events=40, seed=3)


@pytest.mark.parametrize("kind", ["images", "hits"])
def test_own_model_and_loss_pass_through_everything(kind, tmp_path, toy_events):
    detector, key = toy_events.detector, jax.random.key(1)
    module, loss = (Images(), own_mse) if kind == "images" else (Hits(), own_hinge)
    whole = {} if kind == "images" else {"inputs": "hits", "outputs": "hits"}
    model = tj.model_from_module(module, shape_xyt=detector.shape, **whole)
    options = tj.step_options(model, loss, max_signal=8, max_noise=10)
    settings = tj.StepSettings(tj.DegradationSettings(n_signal=(8, 8), n_noise=(5, 10)))
    optimiser = optax.adam(1e-2)
    state = tj.create_train_state(key, model, optimiser)
    step = jax.jit(partial(tj.train_step, model=model, optimiser=optimiser, options=options))
    for _, batch in zip(range(3), tj.batches(tj.TrainSource(toy_events, batch=8)), strict=False):
        state, metrics = step(state, batch, settings)
    assert np.isfinite(metrics.loss)
    with tj.Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state, {"note": "three steps"})
    with tj.Checkpoints(tmp_path / "c", read_only=True) as checkpoints:
        restored, meta = checkpoints.restore(tj.create_train_state(jax.random.key(9), model, optimiser))
    assert (meta.step, meta.notes) == (3, {"note": "three steps"})
    assert checksums({"s": restored}) == checksums({"s": state})
    evaluated = tj.evaluate(restored, model, toy_events, options=options, settings=settings)
    compiled = jax.jit(partial(tj.eval_step, model=model, options=options))
    sums = None
    for batch in tj.EvaluationSource(toy_events, batch=16):
        sums = tj.metrics.update(sums, compiled(state, batch, evaluation_key(0), settings))
    assert tj.metrics.compute(sums, threshold=0.5)["masked"]["f1"] == pytest.approx(evaluated["masked"]["f1"])
    (tmp_path / "in.csv").write_text("event,x,y,t\n0,1,2,3\n0,4,5,6\n1,7,8,9\n")
    counts = tj.denoise(
        state, model, tmp_path / "in.csv", tmp_path / "out.csv", options=options, detector=detector, write="all"
    )
    assert (counts.events, counts.hits_written) == (2, 3)
    if kind == "hits":
        wanted = {"options": options, "detector": detector, "write": "pattern"}
        with pytest.raises(ValueError, match="model Hits scores hits and gives no pattern"):
            tj.denoise(state, model, tmp_path / "in.csv", tmp_path / "p.csv", **wanted)
        assert not (tmp_path / "p.csv").exists()


def evaluation_key(seed):
    from tofae_jax.engine.evaluator import evaluation_key

    return evaluation_key(seed)


def test_draws_of_a_step_differ_where_no_step_is_given(toy_events):
    model = tj.model_from_module(Images(), shape_xyt=toy_events.detector.shape)
    options = tj.step_options(model, own_mse, max_signal=8, max_noise=10)
    optimiser = optax.sgd(0.0)
    step = jax.jit(partial(tj.train_step, model=model, optimiser=optimiser, options=options))
    state = tj.create_train_state(jax.random.key(0), model, optimiser)
    batch = tj.Batch.from_hits(list(next(toy_events.events(0, 8)).hits.reshape(1, -1, 3)[:, :8]))
    losses = []
    for _ in range(3):
        state, metrics = step(state, batch, SETTINGS._replace(learning_rate=None))
        losses.append(float(metrics.loss))
    assert len(set(losses)) == 3
    assert step._cache_size() == 1


@pytest.mark.slow
@pytest.mark.parametrize("module", [Images, Hits])
def test_evaluate_events_without_hits_has_the_metrics_of_nothing(toy_events, module):
    whole = {"inputs": "hits", "outputs": "hits"} if module is Hits else {}
    model = tj.model_from_module(module(), shape_xyt=toy_events.detector.shape, **whole)
    options = tj.step_options(model, own_hinge if module is Hits else own_mse, max_signal=0, max_noise=0)
    settings = tj.StepSettings(tj.DegradationSettings(n_signal=(0, 0), n_noise=(0, 0)))
    state = tj.create_train_state(jax.random.key(0), model, optax.sgd(0.1))
    masked = tj.evaluate(state, model, toy_events, options=options, settings=settings)["masked"]
    assert (masked["efficiency"], masked["purity"], masked["noise_rejection"]) == (1, 1, 1)


@pytest.mark.slow
def test_evaluate_uses_the_weights_of_the_training_loss(toy_events):
    model = tj.model_from_module(Images(), shape_xyt=toy_events.detector.shape)
    options = tj.step_options(model, "acb_mse", max_signal=8, max_noise=20)
    state = tj.create_train_state(jax.random.key(0), model, optax.sgd(0.1))
    plain = tj.StepSettings(SETTINGS.degradation)
    weighted = plain._replace(loss_weights={"hit_weight": 50.0})
    of_none = weighted._replace(evaluation_loss_weights={})
    losses = [
        tj.evaluate(state, model, toy_events, options=options, settings=s)["loss"] for s in (plain, weighted, of_none)
    ]
    assert losses[1] > 5 * losses[0]
    assert losses[2] == losses[0]


def test_evaluate_more_hits_than_slots_are_refused(toy_events):
    model = tj.model_from_module(Images(), shape_xyt=toy_events.detector.shape)
    options = tj.step_options(model, own_mse, max_signal=8, max_noise=20)
    state = tj.create_train_state(jax.random.key(0), model, optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"n_signal is up to 30, but options.max_signal is 8"):
        tj.evaluate(state, model, toy_events, options=options)


@pytest.mark.slow
def test_denoise_pattern_of_outputs_above_one_stays_in_the_window(tmp_path):
    class Bright(nn.Module):
        """An image of 1000 in every pixel."""

        @nn.compact
        def __call__(self, image):
            return image + 1000 * self.param("one", nn.initializers.ones, ())

    detector = tj.Detector(n_x=3, n_y=2, n_t=40)
    model = tj.model_from_module(Bright(), shape_xyt=detector.shape)
    options = tj.step_options(model, own_mse, max_signal=1, max_noise=1)
    (tmp_path / "in.csv").write_text("event,x,y,t\n0,1,1,3\n")
    names = (tmp_path / "in.csv", tmp_path / "out.csv")
    state = model.init(jax.random.key(0))
    counts = tj.denoise(state, model, *names, options=options, detector=detector, write="pattern")
    (events,) = tj.read_events(names[1], detector=detector)
    assert counts.hits_written == events.n_hits == 6
    assert set(events.hits[:, 2]) == {40}


@pytest.mark.slow
def test_ensemble_under_vmap_is_its_members(toy_events):
    model = tj.model_from_module(Images(), shape_xyt=toy_events.detector.shape)
    options = tj.step_options(model, own_mse, max_signal=8, max_noise=10)
    optimiser = optax.adam(1e-2)
    step = partial(tj.train_step, model=model, optimiser=optimiser, options=options)
    settings = SETTINGS._replace(learning_rate=None)
    batches = [tj.TrainSource(toy_events, batch=8)[i] for i in range(3)]
    many = jax.jit(jax.vmap(step, in_axes=(0, None, None)))
    states = jax.vmap(lambda seed: tj.create_train_state(jax.random.key(seed), model, optimiser))(jnp.arange(3))
    one = tj.create_train_state(jax.random.key(1), model, optimiser)
    for batch in batches:
        states, metrics = many(states, batch, settings)
        one, alone = jax.jit(step)(one, batch, settings)
    assert metrics.loss.shape == (3,)
    assert metrics.loss[1] == pytest.approx(float(alone.loss), rel=1e-4)
    for a, b in zip(jax.tree.leaves(states.params), jax.tree.leaves(one.params), strict=True):
        np.testing.assert_allclose(a[1], b, atol=1e-4)


@pytest.mark.slow
def test_denoise_command_writes_the_pattern(by_command, capsys, tmp_path):
    run, _ = by_command
    out = tmp_path / "pattern.csv"
    assert app.main(["denoise", str(run.paths.folder), "d", str(out), "--output", "pattern"]) == 0
    report = json.loads(capsys.readouterr().out)
    names, *rows = out.read_text().splitlines()
    assert names.startswith("event,x,y,t")
    assert report["hits_written"] == len(rows)
    assert report["hits_kept"] is report["score_threshold"] is None
    for words, expected in (
        (["--all-hits", "--output", "pattern", "--overwrite"], "all_hits chooses hits of the input"),
        (
            ["--score-threshold", "0.9", "--output", "pattern", "--overwrite"],
            "score_threshold chooses hits of the input",
        ),
        (["--output", "image"], "image"),
        (["--output", "pattern"], "exists already"),
    ):
        assert app.main(["denoise", str(run.paths.folder), "d", str(out), *words]) == 2
        error = capsys.readouterr().err
        assert expected in error
        assert len(error.strip().splitlines()) == 1
