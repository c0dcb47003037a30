"""The same events in every format give the same dataset, or a refusal: never other hits, numbers or values."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import uproot
from hit_files import LARGE, WRITTEN, rows_of
from hit_files import write_flat as write_by_library
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tofae_jax.data.convert import convert_events
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.events import DataError, Events, concatenate
from tofae_jax.data.files.read import read_events

ENDINGS = (".csv", ".npz", *WRITTEN)
NUMBER_TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
VALUE_TYPES = ("?", *NUMBER_TYPES)


def integers_of(kind: str) -> st.SearchStrategy:
    """Integers of a type, its extremes often."""
    if kind.startswith("f"):
        limit = 2 ** (np.finfo(kind).nmant + 1)
        return st.one_of(st.integers(0, 100), st.integers(limit - 3, limit + 3), st.just(2**60))
    low, high = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    return st.one_of(
        st.integers(low, high), st.integers(0, min(high, 9)), st.sampled_from([low, low + 1, high - 1, high])
    )


@st.composite
def tables(draw) -> dict[str, np.ndarray]:
    """One row per hit: events of 1 to 3 hits with any numbers of any type, and a column of any values."""
    kind = draw(st.sampled_from(NUMBER_TYPES))
    numbers = draw(st.lists(integers_of(kind), min_size=1, max_size=5, unique_by=np.dtype(kind).type))
    if draw(st.integers(0, 3)):  # most files are in order
        numbers = sorted(number for number in numbers if number >= 0) or [0]
    counts = draw(st.lists(st.integers(1, 3), min_size=len(numbers), max_size=len(numbers)))
    event = np.repeat(np.array(numbers, kind), counts)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    columns = {"event": event, "x": rng.integers(0, 32767, len(event)), "y": rng.integers(0, 32767, len(event))}
    columns["t"] = rng.integers(1, 32768, len(event))
    value = draw(st.sampled_from(VALUE_TYPES))
    bits = rng.integers(0, 256, len(event) * np.dtype(value).itemsize, dtype=np.uint8).view(value)
    columns["value"] = rng.random(len(event)) < 0.5 if value == "?" else bits
    return columns


def text_of(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def write(path: Path, columns: dict[str, np.ndarray]) -> Path:
    """The table as users of each format write it, by other programs than ours."""
    if path.suffix == ".csv":
        rows = zip(*(values.tolist() for values in columns.values()), strict=True)
        lines = [",".join(map(text_of, row)) for row in rows]
        path.write_text("\n".join([",".join(columns), *lines]) + "\n")
    elif path.suffix == ".npz":
        np.savez(path, **columns)
    elif path.suffix == ".root":
        with uproot.recreate(path) as file:
            file["tree"] = columns
    else:
        write_by_library(path, columns)
    return path


def through_dataset(path: Path) -> Events | str:
    """The events of the dataset that a file becomes, or why it is refused."""
    out = path.with_suffix(path.suffix + ".dataset")
    try:
        convert_events(path, out, detector=LARGE)
    except DataError as error:
        assert not out.exists()
        return str(error)
    return concatenate(Dataset(out).events())


def expected_events(columns: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of event, x, y, t, and the values: events in the order of the file."""
    rows = [[int(number) for number in columns["event"].tolist()], *(columns[name].tolist() for name in "xyt")]
    return np.array(rows, object).T, columns["value"]


def assert_same(found: Events, columns: dict[str, np.ndarray], *, is_text: bool) -> None:
    rows, values = expected_events(columns)
    assert [list(map(int, row)) for row in rows_of(found)] == rows.tolist()
    value = found.hit_columns["value"]
    if is_text:  # text has no types: the values are the same, in a type that holds them
        np.testing.assert_array_equal(value.astype(values.dtype), values)
    else:
        assert value.dtype == values.dtype
        np.testing.assert_array_equal(value, values)


def may_be_refused(columns: dict[str, np.ndarray]) -> bool:
    """Whether event numbers fall, are negative, or are more than int64 or their float type can tell apart."""
    numbers = [int(number) for number in columns["event"].tolist()]
    kind = columns["event"].dtype
    limit = 2 ** (np.finfo(kind).nmant + 1) if kind.kind == "f" else 2**63
    return numbers != sorted(numbers) or numbers[0] < 0 or numbers[-1] >= limit


@pytest.mark.slow
@settings(max_examples=120)
@given(tables())
@example({"event": np.array([2**63], "u8"), "x": np.ones(1, int), "y": np.ones(1, int), "t": np.ones(1, int)})
@example({"event": np.array([2**24 + 2.0], "f4"), "x": np.ones(1, int), "y": np.ones(1, int), "t": np.ones(1, int)})
def test_any_table_in_every_format_gives_the_same_dataset(columns):
    columns = {"value": np.zeros(len(columns["event"])), **columns}
    with TemporaryDirectory() as folder:
        results = {ending: through_dataset(write(Path(folder) / f"hits{ending}", columns)) for ending in ENDINGS}
    for ending, found in results.items():
        if isinstance(found, Events):
            assert_same(found, columns, is_text=ending == ".csv")
            continue
        assert f"hits{ending}: " in found
        assert may_be_refused(columns), f"{ending}: {found}"


@pytest.mark.slow
@settings(max_examples=60)
@given(tables(), st.sampled_from(ENDINGS), st.sampled_from(ENDINGS))
def test_any_table_is_the_same_after_two_conversions(columns, first, second):
    """From a foreign file into ours and into ours of another format: the numbers and values of the first."""
    with TemporaryDirectory() as folder:
        path = write(Path(folder) / f"in{first}", columns)
        try:
            for out in (Path(folder) / f"a{second}", Path(folder) / f"b{first}"):
                convert_events(path, out, detector=LARGE)
                path = out
        except DataError:
            assert may_be_refused(columns)
            return
        found = concatenate(read_events(path, detector=LARGE))
    assert_same(found, columns, is_text=".csv" in (first, second))
