"""The list of file formats: every format is complete, and endings, messages and extras follow from the list."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hit_files import SMALL, assert_refused, assert_same_events, read, run_command, write
from places import ROOT

from tofae_jax.core.detector import Detector
from tofae_jax.data.convert import convert_events
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.dataset_writer import write_dataset
from tofae_jax.data.events import DataError, Events, offsets_from_counts
from tofae_jax.data.files import registry
from tofae_jax.data.files.format import Format, FormatWriter, ReadRequest
from tofae_jax.data.files.layout import OutputRows
from tofae_jax.data.files.registry import (
    FORMATS,
    endings_of_text,
    endings_with_arrays,
    endings_with_trees,
    format_of,
    readable_endings,
    table_endings,
    track_endings,
    writable_endings,
)
from tofae_jax.data.files.track_files import read_tracks

FOLDER = ROOT / "tofae_jax" / "data" / "files"


def events_with_all_columns() -> Events:
    """Events with and without hits and tracks, and columns of hits, events and tracks."""
    rng = np.random.default_rng(0)
    counts, n_tracks = np.array([2, 0, 3, 1, 0]), np.array([1, 0, 2, 0, 1])
    hits = np.stack([rng.integers(low, low + n, 6) for low, n in ((0, 4), (0, 3), (1, 10))], axis=1)
    return Events(
        hits.astype(np.int16),
        offsets_from_counts(counts),
        {"score": rng.random(6).astype(np.float32), "is_signal": rng.random(6) < 0.5, "charge": np.arange(6)},
        {"event": np.array([0, 3, 4, 10, 2**40]), "weight": rng.random(5), "kind": np.arange(5, dtype=np.int8)},
        offsets_from_counts(n_tracks),
        {"momentum": rng.random(4), "charge": np.array([-1, 1, 1, -1], np.int8)},
    )


# The list


def test_readable_endings_are_in_the_order_of_formats():
    tables = (".root", ".parquet", ".pq", ".arrow", ".feather", ".h5", ".hdf5")
    text = tuple(f"{kind}{end}" for end in ("", ".gz", ".zst", ".bz2", ".xz") for kind in (".csv", ".tsv", ".txt"))
    assert readable_endings() == (*text, ".npz", ".npy", ".pt", *tables)
    assert readable_endings("images") == (".npz", ".npy", ".pt")
    assert readable_endings("hits") == table_endings() == track_endings() == (*text, ".npz", *tables)
    assert writable_endings() == (".csv", ".csv.gz", ".csv.zst", ".npz", *tables)
    assert endings_of_text() == text
    assert endings_with_trees() == (".root", ".h5", ".hdf5")
    assert endings_with_arrays() == (".npz",)


def test_formats_endings_are_unique_and_in_lower_case():
    endings = readable_endings()
    assert len(set(endings)) == len(endings)
    assert all(re.fullmatch(r"(\.[a-z0-9]+){1,2}", ending) for ending in endings)
    for kind in FORMATS:
        for ending in kind.endings:
            assert format_of(Path(f"A{ending.upper()}")) is kind
    assert format_of(Path("a.dat")) is None


def test_formats_have_every_module_of_the_folder():
    modules = [path.stem for path in FOLDER.glob("format_*.py")]
    assert len(FORMATS) == len(modules)
    for name in modules:
        assert import_module(f"tofae_jax.data.files.{name}").FORMAT in FORMATS


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.endings[0])
def test_formats_have_one_reader_and_a_description(kind):
    assert kind.read is not None or kind.open_table is not None
    assert kind.description
    assert kind.libraries or kind.extra is None


def test_formats_need_the_libraries_of_their_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = project["optional-dependencies"]
    modules: dict[str, set[str]] = {}
    for kind in FORMATS:
        if kind.extra is not None:
            modules.setdefault(kind.extra, set()).update(name.partition(".")[0] for name in kind.libraries)
    assert modules == {extra: {re.match(r"[\w-]+", name)[0] for name in required[extra]} for extra in modules}
    (everything,) = (name for name in required["test"] if name.startswith(project["name"]))
    assert modules.keys() <= set(re.findall(r"\w+", everything.partition("[")[2]))


def test_registry_loads_no_jax_and_no_optional_library():
    optional = {name.partition(".")[0] for kind in FORMATS for name in kind.libraries}
    code = "import sys, tofae_jax.data.files.registry; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = set(answer.stdout.split())
    assert "tofae_jax.data.files.format_root" in loaded
    assert optional
    assert not loaded & {"jax", "flax", "matplotlib", *optional}


# Every format, so that a new one is tested too


@pytest.mark.parametrize("ending", writable_endings())
def test_formats_written_events_are_read_back(tmp_path, ending):
    events = events_with_all_columns()
    found = read(write(tmp_path / f"a{ending}", events))
    if format_of(Path(f"a{ending}")).is_lossless:
        assert_same_events(found, events)
        return
    is_kept = events.counts > 0
    np.testing.assert_array_equal(found.hits, events.hits)
    np.testing.assert_array_equal(found.counts, events.counts[is_kept])
    for name, values in events.hit_columns.items():
        np.testing.assert_array_equal(found.hit_columns[name].astype(values.dtype), values)
    for name, values in events.event_columns.items():
        np.testing.assert_array_equal(found.event_columns[name].astype(values.dtype), values[is_kept])


@pytest.mark.parametrize("ending", writable_endings())
def test_formats_dataset_to_file_and_back(tmp_path, ending):
    events = events_with_all_columns()
    write_dataset(tmp_path / "a", [events], detector=SMALL, provenance={})
    done = convert_events(tmp_path / "a", tmp_path / f"b{ending}", detector=Detector())
    assert (done.n_events, done.n_hits) == (events.n_events, events.n_hits)
    again = convert_events(tmp_path / f"b{ending}", tmp_path / "c", detector=SMALL)
    assert again.n_hits == events.n_hits
    (found,) = Dataset(tmp_path / "c").events()
    np.testing.assert_array_equal(found.hits, events.hits)
    if format_of(Path(f"b{ending}")).is_lossless:
        assert_same_events(found, events)


@pytest.mark.parametrize("ending", sorted(set(readable_endings()) - set(writable_endings())))
def test_formats_without_writer_are_not_written(tmp_path, ending):
    write_dataset(tmp_path / "a", [events_with_all_columns()], detector=SMALL, provenance={})
    with pytest.raises(DataError, match=f"{ending} files cannot be written") as caught:
        convert_events(tmp_path / "a", tmp_path / f"b{ending}", detector=Detector())
    assert all(writable in str(caught.value) for writable in writable_endings())


@pytest.mark.parametrize("ending", readable_endings())
def test_formats_options_are_refused_where_they_mean_nothing(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    kind = format_of(path)
    for is_allowed, option, endings in (
        (kind.has_trees, {"tree": "a"}, endings_with_trees()),
        (kind.has_named_arrays, {"array": "a"}, endings_with_arrays()),
        (kind.is_table, {"units": "physical"}, table_endings()),
    ):
        assert_refused(path, "does not exist" if is_allowed else ", ".join(map(re.escape, endings)), **option)


# Texts


def test_endings_unknown_names_all_that_are_known(tmp_path):
    assert_refused(tmp_path / "a.dat", re.escape(f"known are {', '.join(readable_endings())}"))
    with pytest.raises(DataError, match=re.escape(f"known are {', '.join(writable_endings())}")):
        write(tmp_path / "a.dat", events_with_all_columns())
    with pytest.raises(DataError, match=re.escape(f"tracks are read from {', '.join(track_endings())}")):
        read_tracks(tmp_path / "a.dat")


# A new format


def _read_toy(request: ReadRequest):
    for number, line in enumerate(request.path.read_text().splitlines()):
        hits = np.array([hit.split(",") for hit in line.split()], np.int16).reshape(-1, 3)
        yield Events(hits, offsets_from_counts([len(hits)]), {}, {"event": np.array([number])})


class _ToyWriter(FormatWriter):
    def write(self, rows: OutputRows) -> None:
        table = np.column_stack([rows.hit[name] for name in "xyt"])
        with self.path.open("a") as file:
            for start, stop in pairwise(rows.offsets):
                hits = table[start:stop]
                file.write(" ".join(",".join(map(str, hit)) for hit in hits) + "\n")


TOY = Format((".toy",), "one event per line", read=_read_toy, writer=_ToyWriter, is_lossless=False)


def test_formats_new_format_needs_no_other_change(tmp_path, monkeypatch, capsys):
    assert_refused(tmp_path / "a.toy", "unknown ending '.toy'")
    monkeypatch.setattr(registry, "FORMATS", (*FORMATS, TOY))
    events = events_with_all_columns()
    write_dataset(tmp_path / "a", [events], detector=Detector(), provenance={})
    assert run_command(capsys, "convert", tmp_path / "a", tmp_path / "a.toy")[0] == 0
    assert run_command(capsys, "convert", tmp_path / "a.toy", tmp_path / "b")[0] == 0
    (found,) = Dataset(tmp_path / "b").events()
    np.testing.assert_array_equal(found.hits, events.hits)
    np.testing.assert_array_equal(found.offsets, events.offsets)
    assert_refused(tmp_path / "a.dat", r"known are .*, \.toy$")
    with pytest.raises(DataError, match=r"unknown ending '\.dat'; known are .*, \.toy$"):
        write(tmp_path / "b.dat", events)
