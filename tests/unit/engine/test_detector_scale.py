"""The physical lengths of the detector: whose count, and what fits into them."""

import numpy as np
import pytest
from tiny import settings_from

from tofae_jax.config import ConfigError
from tofae_jax.core.detector import Detector
from tofae_jax.data.dataset_writer import write_dataset
from tofae_jax.data.events import DataError, Events
from tofae_jax.engine.build import build_run
from tofae_jax.engine.default_models import build_model
from tofae_jax.engine.detector_scale import (
    check_lengths,
    check_scale,
    check_time_bins,
    differing_lengths,
    on_scale_of,
    on_scale_of_source,
    with_lengths_of_dataset,
)
from tofae_jax.lhcb_torch.module import ModuleSettings

SHAPE = {"n_x": 12, "n_y": 16, "n_t": 40}
OWN, WIDE = Detector(**SHAPE), Detector(**SHAPE, width_mm=66.0, height_mm=5.3, window_ns=250.0)


def dataset(path, detector):
    events = Events(np.array([[1, 2, 3]], np.int16), np.array([0, 1]), {}, {})
    return write_dataset(path, [events], detector=detector, provenance={})


def config_of(path, **sections):
    return settings_from({"detector": SHAPE, "data": {"path": str(path)}}, **sections)


def test_differing_lengths_rounding_is_no_difference():
    assert differing_lengths(OWN, Detector(**SHAPE, window_ns=25.0 * (1 + 1e-7))) == []
    assert differing_lengths(OWN, WIDE) == ["width_mm", "height_mm", "window_ns"]
    assert differing_lengths(OWN, Detector(**SHAPE, window_ns=25.1)) == ["window_ns"]


def test_with_lengths_of_dataset_takes_what_was_not_given(tmp_path):
    dataset(tmp_path / "d", WIDE)
    config = config_of(tmp_path / "d")
    assert with_lengths_of_dataset(config, {"detector.n_x", "seed"}).detector == WIDE
    agreed = config_of(tmp_path / "d", detector={"window_ns": 250.0})
    assert with_lengths_of_dataset(agreed, {"detector.window_ns"}).detector == WIDE


@pytest.mark.parametrize("name", ["width_mm", "height_mm", "window_ns"])
def test_with_lengths_of_dataset_contradiction_names_both(tmp_path, name):
    dataset(tmp_path / "d", WIDE)
    with pytest.raises(DataError) as error:
        with_lengths_of_dataset(config_of(tmp_path / "d"), {f"detector.{name}"})
    theirs, ours = f"{name} = {getattr(WIDE, name):g}", f"{name} = {getattr(OWN, name):g}"
    assert f"its detector has {theirs}, the settings say {ours}; leave detector.{name} out" in str(error.value)


def test_with_lengths_of_dataset_without_one_keeps_the_settings(tmp_path):
    for config in (
        config_of(tmp_path / "none", detector={"window_ns": 3.0}),
        config_of(tmp_path, data={"source": "simulate"}),
    ):
        assert with_lengths_of_dataset(config, {"detector.window_ns"}) == config
    dataset(tmp_path / "d", Detector(n_x=5, n_y=16, n_t=40, window_ns=3.0))
    config = config_of(tmp_path / "d")
    assert with_lengths_of_dataset(config, set()) == config  # another shape is refused when it is opened


def test_on_scale_of_own_detector_changes_nothing(tmp_path):
    said = []
    config = config_of(tmp_path / "d", degradation={"smear_t_ns": 5.0})
    assert on_scale_of(config, dataset(tmp_path / "d", OWN), warn=said.append) is config
    assert said == []


def test_on_scale_of_other_events_converts_mm_and_ns_with_theirs(tmp_path):
    said = []
    numbers = {"smear_x_mm": 5.5, "smear_y_mm": 3.3125, "smear_t_ns": (0.0, 12.5)}
    config = config_of(
        tmp_path / "d", degradation=numbers, mask={"tof_tolerance_ns": 12.5}, model={"name": "autoencoder"}
    )
    there = on_scale_of(config, dataset(tmp_path / "d", WIDE), warn=said.append)
    assert len(said) == 1
    assert "width_mm = 66, height_mm = 5.3, window_ns = 250, that of the training width_mm = 660" in said[0]
    bins = build_run(there).step_settings()
    assert float(bins.degradation.sigma_x_pixels) == pytest.approx(1.0)
    assert float(bins.degradation.sigma_y_pixels) == pytest.approx(10.0)
    assert [float(edge) for edge in bins.degradation.sigma_t_bins] == pytest.approx([0, 2.0])
    assert float(bins.tof_tolerance_bins) == pytest.approx(2.0)  # a time that was given
    assert float(bins.tolerance_bins) == pytest.approx(0.04)
    assert float(build_run(config).step_settings().tof_tolerance_bins) == pytest.approx(20.0)


def test_on_scale_of_shorter_events_warns_of_what_is_too_long(tmp_path):
    said = []
    config = config_of(tmp_path / "d", degradation={"smear_t_ns": 5.0})
    short = dataset(tmp_path / "d", Detector(**SHAPE, window_ns=2.5))
    assert on_scale_of(config, short, warn=said.append).detector.window_ns == 2.5
    assert len(said) == 2 and "degradation.smear_t_ns = 5: at most 2.5, which is detector.window_ns" in said[1]


def test_on_scale_of_chosen_tolerance_stays_in_bins(tmp_path):
    config = config_of(tmp_path / "d", mask={"choose": "f1", "tof_tolerance_ns": 12.5})
    there = on_scale_of(config, dataset(tmp_path / "d", WIDE), warn=lambda _: None)
    assert there.mask.tof_tolerance_ns == pytest.approx(125.0)
    bins = [float(build_run(c).step_settings().tof_tolerance_bins) for c in (config, there)]
    assert bins[0] == pytest.approx(bins[1])


def test_on_scale_of_what_is_refused_elsewhere_is_left(tmp_path):
    torch = config_of(tmp_path / "d", model={"name": "lhcb_torch"}, loss={"name": "hit_bce"})
    assert on_scale_of(torch, dataset(tmp_path / "d", WIDE), warn=pytest.fail) is torch
    other = dataset(tmp_path / "e", Detector(n_x=5, n_y=16, n_t=40, window_ns=3.0))
    assert on_scale_of(torch, other, warn=pytest.fail) is torch


def test_on_scale_of_source_files_have_no_scale(tmp_path):
    config = config_of(tmp_path / "d")
    (tmp_path / "hits.csv").write_text("event,x,y,t\n")
    (tmp_path / "folder").mkdir()
    for source in ("hits.csv", "folder", "none"):
        assert on_scale_of_source(config, tmp_path / source, warn=pytest.fail) is config
    dataset(tmp_path / "d", WIDE)
    assert on_scale_of_source(config, tmp_path / "d", warn=lambda _: None).detector == WIDE


def test_check_scale_names_both(tmp_path):
    store = dataset(tmp_path / "d", WIDE)
    assert check_scale(store, WIDE) is None
    with pytest.raises(
        DataError, match=r"its detector has .*window_ns = 250, the one given .*window_ns = 25; give the"
    ):
        check_scale(store, OWN)


def test_check_time_bins_only_models_of_a_module_know_ns():
    torch = build_model("lhcb_torch_tracks", shape_xyt=OWN.shape, bin_ns=OWN.bin_ns, module=ModuleSettings())
    assert check_time_bins(torch, OWN, "d") is None
    with pytest.raises(DataError, match=r"d: its time bins are 6.25 ns long, those of the model 0.625 ns"):
        check_time_bins(torch, WIDE, "d")
    assert check_time_bins(build_model("autoencoder", shape_xyt=OWN.shape, latent=2, fc=2), WIDE, "d") is None


NOISE = {"clusters": 1.0, "time_bursts": 1.0}


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"mask": {"tof_tolerance_ns": 65}}, "mask.tof_tolerance_ns = 65: at most 25, which is detector.window_ns"),
        (
            {"metrics": {"tof_tolerance_ns": 65}},
            "metrics.tof_tolerance_ns = 65: at most 25, which is detector.window_ns",
        ),
        ({"degradation": {"smear_t_ns": 25.1}}, "degradation.smear_t_ns = 25.1: at most 25"),
        ({"degradation": {"smear_t_ns": (0.0, 26.0)}}, "degradation.smear_t_ns = 26: at most 25"),
        ({"degradation": {"smear_x_mm": 661}}, "degradation.smear_x_mm = 661: at most 660, which is detector.width_mm"),
        ({"degradation": {"smear_y_mm": 54}}, "degradation.smear_y_mm = 54: at most 53, which is detector.height_mm"),
        (
            {"degradation": {"noise": NOISE | {"cluster_sigma_ns": 30}}},
            "degradation.noise.cluster_sigma_ns = 30: at most 25",
        ),
        (
            {"degradation": {"noise": NOISE | {"cluster_sigma_pixels": 17}}},
            "degradation.noise.cluster_sigma_pixels = 17: at most 16, which is detector.n_y",
        ),
        (
            {"degradation": {"noise": NOISE | {"burst_sigma_ns": 30}}},
            "degradation.noise.burst_sigma_ns = 30: at most 25",
        ),
        (
            {"model": {"name": "lhcb_torch", "lhcb_torch": {"time_sigma_ns": 30}}, "loss": {"name": "hit_bce"}},
            "model.lhcb_torch.time_sigma_ns = 30: at most 25",
        ),
        (
            {
                "train": {"epochs": 3},
                "schedules": {"degradation.smear_t_ns": {"kind": "linear", "start": 0, "end": 65}},
            },
            "degradation.smear_t_ns = 32.5: at most 25",
        ),
    ],
)
def test_check_lengths_beyond_the_detector_are_refused(sections, said):
    with pytest.raises(ConfigError) as error:
        check_lengths(settings_from({"detector": SHAPE}, **sections))
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"mask": {"tof_tolerance_ns": 25}, "metrics": {"tof_tolerance_ns": 25}, "degradation": {"smear_t_ns": 25}},
        {"degradation": {"noise": {"cluster_sigma_ns": 30, "burst_sigma_ns": 30}}},  # of no share
        {"detector": {"window_ns": 250}, "mask": {"tof_tolerance_ns": 65}},
        {"detector": {"window_ns": 0.4}},  # shorter than the default widths of noise of no share
    ],
)
def test_check_lengths_within_the_detector_pass(sections):
    assert check_lengths(settings_from({"detector": SHAPE}, **sections)) is None
