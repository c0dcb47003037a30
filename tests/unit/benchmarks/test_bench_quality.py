"""The benchmark of quality: numbers against slow loops, planted cases, and that a bad method comes out bad."""

import argparse
import importlib
import itertools
import json
import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from places import ROOT

from tofae_jax.config import Config, read_toml
from tofae_jax.core.detector import Detector
from tofae_jax.data.events import Events
from tofae_jax.data.simulated.lhcb_torch import ModuleEvents
from tofae_jax.data.simulated.mixtures import simulate_patterns
from tofae_jax.lhcb_torch.simulation import ORIGINS

sys.path.insert(0, str(ROOT / "benchmarks"))
(classical, comparison, events, methods, neighbours, oracle, output, runs, scoring, simulated_oracle, sources) = (
    importlib.import_module(f"quality.{name}")
    for name in (
        "classical",
        "comparison",
        "events",
        "methods",
        "neighbours",
        "oracle",
        "output",
        "runs",
        "scoring",
        "simulated_oracle",
        "sources",
    )
)

bench_quality = importlib.import_module("bench_quality")

SMALL = Detector(n_x=6, n_y=5, n_t=20)
FULL = Detector()
QUANTILE = 1.959964  # of the normal distribution, two-sided 95 %


def event_set(hits, is_signal, *, photon=None, patterns=None, detector=SMALL, numbers=None):
    hits = np.asarray(hits, np.int32)
    return events.EventSet(
        detector=detector,
        hits=hits,
        is_signal=np.asarray(is_signal, bool),
        photon=np.full(hits.shape[:2], -1, np.int32) if photon is None else np.asarray(photon, np.int32),
        patterns=patterns or [np.zeros((0, 3), np.int16)] * len(hits),
        numbers=np.arange(len(hits)) if numbers is None else numbers,
        tracks={},
        window_start_ns=None,
        module=None,
    )


def random_events(n=4, k=25, seed=0, detector=SMALL):
    rng = np.random.default_rng(seed)
    hits = np.stack([rng.integers(0, detector.n_x, (n, k)), rng.integers(0, detector.n_y, (n, k))], axis=-1)
    hits = np.concatenate([hits, rng.integers(1, detector.n_t + 1, (n, k, 1))], axis=-1)
    filled = np.arange(k) < rng.integers(k // 2, k, n)[:, None]
    return event_set(np.where(filled[..., None], hits, 0), (rng.random((n, k)) < 0.4) & filled, detector=detector)


def drawn(name="v", part="test", n_events=6, detector=FULL, seed=0, **conditions):
    return events.held_out_events(
        name, part, events.Conditions(**conditions), n_events=n_events, seed=seed, detector=detector
    )


def hit_lists(event, chosen=None):
    chosen = event.filled if chosen is None else chosen
    return [[tuple(hit) for hit in row[keep].tolist()] for row, keep in zip(event.hits, chosen, strict=True)]


def latest(hits):
    """Image of hits as a dict, by a loop."""
    image = {}
    for x, y, t in hits:
        image[x, y] = max(t, image.get((x, y), 0))
    return image


def test_counts_of_kept_hits_are_those_of_a_loop():
    event = random_events()
    kept = np.random.default_rng(1).random(event.filled.shape) < 0.5
    found = scoring.of_kept(event, kept)
    for i in range(len(event)):
        pairs = [
            (bool(kept[i, j]), bool(event.is_signal[i, j])) for j in range(kept.shape[1]) if event.hits[i, j, 2] > 0
        ]
        assert found.true_positives[i] == pairs.count((True, True))
        assert found.false_positives[i] == found.noise_left[i] == pairs.count((True, False))
        assert found.false_negatives[i] == pairs.count((False, True))
        assert found.noise[i] == pairs.count((True, False)) + pairs.count((False, False))
        target = latest(hit_lists(event, event.is_signal)[i])
        image = latest(hit_lists(event, kept & event.filled)[i])
        assert found.target_pixels[i] == len(target)
        assert found.pixels_in_time[i] == sum(image.get(pixel) == t for pixel, t in target.items())


def test_counts_of_images_are_those_of_a_loop():
    event = random_events(seed=2)
    rng = np.random.default_rng(3)
    images = (rng.integers(0, 20, event.image.shape) * (rng.random(event.image.shape) < 0.5)).astype(np.float32)
    found = scoring.of_images(event, images, event.signal_image)
    for i in range(len(event)):
        lit, target, noise = images[i] > 0, event.signal_image[i] > 0, set()
        for x, y, t in hit_lists(event, event.filled & ~event.is_signal)[i]:
            if event.image[i, y, x] == t and not target[y, x]:
                noise.add((x, y))
        assert found.true_positives[i] == np.sum(lit & target)
        assert found.false_positives[i] == np.sum(lit & ~target)
        assert found.false_negatives[i] == np.sum(~lit & target)
        assert found.noise[i] == len(noise)
        assert found.noise_left[i] == sum(lit[y, x] for x, y in noise)


def test_a_perfect_output_has_perfect_numbers_and_an_inverted_one_has_none():
    event = random_events(n=6)
    perfect = scoring.estimates(scoring.of_kept(event, event.is_signal))
    for name in scoring.QUALITIES:
        assert perfect[name] == pytest.approx((1, 1, 1), abs=1e-6), name
    inverted = scoring.estimates(scoring.of_kept(event, ~event.is_signal))
    by_chance = {"ssim": 0.99, "full_tof_accuracy": 0.2}  # noise may have the signal's pixel and time
    for name in scoring.QUALITIES:
        assert inverted[name].value <= by_chance.get(name, 0), name


def of_binomial(found, of=30):
    found = np.asarray(found)
    zeros, hits = np.zeros_like(found), np.full_like(found, of)
    return scoring.OfEach(found, zeros, hits - found, zeros, zeros, hits, found, found / of)


def test_intervals_are_as_wide_as_theory_says_and_cover_the_truth():
    rng, covered, experiments = np.random.default_rng(3), 0, 40
    for _ in range(experiments):
        estimate = scoring.estimates(of_binomial(rng.binomial(30, 0.7, 100)))["efficiency"]
        covered += estimate.low <= 0.7 <= estimate.high
        assert estimate.low < estimate.value < estimate.high
    assert covered >= 33  # 38 expected; less than 33 in one case of a hundred
    estimate = scoring.estimates(of_binomial(rng.binomial(30, 0.5, 400)))["full_tof_accuracy"]
    assert estimate.high - estimate.low == pytest.approx(2 * QUANTILE * math.sqrt(0.25 / 12000), rel=0.12)
    # negative control: hits of an event that stand or fall together
    together = scoring.estimates(of_binomial(30 * rng.binomial(1, 0.5, 400)))["efficiency"]
    assert together.high - together.low == pytest.approx(2 * QUANTILE * math.sqrt(0.25 / 400), rel=0.12)


def test_of_one_event_the_interval_is_the_number_and_of_none_there_is_an_error():
    assert scoring.estimates(of_binomial([12]))["efficiency"] == (0.4, 0.4, 0.4)
    with pytest.raises(ValueError, match="no events"):
        scoring.estimates(of_binomial([]))


def f1_of(kept, event):
    right = np.sum(kept & event.is_signal & event.filled)
    return 2 * right / (np.sum(kept & event.filled) + np.sum(event.is_signal))


@pytest.mark.parametrize("levels", [4, 1000])
def test_the_best_threshold_is_that_of_a_search(levels):
    event = random_events(n=5, k=30, seed=levels)
    rng = np.random.default_rng(0)
    score = np.floor(levels * (rng.random(event.filled.shape) + 0.3 * event.is_signal)) / levels
    score[rng.random(score.shape) < 0.1] = -np.inf
    threshold, f1 = methods.best_threshold(score, event)
    finite = score[np.isfinite(score) & event.filled]
    assert f1 == pytest.approx(max(f1_of(score >= value, event) for value in np.unique(finite)))
    assert f1_of(score > threshold, event) == pytest.approx(f1)


def test_a_perfect_score_is_cut_perfectly_and_an_inverted_one_keeps_all():
    event = random_events()
    threshold, f1 = methods.best_threshold(event.is_signal.astype(float), event)
    assert (threshold, f1) == (0.5, 1)
    threshold, f1 = methods.best_threshold(-event.is_signal.astype(float), event)
    assert threshold == -np.inf
    assert f1 == pytest.approx(f1_of(event.filled, event))
    curve = methods.efficiency_purity(event.is_signal.astype(float), event)
    np.testing.assert_allclose(curve.efficiency, 1)
    assert curve.purity[0] == 1
    assert curve.purity[-1] == pytest.approx(event.is_signal.sum() / event.filled.sum())
    inverted = methods.efficiency_purity(-event.is_signal.astype(float), event)
    assert (inverted.efficiency[0], inverted.purity[0]) == (0, 0)


def test_neighbouring_numbers_of_single_precision_are_told_apart():
    event = event_set([[[0, 0, 1], [1, 1, 1]]], [[True, False]])
    score = np.array([[1.0, np.nextafter(np.float32(1), np.float32(0))]], np.float32)
    tuned = methods.HitScorer("close", lambda _: score).tuned({}, event)
    assert scoring.estimates(tuned.counts(event, score))["f1"].value == 1


def test_a_curve_has_its_points_where_the_signal_is():
    n = 100_000
    hits = np.ones((1, n, 3), np.int32)
    is_signal = np.arange(n) < 300
    curve = methods.efficiency_purity(np.linspace(1, 0, n)[None], event_set(hits, is_signal[None]))
    assert len(curve.efficiency) <= methods.CURVE_POINTS
    assert np.sum(curve.efficiency < 1) > 150
    assert curve.purity[-1] == pytest.approx(300 / n)


def test_hits_that_cannot_be_kept_are_not_and_scores_must_be_numbers():
    event = random_events()
    score = np.full(event.filled.shape, -np.inf)
    threshold, f1 = methods.best_threshold(score, event)
    assert f1 == 0
    assert not (score > threshold).any()
    assert len(methods.efficiency_purity(score, event).purity) == 0
    with pytest.raises(ValueError, match="not a number"):
        methods.best_threshold(np.full(event.filled.shape, np.nan), event)


def test_settings_and_thresholds_come_from_validation_events():
    validation, other = random_events(seed=1), random_events(seed=2)
    good = methods.HitScorer(
        "good", lambda event, *, sign: sign * event.is_signal.astype(float), methods.grid(sign=(-1.0, 1.0))
    )
    settings = good.choose(validation)
    assert settings == {"sign": 1.0}
    tuned = good.tuned(settings, validation)
    assert tuned.threshold == 0.5
    counts = tuned.counts(other, tuned.output(other))
    assert scoring.estimates(counts)["f1"].value == 1


def test_neighbours_are_those_of_brute_force():
    event = random_events(n=3, k=40, seed=5)
    event.hits[0, 1] = event.hits[0, 0]  # equal hits are neighbours
    scales = {"x": 2.0, "y": 1.0, "t": 3.0}
    found = neighbours.neighbour_counts(event, **scales)
    for i, hits in enumerate(hit_lists(event)):
        for j, hit in enumerate(hits):
            near = 0
            for k, other in enumerate(hits):
                far = sum(((a - b) / s) ** 2 for a, b, s in zip(hit, other, scales.values(), strict=True))
                near += k != j and far <= 1 + 1e-9
            assert found[i, j] == near
    assert (found[~event.filled] == -np.inf).all()
    assert found.max() > 0


def slow_log_density(hit, photons, widths, n_cells):
    total = 0
    for photon in photons:
        kernels = [
            math.exp(-0.5 * ((a - b) / w) ** 2) / (w * math.sqrt(2 * math.pi))
            for a, b, w in zip(hit, photon, widths, strict=True)
        ]
        total += math.prod(kernels) / len(photons)
    return math.log(total + oracle.UNEXPLAINED / n_cells)


def test_the_oracle_s_density_is_that_of_a_loop_without_the_hit_s_own_photon():
    rng = np.random.default_rng(0)
    patterns = [np.column_stack([rng.integers(0, 6, n), rng.integers(0, 5, n), rng.integers(1, 21, n)]) for n in (7, 4)]
    hits = np.zeros((2, 5, 3), np.int32)
    photon = np.full((2, 5), -1)
    for i, chosen in enumerate([(2, 5, 6), (0, 3)]):
        hits[i, : len(chosen)], photon[i, : len(chosen)] = patterns[i][list(chosen)], chosen
    hits[:, 3] = (1, 2, 3)
    event = event_set(hits, photon >= 0, photon=photon, patterns=[p.astype(np.int16) for p in patterns])
    found = oracle.log_signal_density(event, x=1.5, y=0.7, t=3.0)
    for i, j in np.argwhere(event.filled):
        others = [own for k, own in enumerate(patterns[i].tolist()) if k != photon[i, j]]
        expected = slow_log_density(hits[i, j], others, (1.5, 0.7, 3.0), 600)
        assert found[i, j] == pytest.approx(expected, abs=1e-4)


def test_a_photon_alone_does_not_vouch_for_its_own_hit():
    """Planted: one photon and nothing near it. With it left in (the control) the oracle would know its hit."""
    hit = [[[3, 2, 10]]]
    pattern = [np.array([[3, 2, 10]], np.int16)]
    honest, cheating = (event_set(hit, [[True]], photon=[[own]], patterns=pattern) for own in (0, -1))
    log_noise = math.log(1 / 600)
    widths = {"x": 0.5, "y": 0.5, "t": 1.0}
    assert oracle.log_signal_density(honest, **widths)[0, 0] < log_noise - 10
    assert oracle.log_signal_density(cheating, **widths)[0, 0] > log_noise + 5
    two = [np.repeat(pattern[0], 2, axis=0)]  # another photon at the very same place does
    assert oracle.log_signal_density(event_set(hit, [[True]], photon=[[0]], patterns=two), **widths)[0, 0] > log_noise


def test_noise_densities_are_normalised_and_follow_the_hits():
    rng = np.random.default_rng(0)
    cells = np.array(list(itertools.product(range(6), range(5), range(1, 21))))
    hits = np.column_stack([rng.integers(0, 3, 500), rng.integers(0, 5, 500), rng.integers(1, 21, 500)])
    for density in (oracle.smoothed(hits, SMALL), oracle.of_pixels(hits, SMALL)):
        assert np.exp(density(cells)).sum() == pytest.approx(1, abs=1e-4)
        assert density(np.array([0, 2, 5])) > density(np.array([5, 2, 5]))
    uniform = oracle.noise_density("v", seed=0, detector=SMALL)
    np.testing.assert_allclose(uniform(cells), -math.log(600))


def test_the_simulated_oracle_s_density_is_that_of_a_loop():
    rng = np.random.default_rng(1)
    photons = np.column_stack([rng.integers(0, 6, 50), rng.integers(0, 5, 50), rng.integers(1, 21, 50)])
    hits = np.array([[0, 0, 1], [5, 4, 20], [2, 3, 10]])
    widths = {"x": 0.5, "y": 0.3, "t": 1.5}
    found = simulated_oracle.log_density(hits, photons, SMALL, **widths)
    sums = [sum(math.exp(-0.5 * (k / w) ** 2) for k in range(-9, 10)) for w in widths.values()]
    for hit, value in zip(hits, found, strict=True):
        kernels = [
            math.exp(-0.5 * sum(((a - b) / w) ** 2 for a, b, w in zip(hit, photon, widths.values(), strict=True)))
            for photon in photons
        ]
        assert value == pytest.approx(math.log(np.sum(kernels) / np.prod(sums) / 50), abs=2e-2)


def test_the_simulated_oracle_refuses_what_is_not_simulated():
    scorer = simulated_oracle.simulated_oracle(lambda hits: np.zeros(len(hits)))
    with pytest.raises(ValueError, match="LHCb TORCH alone"):
        scorer.score(random_events(), x=1.0, y=1.0, t=1.0)


def test_places_in_a_pattern():
    pattern = np.array([[1, 2, 3], [4, 5, 6], [1, 2, 3], [0, 0, 1]], np.int16)
    sparse = np.array([[1, 2, 3], [0, 0, 1], [1, 2, 3], [0, 0, 0]], np.int32)
    found = events.place_in_pattern(sparse, pattern)
    assert sorted(found[[0, 2]].tolist()) == [0, 2]
    assert found[1] == 3
    assert found[3] == -1


@pytest.mark.slow
@pytest.mark.parametrize("n_noise", [0, 250])
def test_events_have_the_hits_that_were_asked_for(n_noise):
    event = drawn(n_signal=20, n_noise=n_noise)
    pattern_sizes = np.array([len(pattern) for pattern in event.patterns])
    np.testing.assert_array_equal(event.is_signal.sum(axis=1), np.minimum(pattern_sizes, 20))
    np.testing.assert_array_equal((event.filled & ~event.is_signal).sum(axis=1), n_noise)
    np.testing.assert_array_equal(event.photon >= 0, event.is_signal)
    for i, j in np.argwhere(event.is_signal):
        np.testing.assert_array_equal(event.hits[i, j], event.patterns[i][event.photon[i, j]])
    for row, is_signal in zip(event.photon, event.is_signal, strict=True):
        assert len(np.unique(row[is_signal])) == is_signal.sum()


def test_fewer_hits_are_some_of_more_and_events_do_not_depend_on_their_number():
    few, many = drawn(n_signal=10, n_noise=50), drawn(n_signal=30, n_noise=200, n_events=9)
    for own, of in zip(hit_lists(few), hit_lists(many), strict=False):
        assert set(own) <= set(of)
    assert hit_lists(drawn(seed=1)) != hit_lists(drawn())
    with pytest.raises(ValueError, match="noise is 1001, allowed: 0 to 1000"):
        drawn(n_noise=1001)
    with pytest.raises(ValueError, match="data is 'w', allowed: v, "):
        drawn("w")


def test_smearing_moves_the_times_of_the_signal_alone():
    exact, smeared = drawn(), drawn(time_smearing_ps=100.0)
    assert set(map(tuple, exact.hits[0][~exact.is_signal[0]].tolist())) == set(
        map(tuple, smeared.hits[0][~smeared.is_signal[0]].tolist())
    )
    moved = []
    for i, j in np.argwhere(smeared.is_signal):
        own = smeared.patterns[i][smeared.photon[i, j]]
        np.testing.assert_array_equal(own[:2], smeared.hits[i, j, :2])
        moved.append(smeared.hits[i, j, 2] - own[2])
    assert np.std(moved) == pytest.approx(4, rel=0.25)  # bins of 25 ps


def test_a_dead_column_is_empty_and_nothing_else_is():
    whole, dead = drawn(), drawn(dead_column=44)
    assert (whole.hits[whole.filled][:, 0] == 44).any()
    for own, of in zip(hit_lists(dead), hit_lists(whole), strict=True):
        assert own == [hit for hit in of if hit[0] != 44]


def test_no_event_is_one_that_is_trained_on_and_none_is_used_twice():
    seeds = {read_toml(recipe, Config).data.simulate.seed for recipe in (ROOT / "configs").glob("*.toml")}
    assert not seeds & set(range(sources.HELD_OUT_SEED, sources.HELD_OUT_SEED + 1000))
    training = next(iter(simulate_patterns(0, 1000, detector=FULL, weights={"v": 1}, chunk_events=1000)))
    known = {part.tobytes() for part in np.split(training.hits, training.offsets[1:-1]) if len(part) > 10}
    validation, test = (drawn("v", part, n_events=50).patterns for part in ("validation", "test"))
    both = [{pattern.tobytes() for pattern in patterns if len(pattern) > 10} for patterns in (validation, test)]
    assert not both[0] & both[1]
    assert not known & (both[0] | both[1])
    assert min(map(len, both)) > 30


def test_legacy_patterns_are_dealt_once():
    validation, test = (drawn("legacy", part, n_events=200) for part in ("validation", "test"))
    assert (len(validation), len(test)) == (40, 80)
    with np.load(sources.LEGACY_FILE) as file:
        stored = [
            file[name][file[name][:, 0] == i][:, 1:].astype(np.int16).tobytes()
            for name in ("rdt", "pdt")
            for i in range(60)
        ]
    assert sorted(pattern.tobytes() for pattern in validation.patterns + test.patterns) == sorted(stored)


def test_noise_of_backgrounds_comes_from_whole_tracks():
    track = np.repeat([3, 4, 5, 6], [40, 30, 50, 20]).astype(np.int16)
    hits = np.column_stack([np.arange(140) % 88, np.arange(140) % 128, np.arange(140) + 1]).astype(np.int16)
    source = sources.Source(np.arange(1), [hits[:50]], [sources.Background(hits, track)])
    event = events.degraded(source, events.Conditions(n_noise=60), seed=0, detector=FULL)
    noise = event.hits[0][~event.is_signal[0] & event.filled[0]]
    assert len(noise) == 60
    assert {track[t - 1] for t in noise[:, 2]} == {3, 4}  # 70 hits suffice
    assert len({tuple(hit) for hit in noise.tolist()}) == 60
    few = events.degraded(source, events.Conditions(n_noise=500), seed=0, detector=FULL)
    assert (~few.is_signal & few.filled).sum() == 140


class FakeModule:
    """Two simulated events: hits of every origin, those of an origin all in its own column."""

    def __init__(self, detector, **_):
        pass

    def draw(self, numbers):
        origin = np.tile(np.repeat(np.arange(5), 20), len(numbers)).astype(np.int8)
        hits = np.column_stack([origin, np.arange(len(origin)) % 128, np.arange(len(origin)) + 1]).astype(np.int16)
        per_event = np.arange(len(numbers) + 1)
        columns = {"origin": origin, "track": np.where(origin < 2, 7, -1)}
        window = {"window_start_ns": np.full(len(numbers), 30.0, np.float32)}
        return Events(hits, 100 * per_event, columns, window, per_event, {"x_mm": np.arange(len(numbers))}), 0


@pytest.mark.parametrize("name", sources.MODULES)
def test_the_noise_of_a_module_is_its_background_of_one_kind(name, monkeypatch):
    noise = sources.MODULES[name]
    ModuleEvents(FULL, backgrounds=noise.backgrounds).check()
    monkeypatch.setattr(sources, "ModuleEvents", FakeModule)
    event = drawn(name, n_events=2, n_signal=10, n_noise=15, seed=99)
    assert (event.hits[event.is_signal][:, 0] == 0).all()
    columns = set(event.hits[event.filled & ~event.is_signal][:, 0].tolist())
    assert columns == {ORIGINS.index(noise.origin)} if noise.origin else len(columns) > 5
    assert (event.filled & ~event.is_signal).sum() == 2 * 15
    seen = event.as_events()
    assert (seen.n_events, seen.n_hits, set(seen.hit_columns)) == (2, 50, set())  # no truth of the hits
    assert event.first(1).tracks["x_mm"].tolist() == [0]


FILTER_SETTINGS = {
    "median": {"size": 3},
    "Gaussian": {"sigma": 1.0},
    "bilateral": {"sigma_spatial": 1.0, "sigma_color": 1.0},
    "non-local means": {"patch_size": 3, "patch_distance": 5, "h": 0.4},
    "total variation": {"weight": 0.3},
}


@pytest.mark.parametrize("image", classical.IMAGES)
@pytest.mark.parametrize("name", FILTER_SETTINGS)
def test_filters_score_the_middle_of_a_cluster_higher_than_a_lonely_hit(name, image):
    cluster = [[10 + x, 20 + y, 500] for x in (-1, 0, 1) for y in (-1, 0, 1)]
    event = event_set([[*cluster, [60, 90, 500], [60, 90, 400]]], [[True] * 9 + [False] * 2], detector=FULL)
    found = {scorer.name: scorer for scorer in classical.classical_filters(lambda _: None)}
    score = found[name].score(event, image=image, **FILTER_SETTINGS[name])[0]
    assert score[4] > score[9]
    assert np.isfinite(score[:10]).all()
    assert score[10] == -np.inf  # occluded


def test_filters_whose_library_is_missing_are_left_out(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(classical, "import_module", missing)
    said = []
    assert [scorer.name for scorer in classical.classical_filters(said.append)] == ["median", "Gaussian"]
    assert len(said) == 2


def test_a_run_s_columns_stand_at_their_hits_and_its_own_seed_is_refused():
    event = random_events()

    def denoiser(parts):
        for part in parts:
            columns = {"score": part.hits[:, 0] / 10, "kept": part.hits[:, 1] > 2, "visible": part.hits[:, 2] > 5}
            yield part._replace(hit_columns=columns)

    run = object.__new__(runs.Run)
    run.name, run._denoiser, run._latest = "fake", denoiser, None
    x, y, t = np.moveaxis(event.hits, -1, 0)
    np.testing.assert_array_equal(run.kept(event), (y > 2) & event.filled)
    np.testing.assert_allclose(run.score(event), np.where((t > 5) & event.filled, x / 10, -np.inf))
    assert run._columns(event) is run._columns(event)
    again = replace(event)  # timed anew
    assert run._columns(again) is not run._columns(event)
    config = SimpleNamespace(data=SimpleNamespace(simulate=SimpleNamespace(seed=0)))
    record = SimpleNamespace(data={"provenance": {"seed": sources.HELD_OUT_SEED + 4}})
    run.run = SimpleNamespace(setup=SimpleNamespace(config=config), record=record)
    run.check_held_out(3)
    with pytest.raises(ValueError, match="fake was trained on events of seed"):
        run.check_held_out(4)


def image_run(images, *, has_time):
    """A run that has learnt images, and gives these."""
    run = object.__new__(runs.Run)
    run.name = "fake"
    run._normalisation = SimpleNamespace(has_time=has_time)
    run._model_images = lambda variables, filled: images[: len(filled)]
    config = SimpleNamespace(train=SimpleNamespace(batch=64))
    options = SimpleNamespace(scores_hits=False, target="signal")
    run.run = SimpleNamespace(setup=SimpleNamespace(config=config, options=options), variables={})
    return run


def test_an_image_with_times_masks_by_light_and_by_time():
    event = event_set([[[0, 0, 5], [1, 0, 7], [2, 0, 9], [2, 0, 12]]], [[True, True, True, False]])
    images = np.zeros((1, 5, 6), np.float32)
    images[0, 0, :3] = (5, 17, 12)
    found = {method.name: method for method in image_run(images, has_time=True).methods()}
    assert set(found) == {"fake", "fake masked", "fake ToF-masked", "fake direct"}
    assert found["fake masked"].score(event).tolist() == [[1, 1, 0, 1]]  # the third hit is occluded
    bin_ns = SMALL.bin_ns
    np.testing.assert_allclose(found["fake ToF-masked"].score(event), [[0, -10 * bin_ns, -np.inf, 0]], atol=1e-6)
    direct = found["fake direct"]
    counts = direct.counts(event, direct.output(event))
    assert (counts.true_positives[0], counts.false_positives[0], counts.pixels_in_time[0]) == (3, 0, 1)


def test_an_image_without_times_is_not_compared_by_them(tmp_path):
    event = random_events()
    run = image_run((event.signal_image > 0).astype(np.float32), has_time=False)
    *_, direct = run.methods()
    assert [method.name for method in run.methods()] == ["fake", "fake masked", "fake direct"]
    np.testing.assert_array_equal(run.target(event), event.signal_image > 0)
    plan = comparison.Plan(n_events=4, n_validation=4, seed=0, repeats=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "_drawn", lambda *_: event)
        (found,) = comparison._rows("v", events.Conditions(), {"direct": direct}, plan)
    assert found.qualities["f1"].value == 1
    assert not set(scoring.OF_TIMES) & set(found.qualities)
    paths = output.write_all(str(tmp_path / "x"), [found], {}, is_robustness=False)
    assert json.loads(paths[1].read_text())["rows"][0]["ssim"] is None
    assert "| – | – |" in paths[2].read_text()


def options_of():
    names = ("signal", "noise", "time_smearing_ps", "dead_column", "methods")
    return argparse.Namespace(**dict.fromkeys(names), quick=False, robustness=False, seed=0)


def test_what_is_compared_follows_the_options():
    def names(data, runs=(), **given):
        chosen = options_of()
        vars(chosen).update({"data": [data] if isinstance(data, str) else data} | given)
        return [method.name for method in bench_quality.methods_by_data(chosen, runs)(data)]

    assert {"input", "Gaussian", "neighbours", "oracle_kde"} <= set(names("v"))
    assert "oracle_simulated" not in names("v")
    assert names("lhcb_torch", robustness=True) == list(bench_quality.OF_ROBUSTNESS)
    assert names("v", methods=["neighbours"]) == ["neighbours"]
    with pytest.raises(ValueError, match="methods has nonsense, allowed: input, median"):
        names("v", methods=["nonsense"])
    with pytest.raises(ValueError, match="no method is to be compared on v"):
        names("v", methods=["oracle_simulated"])
    with pytest.raises(ValueError, match="no method is to be compared on v"):  # before anything is computed
        names(["lhcb_torch", "v"], methods=["oracle_simulated"])
    run = SimpleNamespace(methods=lambda: [methods.HitScorer("mine", len)])
    entry = bench_quality.Entry(run, ("parabola",))
    assert names("parabola", [entry], methods=["input"]) == ["input", "mine"]
    assert names("v", [entry], methods=["input"]) == ["input"]
    with pytest.raises(ValueError, match="run gives mine twice"):
        names("parabola", [entry, entry], methods=["input"])


def test_conditions_are_checked_before_anything_is_computed():
    def points(**given):
        chosen = options_of()
        vars(chosen).update(given)
        return bench_quality.conditions_of(chosen)

    assert len(points()) == 15
    assert points(signal=[5], noise=[7], dead_column=3) == [events.Conditions(5, 7, None, 3)]
    assert len(points(robustness=True)) > 10
    kept = bench_quality.recorded(argparse.Namespace(run=["a=/some/where/x", "b=model:y"], out="/some/where/z", seed=1))
    assert kept == {"run": ["a", "b"], "out": "z", "seed": 1}
    with pytest.raises(ValueError, match="signal is 150, allowed: 0 to 100"):
        points(signal=[30, 150])
    with pytest.raises(ValueError, match="leave out --noise"):
        points(noise=[5], robustness=True)


@pytest.mark.slow
def test_runs_of_the_comparison_are_named_and_fit(monkeypatch):
    said = []
    (given, blind) = bench_quality.entries(
        ["a=model:lhcb_torch_tracks", "b=model:lhcb_torch@lhcb_torch,lhcb_torch_dark"], 0, said.append
    )
    assert given.data == tuple(sources.MODULES) and "given tracks" in said[0]
    assert blind.data == ("lhcb_torch", "lhcb_torch_dark")
    with pytest.raises(ValueError, match="allowed: NAME=FOLDER"):
        bench_quality.entries(["nothing"], 0, said.append)
    monkeypatch.setattr(runs, "ModuleSettings", lambda: sources.ModuleSettings(height_mm=1000.0))
    with pytest.raises(ValueError, match="of another module than the events: height_mm"):
        bench_quality.entries(["a=model:lhcb_torch_tracks"], 0, said.append)


def stub_methods(_):
    def score(event, *, sign):
        return sign * event.is_signal.astype(float)

    return [
        methods.untouched(),
        methods.HitScorer("perfect", score, ({"sign": 1.0},)),
        methods.HitScorer("inverted", score, ({"sign": -1.0},), threshold=-0.5),
        methods.HitScorer("slow", score, ({"sign": 1.0},), at_reference_only=True),
        methods.ImageOutput("image", lambda event: event.signal_image, lambda event: event.signal_image),
    ]


@pytest.fixture(scope="module")
def rows():
    plan = comparison.Plan(n_events=5, n_validation=5, seed=0, repeats=1)
    points = [events.Conditions(n_noise=n) for n in (0, 200)]
    parts = comparison.compared(["v"], points, stub_methods, plan, lambda _: None)
    return list(itertools.chain.from_iterable(parts))


def test_a_comparison_tells_good_from_bad(rows):
    f1 = {(row.method, row.conditions.n_noise): row.qualities["f1"].value for row in rows}
    assert f1["perfect", 200] == f1["perfect", 0] == f1["image", 200] == f1["slow", 200] == 1
    assert f1["inverted", 200] == 0
    assert f1["input", 200] < 0.3 < 0.95 < f1["input", 0]
    assert ("slow", 0) not in f1
    counted = {row.method: row.counted for row in rows}
    assert (counted["image"], counted["perfect"]) == ("pixels", "hits")
    assert all(row.events_per_s.low <= row.events_per_s.value <= row.events_per_s.high for row in rows)
    assert {row.noise_hits for row in rows} == {0, 200}


def test_tables_and_figures_are_written(rows, tmp_path):
    paths = output.write_all(str(tmp_path / "sub" / "name"), rows, {"seed": 0}, is_robustness=False)
    assert [path.suffix for path in paths] == [".csv", ".json", ".md", ".png"]
    lines = paths[0].read_text().splitlines()
    assert len(lines) == len(rows) + 1
    stored = json.loads(paths[1].read_text())
    assert {"rows", "options", "versions", "system"} == set(stored)
    row = next(row for row in stored["rows"] if row["method"] == "perfect" and row["n_noise"] == 200)
    assert row["f1"] == row["f1_low"] == row["f1_high"] == 1
    assert row["curve"]["efficiency"][0] == 1
    assert "| perfect | 1.000 (1.000–1.000) |" in paths[2].read_text()
    assert paths[3].read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_robustness_chooses_once_and_changes_one_thing_at_a_time(tmp_path):
    points = comparison.hardships((0, 200), (10, 30), (35.0,), 44)
    assert len(points) == len(set(points)) == 5
    differing = [sum(a != b for a, b in zip(point, comparison.REFERENCE, strict=True)) for point in points]
    assert sorted(differing) == [0, 1, 1, 1, 1]
    plan = comparison.Plan(n_events=5, n_validation=5, seed=0, repeats=1)
    parts = comparison.withstood(["v"], points, stub_methods, plan, lambda _: None)
    rows = list(itertools.chain.from_iterable(parts))
    assert {row.threshold for row in rows if row.method == "perfect"} == {0.5}
    paths = output.write_all(str(tmp_path / "robust"), rows, {}, is_robustness=True)
    assert "column 44 dead" in paths[2].read_text()


def test_a_plan_must_hold_events():
    with pytest.raises(ValueError, match="n_validation is 0, allowed: 1 or more"):
        comparison.Plan(n_events=5, n_validation=0, seed=0, repeats=1).check()
