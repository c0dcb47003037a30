"""A small part of `benchmarks/break_test.py`: every attempt holds."""

import importlib.util

import pytest
from places import ROOT


@pytest.mark.slow
def test_small_break_test_holds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("break_test", ROOT / "benchmarks" / "break_test.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    results = module.break_test(module.Options(flips=80, others=2, minutes=5, seed=1))
    assert [part["failures"] for part in results.values()] == [[]] * len(module.PARTS)
    assert all(part["held"] == part["tried"] > 0 for part in results.values())
