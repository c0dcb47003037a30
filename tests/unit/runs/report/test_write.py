"""A report that cannot be written is refused before anything is read."""

import sys

import pytest

from tofae_jax.runs.report import write
from tofae_jax.runs.report.write import ReportPaths, write_report


def test_write_report_missing_library_is_named_before_runs_are_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    monkeypatch.setattr(write, "read_runs", lambda _: pytest.fail("runs were read"))
    with pytest.raises(ModuleNotFoundError, match=r"^XLSX tables need openpyxl: pip install 'tofae-jax\[report\]'$"):
        write_report([tmp_path], ReportPaths(xlsx=tmp_path / "a.xlsx"))
