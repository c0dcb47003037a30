"""The models of LHCb TORCH: given tracks, and blind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tofae_jax.core.detector import Detector
from tofae_jax.core.precision import policy_by_name
from tofae_jax.lhcb_torch.module import ModuleSettings
from tofae_jax.lhcb_torch.simulation import choose_slots, simulate_batch
from tofae_jax.lhcb_torch.simulation.tracks import track_speed
from tofae_jax.models import TRACK_COLUMNS, HitInput, build_model
from tofae_jax.models.lhcb_torch_blind import Guesses, centre_and_spread, log_likelihood, samples_of
from tofae_jax.models.lhcb_torch_tracks import collision_delays

MODULE = ModuleSettings()
DETECTOR = Detector()
N_SIGNAL, N_NOISE = 30, 200
SMALL = {"width": 16, "hidden": 16, "layers": 1, "queries": 4, "value_width": 4, "event_width": 16, "frequencies": 8}


def build(name, **sizes):
    return build_model(name, shape_xyt=DETECTOR.shape, bin_ns=DETECTOR.bin_ns, module=MODULE, **sizes)


@pytest.fixture(scope="module")
def simulated():
    """`(hits [n, 230, 3], what tracking knows [n, 6], what only the truth knows [n, 2])`, the signal first."""
    slots = choose_slots(MODULE, scale=5.0)
    events = simulate_batch(
        jax.random.key(5),
        MODULE,
        n_events=40,
        shape_xyt=DETECTOR.shape,
        bin_ns=DETECTOR.bin_ns,
        slots=slots,
        scale=5.0,
    )
    photons = np.asarray(events.photons.hits)
    enough = np.flatnonzero((photons[..., 2] > 0).sum(axis=1) >= 60)[:32]
    rng = np.random.default_rng(0)
    noise = rng.integers((0, 0, 1), (88, 128, 1001), (len(enough), N_NOISE, 3))
    signal = np.stack([rng.permutation(p[p[:, 2] > 0])[:N_SIGNAL] for p in photons[enough]])
    first = jax.tree.map(lambda column: column[enough, 0], events.tracks)
    start = np.asarray(events.window_start_ns)[enough]
    given = (first.x_mm, first.y_mm, first.slope_x, first.slope_y, first.momentum_gev, -start)
    true = (first.arrival_ns - start, np.asarray(track_speed(first)))
    hits = np.concatenate([signal, noise], axis=1).astype(np.int32)
    return jnp.asarray(hits), *(jnp.stack(columns, axis=-1).astype(jnp.float32) for columns in (given, true))


@pytest.fixture(scope="module")
def tracks_model():
    model = build("lhcb_torch_tracks")
    return model, model.init(jax.random.key(0)), jax.jit(model.apply)


@pytest.fixture(scope="module")
def blind_model():
    model = build("lhcb_torch", **SMALL, samples=64, improved=16, refined=4)
    return model, model.init(jax.random.key(0)), jax.jit(model.apply)


def f1_of(kept):
    true, false = kept[:, :N_SIGNAL].sum(), kept[:, N_SIGNAL:].sum()
    return 2 * true / (true + false + len(kept) * N_SIGNAL)


def test_given_tracks_hits_are_scored_without_training(simulated, tracks_model):
    hits, given, _ = simulated
    _, variables, apply = tracks_model
    known = apply(variables, HitInput(hits, given[:, None]))
    assert f1_of(np.asarray(known.hit_logits) > 0) > 0.88
    assert np.all(np.asarray(known.tracks) == 0)
    wrong = apply(variables, HitInput(hits, np.roll(given, 1, axis=0)[:, None]))  # the negative control
    assert f1_of(np.asarray(wrong.hit_logits) > 0) < 0.3


def test_scores_given_tracks_are_chances(simulated, tracks_model):
    hits, given, _ = simulated
    _, variables, apply = tracks_model
    chance = np.asarray(jax.nn.sigmoid(apply(variables, HitInput(hits, given[:, None])).hit_logits))
    is_signal = np.broadcast_to(np.arange(N_SIGNAL + N_NOISE) < N_SIGNAL, chance.shape)
    for low, high in ((0.0, 0.01), (0.01, 0.2), (0.2, 0.7), (0.7, 1.0)):
        chosen = (chance >= low) & (chance <= high)
        mean = chance[chosen].mean()
        sigma = np.sqrt(mean * (1 - mean) / chosen.sum())
        assert abs(is_signal[chosen].mean() - mean) < 4 * sigma + 0.03 * (low > 0)


def test_each_hit_is_given_to_its_track(simulated, tracks_model):
    hits, given, _ = simulated
    _, variables, apply = tracks_model
    both = np.concatenate([hits[:16], hits[16:32, :N_SIGNAL]], axis=1)
    pairs = np.stack([given[:16], given[16:32]], axis=1)
    filled = np.concatenate([pairs, np.zeros_like(pairs)], axis=1)  # empty slots change nothing
    known = apply(variables, HitInput(both, filled))
    kept, owner = np.asarray(known.hit_logits) > 0, np.asarray(known.tracks)
    assert kept[:, :N_SIGNAL].mean() > 0.8 and kept[:, -N_SIGNAL:].mean() > 0.8
    assert np.mean(owner[:, :N_SIGNAL][kept[:, :N_SIGNAL]] == 0) > 0.9
    assert np.mean(owner[:, -N_SIGNAL:][kept[:, -N_SIGNAL:]] == 1) > 0.9
    swapped = apply(variables, HitInput(both, pairs[:, ::-1]))
    np.testing.assert_allclose(swapped.hit_logits, known.hit_logits, atol=2e-3)


def test_without_tracks_nothing_is_signal(simulated, tracks_model):
    hits, given, _ = simulated
    _, variables, apply = tracks_model
    logits = np.asarray(apply(variables, HitInput(hits[:4], np.zeros_like(given[:4, None]))).hit_logits)
    assert np.all(logits < -5)
    beside = given[:4].at[:, 0].set(400.0)  # of the next module: no light here
    known = apply(variables, HitInput(hits[:4], beside[:, None]))
    assert np.all(np.asarray(known.hit_logits) < -5) and np.all(np.asarray(known.tracks) == -1)
    empty = apply(variables, HitInput(np.zeros_like(hits[:4]), given[:4, None]))
    assert np.all(np.isfinite(empty.hit_logits))


def test_the_tracks_model_learns_where_noise_is(simulated, tracks_model):
    """Gradients of its corrections are finite, and not nothing."""
    hits, given, _ = simulated
    model, variables, _ = tracks_model
    is_signal = jnp.arange(N_SIGNAL + N_NOISE) < N_SIGNAL

    def loss(params):
        logits, _ = model.apply_train({"params": params, "batch_stats": {}}, HitInput(hits[:4], given[:4, None]))
        return jnp.mean(jax.nn.softplus(jnp.where(is_signal, -logits.hit_logits, logits.hit_logits)))

    gradients = jax.grad(loss)(variables["params"])
    for name in ("noise_out", "surer_out"):
        norm = np.linalg.norm(gradients[name]["kernel"])
        assert 1e-6 < norm < 1e3
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))


def test_collision_times_cover_the_spread():
    delays, log_chance = collision_delays(0.18, 0.08)
    assert np.diff(delays).max() <= 0.08
    chance = np.exp(log_chance)
    assert chance.sum() == pytest.approx(1)
    assert np.sqrt((chance * delays**2).sum()) == pytest.approx(0.18, rel=0.03)
    alone, certain = collision_delays(0.0, 0.08)
    assert alone.tolist() == [0] and certain.tolist() == [0]


def guesses_of(rng, laws=3):
    root = np.tril(rng.normal(size=(laws, 6, 6))) * 0.5
    root[:, np.arange(6), np.arange(6)] = rng.uniform(1, 3, (laws, 6))
    weight = rng.uniform(0.5, 1, laws)
    arrays = (np.log(weight / weight.sum()), rng.normal(size=(laws, 6)), root)
    return Guesses(*(jnp.asarray(a, jnp.float32) for a in arrays))


def test_the_mixture_is_a_density_with_these_samples():
    from scipy.stats import multivariate_normal

    guesses = guesses_of(np.random.default_rng(0))
    weight, mean, root = (np.asarray(part, float) for part in guesses)
    covariance = np.linalg.inv(root @ root.transpose(0, 2, 1))
    point = np.full(6, 0.3)
    laws = [multivariate_normal(m, c).pdf(point) for m, c in zip(mean, covariance, strict=True)]
    expected = np.log(np.exp(weight) @ laws)
    assert float(log_likelihood(guesses, jnp.asarray(point, jnp.float32))) == pytest.approx(expected, rel=1e-4)

    samples = np.asarray(samples_of(guesses, 20_000))
    centre = np.exp(weight) @ mean
    spread = np.einsum("c,cij->ij", np.exp(weight), covariance + np.einsum("ci,cj->cij", mean - centre, mean - centre))
    np.testing.assert_allclose(samples.mean(axis=0), centre, atol=0.05)
    np.testing.assert_allclose(np.cov(samples.T), spread, atol=0.06)
    np.testing.assert_array_equal(samples_of(guesses, 20_000), samples)


def test_the_search_scores_hits_from_guesses_near_the_truth(simulated):
    """The part of the blind model that has nothing to learn."""
    hits, given, true = simulated
    model = build("lhcb_torch", **SMALL, samples=64, improved=16, refined=4)
    centre, spread = centre_and_spread(MODULE)
    numbers = np.concatenate([given[:, :4], true[:, :1], np.sqrt(1 - true[:, 1:])], axis=-1)
    mean = jnp.asarray((numbers - centre) / spread)[:, None]
    root = jnp.broadcast_to(jnp.eye(6) / 0.1, (len(hits), 1, 6, 6))
    near = Guesses(jnp.zeros((len(hits), 1)), mean, root)

    @jax.jit
    def searched(guesses, hits, scores):
        return jax.lax.map(lambda event: model.module._searched(*event), (guesses, hits, scores))

    is_signal = jnp.arange(hits.shape[1]) < N_SIGNAL
    unknown, told = jnp.zeros(hits.shape[:2]), jnp.broadcast_to(jnp.where(is_signal, 1.0, -1.0), hits.shape[:2])
    assert f1_of(np.asarray(searched(near, hits, told)) > 0) > 0.9
    unknown = unknown.at[:, ::2].set(1)  # half of the signal is not looked at, but scored all the same
    assert f1_of(np.asarray(searched(near, hits, unknown)) > 0) > 0.85
    assert f1_of(np.asarray(searched(near, hits, -told)) > 0) < 0.7  # only noise is looked at
    far = near._replace(mean=near.mean.at[..., :2].add(1.0))  # the negative control: half the plate away
    assert f1_of(np.asarray(searched(far, hits, told)) > 0) < 0.7


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_order_and_empty_slots_change_nothing(blind_model, simulated, data):
    _, variables, apply = blind_model
    event = simulated[0][data.draw(st.integers(0, 20))]
    n_hits = data.draw(st.sampled_from([0, 1, 2, 30, 230]))
    places = data.draw(st.permutations(range(256)))[:n_hits]
    ordered, shuffled = np.zeros((2, 256, 3), np.int32)
    ordered[:n_hits] = shuffled[np.asarray(places, int)] = event[:n_hits]
    logits = np.asarray(apply(variables, HitInput(jnp.asarray([ordered, shuffled]))).hit_logits)
    assert np.all(np.isfinite(logits))
    # what is found may depend on rounding where two tracks explain an event equally well
    np.testing.assert_allclose(logits[0, :n_hits], logits[1, np.asarray(places, int)], atol=0.05)


def test_training_teaches_tracks_and_hits(simulated):
    hits, given, true = simulated
    model = build("lhcb_torch", **SMALL)
    variables = model.init(jax.random.key(0))
    truth = jnp.concatenate([given, true], axis=-1)[:, None]
    assert truth.shape[-1] == len(TRACK_COLUMNS) + 2
    x = HitInput(jnp.asarray(hits), truth=truth)

    @jax.jit
    def surprise(params):
        return jnp.mean(model.apply_train({"params": params, "batch_stats": {}}, x)[0].extra_loss)

    params, first = variables["params"], surprise(variables["params"])
    for _ in range(30):
        gradients = jax.grad(surprise)(params)
        params = jax.tree.map(lambda p, g: p - 0.05 * g, params, gradients)
    assert surprise(params) < first - 0.05
    filled = jnp.concatenate([truth, jnp.zeros_like(truth)], axis=1)  # empty slots are no tracks
    more = model.apply_train(variables, x._replace(truth=filled))[0].extra_loss
    np.testing.assert_allclose(more, model.apply_train(variables, x)[0].extra_loss, rtol=1e-5)
    nothing = model.apply_train(variables, x._replace(truth=jnp.zeros_like(truth)))[0].extra_loss
    assert np.all(np.asarray(nothing) == 0)


def test_without_a_search_the_network_scores_alone(simulated):
    model = build("lhcb_torch", **SMALL, samples=0)
    variables = model.init(jax.random.key(0))
    alone = model.apply(variables, HitInput(simulated[0][:2]))
    trained, _ = model.apply_train(variables, HitInput(simulated[0][:2]))
    np.testing.assert_allclose(alone.hit_logits, trained.hit_logits, atol=1e-5)


def test_models_of_the_module_need_its_settings():
    with pytest.raises(ValueError, match="bin_ns and the module's settings"):
        build_model("lhcb_torch", shape_xyt=DETECTOR.shape)


@pytest.mark.parametrize("policy", ["float32", "float64", "float16"])  # narrowest, widest, and amid 64-bit numbers
@pytest.mark.parametrize("name", ["lhcb_torch", "lhcb_torch_tracks"])
def test_every_precision(name, policy, simulated):
    sizes = {**SMALL, "samples": 8, "improved": 4, "refined": 2} if name == "lhcb_torch" else {}
    with jax.enable_x64(True):  # float32 must not mind it either
        model = build_model(
            name,
            shape_xyt=DETECTOR.shape,
            bin_ns=DETECTOR.bin_ns,
            module=MODULE,
            policy=policy_by_name(policy),
            **sizes,
        )
        x = HitInput(simulated[0][:2], simulated[1][:2, None])
        output = jax.jit(model.apply)(model.init(jax.random.key(0)), x)
        assert output.hit_logits.dtype == jnp.dtype(policy_by_name(policy).output)
        assert np.all(np.isfinite(np.asarray(output.hit_logits, np.float64)))
