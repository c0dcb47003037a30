"""Options of the benchmark of quality."""

import argparse
import importlib
from types import SimpleNamespace

import pytest
from quality_benchmark import events, methods, runs, sources

bench_quality = importlib.import_module("bench_quality")


def options_of():
    names = ("signal", "noise", "time_smearing_ps", "dead_column", "methods")
    return argparse.Namespace(**dict.fromkeys(names), quick=False, robustness=False, seed=0)


def test_methods_by_data_follow_the_options():
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


def test_conditions_of_are_checked_before_computing():
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
def test_entries_runs_are_named_and_fit(monkeypatch):
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
