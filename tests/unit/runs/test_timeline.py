"""Timelines on disk."""

import pytest

from tofae_jax.runs.timeline import read_timeline


def test_read_timeline_other_file_is_refused(tmp_path):
    path = tmp_path / "timeline.json"
    with pytest.raises(ValueError, match=f"^{path}: cannot be read as a timeline: "):
        read_timeline(path)
    for content in (b"", b"{", b"[]", b'{"spans": 3}', b"\xff"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"^{path}: damaged: "):
            read_timeline(path)
    path.write_text('{"schema_version": 99, "totals": {}, "problems": {}, "n_not_kept": 0, "spans": []}')
    with pytest.raises(ValueError, match="schema version 99 is newer than this package's 1"):
        read_timeline(path)
