"""The history of a run."""

import numpy as np
import pytest

from tofae_jax.runs.history import encoded_epoch, read_history, restore_history

EPOCHS = [{"epoch": epoch, "train": {"loss": 1 / epoch}, "hits_dropped": 0} for epoch in (1, 2, 3)]
LINES = [encoded_epoch(record).encode() for record in EPOCHS]


def test_read_history_damaged_line_is_named(tmp_path):
    path = tmp_path / "m.jsonl"
    assert read_history(path) == []
    for damaged in (b"{", b"\xff", b"3", b'"epoch"', b"\0\0", b"[" * 10**5, LINES[0].replace(b"1.0", b"2.0").strip()):
        path.write_bytes(b'{"epoch": 1}\n' + damaged + b'\n{"epoch": 3}\n')
        with pytest.raises(ValueError, match=r"m\.jsonl: line 2: damaged|m\.jsonl: line 2: is nested") as caught:
            read_history(path)
        assert "\n" not in str(caught.value)


def test_read_history_any_flipped_bit_is_found(tmp_path):
    path = tmp_path / "m.jsonl"
    rng = np.random.default_rng(0)
    content = b"".join(LINES)
    for place in rng.integers(0, len(content), 300):
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            found = read_history(path, is_sealed=True)
        except ValueError:
            continue
        assert found in (EPOCHS, EPOCHS[:-1])  # spaces, or the end of the last line, which is taken for torn


def test_read_history_lines_without_checksums_are_of_earlier_versions(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"epoch": 1}\n')
    assert read_history(path) == [{"epoch": 1}]
    with pytest.raises(ValueError, match=r"line 1: damaged: it lacks its checksum"):
        read_history(path, is_sealed=True)


@pytest.mark.parametrize(
    ("content", "restored"),
    [
        (b"".join(LINES), []),
        (b"".join(LINES[:2]), []),  # the third epoch is not in the checkpoint yet
        (None, [1, 2]),
        (b"", [1, 2]),
        (LINES[0], [2]),
        (LINES[1], [1]),
        (LINES[0] + b"nonsense\n" + LINES[2], [2]),
        (LINES[0] + LINES[1].replace(b"0.5", b"0.7") + LINES[2], [2]),
        (LINES[0] + LINES[1][:-5], [2]),
        (b"\0" * 100 + b"\n", [1, 2]),
        (LINES[0] + LINES[1] + b"nonsense\n", []),
    ],
)
def test_restore_history_from_what_a_checkpoint_knows(tmp_path, content, restored):
    path = tmp_path / "m.jsonl"
    if content is not None:
        path.write_bytes(content)
    known = [EPOCHS[0] | {"nan": float("nan")}, EPOCHS[1]]
    assert restore_history(path, known, is_sealed=True) == restored
    found = read_history(path, is_sealed=True)
    expected = [EPOCHS[0] | {"nan": None}] if 1 in restored else EPOCHS[:1]
    assert found == [*expected, *EPOCHS[1:][: len(found) - 1]] and len(found) >= 2
    assert (LINES[2] in (content or b"")) == (len(found) == 3)
