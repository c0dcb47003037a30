"""Tables of runs: what CSV and XLSX give back, for ordinary, hostile and missing numbers."""

import csv
import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tofae_jax.runs.report import tables
from tofae_jax.runs.report.tables import RunNumbers, flat_cells, sheet_names, write_csv, write_history_csv, write_xlsx

ABOUT = {"status": "finished", "parameters": 123_456, "training_s": 12.5, "model": {"name": "autoencoder"}}
THIRD = 1 / 3
TEST = {
    "events": 2000,
    "loss": 0.125,
    "outputs": {"above": 3, "histogram": [1, 2, 3]},
    "masked": {"f1": 0.75, "mse": THIRD, "psnr_db": None},
    "intervals": {"masked": {"f1": [0.7, 0.8]}},
}
COLUMNS = ["run", "status", "parameters", "training_s", "model.name", "events", "loss", "outputs.above", "masked.f1"]
COLUMNS += ["masked.f1.low", "masked.f1.high", "masked.mse", "masked.psnr_db"]
HISTORY = [
    {"epoch": 1, "train": {"loss": 0.5}, "validation": {"masked": {"f1": 0.25}}},
    {"epoch": 2, "train": {"loss": 0.25}, "validation": {"masked": {"f1": float("nan")}}, "extra": True},
]
RUN = RunNumbers("20261123-a", ABOUT, TEST, HISTORY)
OTHER = RunNumbers("20261123-b", ABOUT | {"parent": "20261123-a"}, {"events": 5, "direct": {"ssim": 0.5}, "loss": 0.25})
UNTESTED = RunNumbers("20261123-c", {"status": "failed"})


def read_csv(path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def read_xlsx(path):
    openpyxl = pytest.importorskip("openpyxl")
    return openpyxl.load_workbook(path)


def values(sheet) -> list[list]:
    return [[cell.value for cell in row] for row in sheet.iter_rows()]


def test_flat_cells_names_are_dotted_ends_beside_numbers():
    assert flat_cells(TEST) == {
        "events": 2000,
        "loss": 0.125,
        "outputs.above": 3,
        "masked.f1": 0.75,
        "masked.f1.low": 0.7,
        "masked.f1.high": 0.8,
        "masked.mse": THIRD,
        "masked.psnr_db": None,
    }
    assert list(flat_cells(TEST)) == COLUMNS[5:]


def test_flat_cells_any_kind_of_value_becomes_a_plain_one():
    tree = {"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "d": np.asarray(2.0), "e": math.inf}
    flat = flat_cells(
        tree | {"f": math.nan, "g": None, "h": (1, 2), "i": np.zeros(3), "j": 1j, "k": "text", "l": 2**70}
    )
    assert flat == {
        "a": 0.5, "b": 3, "c": True, "d": 2.0, "e": None, "f": None, "g": None, "j": "1j", "k": "text", "l": 2**70,
    }  # fmt: skip
    assert [type(flat[name]) for name in "abcd"] == [float, int, bool, float]


def test_flat_cells_intervals_may_lack_their_number():
    tree = {"a": 1.0, "intervals": {"b": np.array([1, 2]), "a": None, "c": [1, 2, 3], "d": [0.5, math.nan]}}
    assert flat_cells({"test": tree}) == {
        "test.a": 1.0,
        "test.b.low": 1,
        "test.b.high": 2,
        "test.d.low": 0.5,
        "test.d.high": None,
    }


def test_write_csv_numbers_come_back_exactly(tmp_path):
    path = write_csv(tmp_path / "new" / "runs.csv", [RUN])
    assert path.read_bytes().count(b"\r\n") == 2
    header, row = read_csv(path)
    assert header == COLUMNS
    assert row[:9] == ["20261123-a", "finished", "123456", "12.5", "autoencoder", "2000", "0.125", "3", "0.75"]
    assert float(row[header.index("masked.mse")]) == THIRD
    assert row[-1] == ""
    assert [file.name for file in path.parent.iterdir()] == ["runs.csv"]


def test_result_table_runs_share_the_union_of_columns(tmp_path):
    header, *rows = read_csv(write_csv(tmp_path / "runs.csv", [RUN, OTHER, UNTESTED]))
    assert [name for name in header if name not in ("parent", "direct.ssim")] == COLUMNS
    assert header[5] == "parent"  # behind what it was, before the numbers of the test
    assert header.index("direct.ssim") == header.index("events") + 1
    found = [dict(zip(header, row, strict=True)) for row in rows]
    assert [each["run"] for each in found] == ["20261123-a", "20261123-b", "20261123-c"]
    assert (found[1]["loss"], found[1]["direct.ssim"], found[1]["masked.f1"]) == ("0.25", "0.5", "")
    assert {name for name, text in found[2].items() if text} == {"run", "status"}


def test_result_table_no_runs_gives_no_rows(tmp_path):
    assert read_csv(write_csv(tmp_path / "a.csv", [])) == [["run"]]
    assert read_csv(write_history_csv(tmp_path / "b.csv", [])) == [["run", "epoch"]]
    assert read_csv(write_history_csv(tmp_path / "b.csv", [UNTESTED])) == [["run", "epoch"]]
    book = read_xlsx(write_xlsx(tmp_path / "a.xlsx", []))
    assert (book.sheetnames, values(book["metrics"])) == (["metrics"], [["run"]])


def test_result_table_columns_of_one_name_are_told_apart(tmp_path):
    run = RunNumbers("a", {"loss": "acb_mse", "run": "b", "status": "x"}, {"loss": 0.5})
    header, first, second = read_csv(write_csv(tmp_path / "a.csv", [run._replace(test=None), run]))
    assert header == ["run", "about.loss", "about.run", "status", "loss"]
    assert (first, second) == (["a", "acb_mse", "b", "x", ""], ["a", "acb_mse", "b", "x", "0.5"])


def test_write_history_csv_has_a_row_per_epoch(tmp_path):
    second = RUN._replace(run_id="b", history=[{"epoch": 7, "seconds": 0.1, "run": "no"}, {"train": {"loss": 1e-300}}])
    header, *rows = read_csv(write_history_csv(tmp_path / "history.csv", [RUN, second]))
    assert header == ["run", "epoch", "seconds", "train.loss", "validation.masked.f1", "extra"]
    assert rows == [
        ["20261123-a", "1", "", "0.5", "0.25", ""],
        ["20261123-a", "2", "", "0.25", "", "true"],
        ["b", "7", "0.1", "", "", ""],
        ["b", "", "", "1e-300", "", ""],
    ]


@pytest.mark.parametrize("start", list("=+-@\t\r\n＝＋－＠"))
def test_write_csv_text_is_no_formula(tmp_path, start):
    text = f"{start}1+1"
    run = RunNumbers(text, {text: text, "number": -1.5, "inside": f"a{start}"})
    header, row = read_csv(write_csv(tmp_path / "a.csv", [run]))
    assert header == ["run", f"'{text}", "number", "inside"]
    assert row == [f"'{text}", f"'{text}", "-1.5", f"a{start}"]


@pytest.mark.slow
@given(cells=st.dictionaries(st.text(max_size=6), st.text() | st.floats() | st.integers() | st.none(), max_size=5))
def test_write_csv_any_row_comes_back(cells, tmp_path_factory):
    path = write_csv(
        tmp_path_factory.mktemp("table") / "a.csv", [RunNumbers("a", {f"x{k}": v for k, v in cells.items()})]
    )
    header, row = read_csv(path)
    assert header == ["run", *(f"x{name}" for name in cells)]
    for text, cell in zip(row[1:], cells.values(), strict=True):
        if isinstance(cell, str):
            assert text.removeprefix("'") == cell.removeprefix("'")
        elif cell is None or not math.isfinite(cell):
            assert text == ""
        else:
            assert type(cell)(text) == cell


def test_write_csv_undecodable_names_are_written(tmp_path):
    name = b"run\xff".decode("utf-8", "surrogateescape")
    assert read_csv(write_csv(tmp_path / "a.csv", [RunNumbers(name, {})]))[1] == ["run\\udcff"]
    assert values(read_xlsx(write_xlsx(tmp_path / "a.xlsx", [RunNumbers(name, {})]))["metrics"])[1] == ["run"]


@pytest.mark.parametrize(("write", "ending"), [(write_csv, ".csv"), (write_history_csv, ".csv"), (write_xlsx, ".xlsx")])
def test_write_table_wrong_ending_is_named(tmp_path, write, ending):
    for name in ("table", "table.txt", "table.xls"):
        with pytest.raises(ValueError, match=rf"{name}: this table needs a name that ends in '\{ending}'"):
            write(tmp_path / name, [RUN])
    assert list(tmp_path.iterdir()) == []
    assert write(tmp_path / f"table{ending.upper()}", [RUN]).is_file()


def test_write_table_failed_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("old")
    monkeypatch.setattr(tables.csv, "writer", lambda file: file.write("half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_csv(path, [RUN])
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.csv", "old")]


def test_write_xlsx_holds_all_numbers(tmp_path):
    book = read_xlsx(write_xlsx(tmp_path / "runs.xlsx", [RUN, OTHER, UNTESTED]))
    assert book.sheetnames == ["metrics", "20261123-a", "20261123-b", "20261123-c"]
    header, first, *_ = values(book["metrics"])
    expected = dict(zip(COLUMNS, ["20261123-a", *flat_cells(ABOUT).values(), *flat_cells(TEST).values()], strict=True))
    assert dict(zip(header, first, strict=True)) == expected | {"parent": None, "direct.ssim": None}
    assert values(book["20261123-a"]) == [
        ["run", "epoch", "train.loss", "validation.masked.f1", "extra"],
        ["20261123-a", 1, 0.5, 0.25, None],
        ["20261123-a", 2, 0.25, None, True],
    ]
    assert values(book["20261123-b"]) == [["run", "epoch"]]


def test_write_xlsx_can_be_read_by_people(tmp_path):
    sheet = read_xlsx(write_xlsx(tmp_path / "runs.xlsx", [RUN, OTHER]))["metrics"]
    assert sheet.freeze_panes == "B2"
    assert all(cell.font.bold for cell in sheet[1])
    assert not any(cell.font.bold for cell in sheet[2])
    formats = {sheet.cell(1, cell.column).value: cell.number_format for cell in sheet[2]}
    assert formats["parameters"] == "#,##0"
    assert formats["training_s"] == "#,##0.00"
    assert formats["masked.f1"] == "0.0000"
    widths = {column: size.width for column, size in sheet.column_dimensions.items()}
    assert len(widths) == sheet.max_column
    assert all(9 <= width <= 40 for width in widths.values())


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([1, None, 5], "#,##0"),
        ([0.5, 0.0], "0.0000"),
        ([0.5, 1e-5], "0.000E+00"),
        ([-1e9, 0.5], "0.000E+00"),
        ([None, "text", True], "#,##0"),
    ],
)
def test_write_xlsx_number_formats_show_small_and_large(numbers, expected):
    assert tables._number_format("a", numbers) == expected


def test_write_xlsx_colours_know_what_is_good(tmp_path):
    runs = [RUN._replace(test={"loss": i, "masked": {"f1": i}, "events": i}) for i in range(3)]
    sheet = read_xlsx(write_xlsx(tmp_path / "runs.xlsx", runs))["metrics"]
    header = [cell.value for cell in sheet[1]]
    found = {}
    for formatted in sheet.conditional_formatting:
        (area,) = formatted.sqref.ranges
        assert (area.min_row, area.max_row) == (2, 4)
        (rule,) = formatted.rules
        found[header[area.min_col - 1]] = [colour.rgb[-6:] for colour in rule.colorScale.color]
    assert found == {
        "loss": [tables.GOOD, tables.MIDDLE, tables.BAD],
        "masked.f1": [tables.BAD, tables.MIDDLE, tables.GOOD],
    }


def test_write_xlsx_different_losses_are_not_coloured(tmp_path):
    for losses, is_coloured in ((("mse", "mse"), True), (("mse", "bce"), False)):
        runs = [RUN._replace(about={"validation_loss": loss}, test={"loss": i}) for i, loss in enumerate(losses)]
        sheet = read_xlsx(write_xlsx(tmp_path / "runs.xlsx", runs))["metrics"]
        assert bool(list(sheet.conditional_formatting)) == is_coloured


def test_is_low_good_every_metric_has_a_direction():
    from tofae_jax.metrics import metric_names

    low = {name for name in metric_names() if tables.is_low_good(name)}
    unknown = {name for name in metric_names() if tables.is_low_good(name) is None}
    assert all(name == "events" or name.startswith(("counts.", "outputs.")) for name in unknown)
    assert {name.split(".")[-1] for name in low} == {
        "loss", "mse", "mae", "not_finite", "noise_left", "noise_made", "false_positives", "false_negatives",
        "false_positives_per_event", "false_negatives_per_event", "calibration_error",
    }  # fmt: skip
    assert not {name for name in low if name.startswith("counts.")}
    assert tables.is_low_good("masked.f1.low") is None


def test_write_xlsx_text_stays_text(tmp_path):
    hostile = ["=1+1", "+1", "#N/A", "'", "true", "1.5", "", " x ", "a\x00b\x1bc\ufffe", "é\n😀", "x" * 40_000]
    run = RunNumbers("=cmd()", {f"={i}": text for i, text in enumerate(hostile)} | {"exact": 2**53, "large": 2**53 + 1})
    book = read_xlsx(write_xlsx(tmp_path / "a.xlsx", [run]))
    assert book.sheetnames == ["metrics", "=cmd()"]
    header, row = book["metrics"].iter_rows()
    assert all(cell.data_type == "s" for cell in header)
    assert [cell.value for cell in header[:2]] == ["run", "=0"]
    found = [cell.value for cell in row]
    assert {cell.data_type for cell in row if isinstance(cell.value, str)} == {"s"}
    assert found[:6] == ["=cmd()", "=1+1", "+1", "#N/A", "'", "true"]
    assert found[7] is None
    assert (found[6], found[8], found[9], found[10]) == ("1.5", " x ", "abc", "é\n😀")
    assert found[11] == "x" * 32_766 + "…"
    assert found[12:] == [2**53, str(2**53 + 1)]


@pytest.mark.slow
def test_write_xlsx_too_large_table_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.xlsx"
    run = RunNumbers("a", {f"c{i}": i for i in range(tables.MAX_COLUMNS)})
    with pytest.raises(
        ValueError, match=r"a\.xlsx: sheet 'metrics': 16385 columns, but a sheet holds at most 16384: write CSV"
    ):
        write_xlsx(path, [run])
    monkeypatch.setattr(tables, "MAX_ROWS", 3)
    assert write_xlsx(path, [RUN]).is_file()
    with pytest.raises(ValueError, match="sheet '20261123-a': 4 rows, but a sheet holds at most 3"):
        write_xlsx(path, [RUN._replace(history=[{"epoch": i} for i in range(3)])])


def test_write_xlsx_missing_openpyxl_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ModuleNotFoundError, match=r"^XLSX tables need openpyxl: pip install 'tofae-jax\[report\]'$"):
        write_xlsx(tmp_path / "a.xlsx", [RUN])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.backlog("B61")
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "A", "ａ"], ["a", "A~2", "ａ~3"]),
        (["a", "a~2", "a"], ["a", "a~2", "a~3"]),
        (["History", "HISTORY"], ["History~2", "HISTORY~3"]),
        (["", "'", "[]:*?/\\", "\x00\n\ud800"], ["run", "run~2", "run~3", "run~4"]),
        (["'it's'", " a ", "a/b"], ["it's", "a", "ab"]),
        (["x" * 40, "x" * 41], ["x" * 31, "x" * 29 + "~2"]),
        (["x" * 30 + "'y"], ["x" * 30]),
        (["😀" * 20], ["😀" * 15]),
    ],
)
def test_sheet_names_of_hostile_runs_are_allowed(names, expected):
    assert sheet_names(names) == expected


RUN_IDS = st.text(st.characters(), max_size=40) | st.text("'[]:*?/\\ ~2aA\x00İßſ", max_size=34)


@pytest.mark.backlog("B61")
@given(names=st.lists(RUN_IDS, max_size=12))
def test_sheet_names_any_are_valid_unique_and_stable(names):
    made = sheet_names(names)
    assert len(made) == len(names)
    assert len({name.casefold() for name in made}) == len({name.lower() for name in made}) == len(made)
    for name in made:
        assert 1 <= len(name.encode("utf-16-le")) // 2 <= 31
        assert not set(name) & set("[]:*?/\\")
        assert name == name.strip("'") and name.strip()
        assert name.casefold() != "history"
        assert not [letter for letter in name if ord(letter) < 32]
    assert sheet_names(made) == made
    assert sheet_names(names[:-1]) == made[:-1][: len(names)]


@pytest.mark.slow
@pytest.mark.backlog("B61")
@given(names=st.lists(RUN_IDS, max_size=6))
def test_write_xlsx_runs_of_any_name_can_be_read(names, tmp_path_factory):
    path = write_xlsx(tmp_path_factory.mktemp("book") / "a.xlsx", [RunNumbers(name, {"n": 1}) for name in names])
    book = read_xlsx(path)
    assert book.sheetnames == sheet_names(["metrics", *names])
    assert book["metrics"].max_row == len(names) + 1
