"""The history of a run."""

import pytest

from tofae_jax.runs.history import read_history


def test_read_history_damaged_line_is_named(tmp_path):
    path = tmp_path / "m.jsonl"
    assert read_history(path) == []
    for damaged in (b"{", b"\xff", b"3", b'"epoch"', b"\0\0"):
        path.write_bytes(b'{"epoch": 1}\n' + damaged + b'\n{"epoch": 3}\n')
        with pytest.raises(ValueError, match=r"m\.jsonl: line 2 is damaged") as caught:
            read_history(path)
        assert "\n" not in str(caught.value)
