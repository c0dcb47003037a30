"""The report of runs: what it says, that it opens anywhere, and that nothing in a run's folder can break it."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
from browser import open_page
from made_runs import change, make_run
from matplotlib.figure import Figure
from places import ROOT
from predecessor_files import small_tree, write_pth
from small_run import (  # noqa: F401 (fixtures)
    config,
    folder,
    inside,
    programs,
)

from tofae_jax.cli import app
from tofae_jax.core.detector import Detector
from tofae_jax.data.files.predecessor_checkpoint import read_predecessor_checkpoint
from tofae_jax.engine.import_predecessor import predecessor_run
from tofae_jax.engine.training import finish
from tofae_jax.engine.training import train as training
from tofae_jax.plots import event_viewer
from tofae_jax.plots import style as look
from tofae_jax.runs import figures
from tofae_jax.runs.figures import EVENT_FIGURES
from tofae_jax.runs.history import read_history
from tofae_jax.runs.report import html

pytestmark = pytest.mark.slow

MIB = 2**20
HOSTILE = "<script>alert(1)</script>{{ 7*7 }}$x_1$'\"\n]]>&amp;\u202e日本" + "y" * 300


def report(*words):
    return app.main(["report", *map(str, words)])


def refused(capsys, *words, code=2):
    """The one line that a bad command gives."""
    capsys.readouterr()
    assert report(*words) == code
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.strip().splitlines()
    return line


def coarse(patch):
    """Few and coarse figures, which take a third of the time."""
    patch.setattr(finish, "N_VIEWS", 2)
    patch.setitem(look._SETTINGS, "figure.dpi", 60)


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A real run with all its figures, whose data are gone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        coarse(patch)
        shutil.copytree("d", "gone")
        train = {"plots": "save", "plots_every": 1, "epochs": 2}
        settings = config(train=train, data={"path": "gone"}, instruments={"timer": True})
        paths, _ = training.train(settings, command=["tofae_jax", "train", "--a name", "x y"])
        shutil.rmtree("gone")
    return paths


@pytest.fixture(scope="module")
def alone(trained, tmp_path_factory):
    """The page of the trained run, beside its figures drawn again: neither its data nor its weights are there."""
    place = tmp_path_factory.mktemp("alone")
    copy = place / trained.folder.name
    shutil.copytree(trained.folder, copy, ignore=shutil.ignore_patterns("checkpoints", "*.png"))
    with pytest.MonkeyPatch.context() as patch:
        coarse(patch)
        assert report(copy, "--png", place / "png") == 0
    return copy / "report.html"


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The page of two unlike runs, one of which knows next to nothing, and a third that is hostile throughout."""
    place = tmp_path_factory.mktemp("compared")
    make_run(place / "a")
    make_run(place / "b", detector=Detector(), f1=0.75, parent="a")
    hostile = make_run(place / "c", with_plots=False, run_id=HOSTILE, status="failed", reason=HOSTILE, parent=HOSTILE)
    change(hostile, config__model__name=HOSTILE, results={"test": None}, command=[HOSTILE], data={"path": HOSTILE})
    hostile.metrics.write_text('{"epoch": "one", "train": 5, "validation": {"masked": []}, "time": 3}\n')
    assert report(place) == 0
    return place / "comparison.html"


@pytest.fixture
def sketched(monkeypatch):
    """Figures that are made at once, for what is not about how they look."""
    names = set(figures.plots.__all__) - {"EventView", "Against", "Units", "style"}
    for name in names - {"check_view", "hit_image", "load_views", "save_views"}:
        monkeypatch.setattr(figures.plots, name, lambda *_, **__: Figure(figsize=(4, 3)))
    drawn = {kind: (about, lambda *_, **__: Figure(figsize=(4, 3))) for kind, (about, _) in EVENT_FIGURES.items()}
    monkeypatch.setattr(figures, "EVENT_FIGURES", drawn)


def pictures(text):
    return re.findall(r'<img src="data:image/webp;base64,[^"]+" width="(\d+)" height="(\d+)" alt="([^"]*)"', text)


def is_drawn(page):
    """Whether the view in depth shows more than white."""
    html.locator("#events-plot").scroll_into_view_if_needed()
    html.wait_for_selector("#events-plot canvas")
    html.wait_for_timeout(300)
    import io

    from matplotlib.image import imread

    return bool((imread(io.BytesIO(html.locator("#events-plot").screenshot()))[..., :3] < 0.9).any(axis=2).sum() > 200)


PAGE = """() => ({
  images: [...document.images].map((image) => [image.naturalWidth, image.width, image.alt]),
  wide: [document.documentElement.scrollWidth, document.documentElement.clientWidth],
  headings: [...document.querySelectorAll("h1, h2, h3, h4")].map((heading) => Number(heading.tagName[1])),
  links: [...document.querySelectorAll("a")].map((link) => link.getAttribute("href")),
  ids: [...document.querySelectorAll("[id]")].map((element) => element.id),
  language: document.documentElement.lang,
  title: document.title,
})"""


def assert_well_made(opened, *, n_images):
    opened.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    opened.page.wait_for_timeout(300)
    found = opened.page.evaluate(PAGE)
    assert len(found["images"]) == n_images
    for natural, shown, text in found["images"]:
        assert natural > 200
        assert shown > 200  # a picture 0 pixels wide loads as well
        assert text
    assert found["wide"][0] <= found["wide"][1]
    assert found["headings"][0] == 1
    assert found["headings"].count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in zip(found["headings"], found["headings"][1:], strict=False))
    assert found["links"]
    assert all(link.startswith("#") and link[1:] in found["ids"] for link in found["links"])
    assert len(set(found["ids"])) == len(found["ids"])
    assert (found["language"], bool(found["title"].strip())) == ("en", True)
    opened.assert_clean()


@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_of_a_run_opens_offline(alone, width):
    with open_page(alone, width=width) as opened:
        assert is_drawn(opened.page)
        assert_well_made(opened, n_images=len(pictures(alone.read_text())))
        assert alone.parent.name in opened.page.inner_text("h1")


@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_of_a_comparison_opens_offline(compared, width):
    with open_page(compared, width=width) as opened:
        assert is_drawn(opened.page)
        options = opened.page.evaluate("[...document.getElementById('events-event').options].map((one) => one.text)")
        assert options == ["a, event 1", "a, event 2", "b, event 1"]
        opened.page.select_option("#events-event", "2")  # of another detector
        assert is_drawn(opened.page)
        assert_well_made(opened, n_images=len(pictures(compared.read_text())))
        assert HOSTILE.split("\n")[0] in opened.page.inner_text("main")


def test_on_paper_everything_is_open_and_nothing_is_a_button(alone):
    with open_page(alone) as opened:
        opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        opened.page.emulate_media(media="print")
        assert opened.page.evaluate("[...document.querySelectorAll('details')].every((part) => part.open)")
        assert opened.page.locator(".event-viewer").is_hidden()
        assert opened.page.locator("nav").is_hidden()
        assert opened.page.evaluate("[...document.images].every((image) => image.getBoundingClientRect().width > 200)")
        assert opened.page.pdf().startswith(b"%PDF")


def test_a_page_is_small_and_asks_for_nothing(alone, compared):
    for path in (alone, compared):
        text = re.sub("<script.*?</script>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert path.stat().st_size < 15 * MIB
        assert "default-src 'none'" in text
        assert not re.search(r'(src|href)="(?!data:|#)', text)


def test_nothing_in_a_run_is_run(compared):
    text = compared.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "{{ 7*7 }}" in text  # and not 49
    assert "&lt;p id=" not in text  # nor is what is ours escaped
    with open_page(compared, with_webgl=False) as opened:
        alerts = []
        opened.page.on("dialog", lambda dialog: alerts.append(dialog))
        opened.page.reload()
        opened.page.wait_for_timeout(300)
        assert alerts == []


def test_a_page_says_what_the_run_was(alone, trained):
    text = alone.read_text(encoding="utf-8")
    assert [name for *_, name in pictures(text)][:2] == ["comparison of outputs", "radar of metrics"]
    assert all(int(width) > 300 and int(height) > 100 for width, height, _ in pictures(text))
    for part in (trained.folder.name, "finished", "95 % confidence interval", "learning_rate", "timeline", "Lineage"):
        assert part in text
    assert "tofae_jax train &#39;--a name&#39; &#39;x y&#39;" in text  # can be pasted
    assert 'class="problem"' not in text


def test_a_comparison_marks_the_best_and_what_differs(compared):
    text = compared.read_text(encoding="utf-8")
    rows = re.findall(r'<tr><th scope="row">([^<]*)</th>(.*?)</tr>', text, flags=re.DOTALL)
    rows = dict(reversed(rows))  # the first of a name
    assert [("best" in cell) for cell in rows["F1"].split("</td>")[:3]] == [False, False, True]
    assert [("best" in cell) for cell in rows["MSE (t²/T²)"].split("</td>")[:3]] == [False, True, False]
    assert "0.65 to 0.85" in rows["F1"]
    assert "detector.n_x" in rows


@pytest.mark.backlog("B63")
def test_replotted_figures_are_the_same_to_the_byte(trained, alone):
    """From raw plot data alone."""
    drawn = {path.name: path.read_bytes() for path in trained.plots.glob("*.png")}
    assert {"curves.png", "event_1_3d.png", "latent_space.png", "timeline.png"} <= drawn.keys()
    again = alone.parent.parent / "png"
    assert {path.name: path.read_bytes() for path in again.iterdir()} == drawn


@pytest.mark.slow
def test_the_same_run_gives_the_same_files(tmp_path, sketched):
    run = make_run(tmp_path / "a")
    made = []
    for _ in range(2):
        assert report(run.folder, "--out", "r.html", "--pdf", "r.pdf", "--csv", "r.csv", "--overwrite") == 0
        made.append([(tmp_path.__class__(f"r.{ending}")).read_bytes() for ending in ("html", "pdf", "csv")])
        if not made[1:]:
            time.sleep(1.1)  # a time of day in them would differ
    assert made[0] == made[1]


@pytest.mark.slow
@pytest.mark.backlog("B61")
def test_tables_and_pages_of_hostile_runs(compared, tmp_path, capsys, sketched):
    """Every form at once, figures into folders whose names are safe."""
    openpyxl = pytest.importorskip("openpyxl")
    words = ["--out", tmp_path / "r.html", "--pdf", tmp_path / "r.pdf", "--png", tmp_path / "png"]
    words += ["--csv", tmp_path / "r.csv", "--history-csv", tmp_path / "h.csv", "--xlsx", tmp_path / "r.xlsx"]
    assert report(compared.parent, *words) == 0
    written = capsys.readouterr().out.splitlines()
    assert len(written) == len({*written}) > 20
    assert all(os.path.isfile(path) for path in written)
    folders = sorted(path.name for path in (tmp_path / "png").iterdir() if path.is_dir())
    assert folders[-2:] == ["a", "b"]
    assert re.fullmatch(r"\d_[\w.-]{1,100}", folders[0])
    content = (tmp_path / "r.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    n_figures = sum(path.endswith(".png") for path in written)
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= n_figures + 3
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["run"] for row in rows} == {"a", "b", HOSTILE}
    assert {row["masked.f1.low"] for row in rows if row["run"] == "b"} == {"0.65"}
    with (tmp_path / "h.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 3 + 3  # the third history is damaged, which was said
    sheets = openpyxl.load_workbook(tmp_path / "r.xlsx").sheetnames
    assert sheets[0] == "metrics"
    assert {"a", "b"} < {*sheets}
    assert all(len(name) <= 31 for name in sheets)


@pytest.mark.slow
def test_ids_that_are_paths_write_nowhere_else(tmp_path, sketched):
    place = tmp_path / "runs"
    for folder_name, run_id in (("a", "../../escaped"), ("b", str(tmp_path / "absolute")), ("c", "..")):
        make_run(place / folder_name, run_id=run_id, with_plots=False)
    before = {path.name for path in tmp_path.iterdir()}
    assert report(place, "--png", tmp_path / "runs" / "png") == 0
    assert {path.name for path in tmp_path.iterdir()} == before
    assert len([path for path in (place / "png").iterdir() if path.is_dir()]) == 3


STATES = {
    "stopped": {"status": "stopped", "reason": "SIGINT"},
    "failed": {"status": "failed", "reason": "TrainingError: epoch 2: loss nan", "results": {}},
    "running": {"status": "running", "ended": "", "results": {}},
    "of an older version": {"results": {"test": {"events": 3, "masked": {"f1": 0.5}}}, "sessions": [], "seeds": {}},
    "bare": {"results": {}, "config": {}, "data": {}, "system": {}, "sessions": [], "command": []},
}


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_runs_in_any_state_are_told(tmp_path, capsys, state, request):
    if state not in ("bare", "of an older version"):
        request.getfixturevalue("sketched")
    run = make_run(tmp_path / "a", with_plots=state == "stopped")
    change(run, **STATES[state])
    if state == "bare":
        run.metrics.unlink()
    assert report(run.folder, "--pdf", tmp_path / "a.pdf", "--csv", tmp_path / "a.csv") == 0
    said = capsys.readouterr()
    assert "left out" not in said.err
    text = run.report.read_text(encoding="utf-8")
    assert (">It was not evaluated" in text) == (state in ("failed", "running", "bare"))
    reason = STATES[state].get("reason")
    if reason:
        assert f'<p class="{"problem" if state == "failed" else "soft"}">{state}: {reason}</p>' in text
    if state == "of an older version":
        assert "confidence interval" not in text  # it has none
    assert "best None" not in text
    assert ">-, " not in text


@pytest.mark.slow
def test_a_run_of_the_predecessor_is_told(tmp_path, capsys):
    checkpoint = read_predecessor_checkpoint(write_pth(tmp_path / "old_epoch_3.pth", small_tree()))
    assert checkpoint is not None
    paths, _ = predecessor_run(checkpoint, tmp_path / "old", detector=Detector(n_x=8, n_y=16, n_t=40))
    make_run(tmp_path / "new")
    assert report(paths.folder) == 0
    text = paths.report.read_text(encoding="utf-8")
    assert '<p class="soft">finished: converted from old_epoch_3.pth' in text  # where it comes from is no problem
    assert "It was not evaluated" in text
    assert report(paths.folder, tmp_path / "new") == 0
    assert "left out" not in capsys.readouterr().err


FILES = ("plot_data", "plot_events", "plot_latents", "metrics", "timeline")


@pytest.mark.slow
def test_damaged_files_are_named_and_the_rest_is_told(tmp_path, capsys):
    run = make_run(tmp_path / "a")
    for name in FILES:
        getattr(run, name).write_bytes(b"{torn\n" + getattr(run, name).read_bytes()[:50])
    assert report(run.folder, "--pdf", tmp_path / "a.pdf") == 0
    said = capsys.readouterr()
    text = run.report.read_text(encoding="utf-8")
    assert "radar of metrics" in text
    for name in FILES:
        path = str(getattr(run, name))
        assert f"could not be read: {path}" in text
        assert any(line.startswith("warning: ") and path in line for line in said.err.splitlines())
    assert "Traceback" not in said.err


@pytest.mark.slow
def test_a_figure_that_fails_is_named_and_the_rest_is_drawn(tmp_path, capsys, monkeypatch, sketched):
    def broken(*_, **__):
        raise RuntimeError("no <ink>")

    monkeypatch.setattr(figures.plots, "radar", broken)
    run = make_run(tmp_path / "a")
    words = [run.folder, "--pdf", tmp_path / "a.pdf", "--png", tmp_path / "png"]
    assert report(*words) == 0
    assert capsys.readouterr().err.count("left out: radar of metrics: RuntimeError: no <ink>") == 3
    text = run.report.read_text(encoding="utf-8")
    assert "radar of metrics: left out: RuntimeError: no &lt;ink&gt;" in text
    assert "curves.png" in {path.name for path in (tmp_path / "png").iterdir()}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '"text"', '{"schema_version": 2}', '{"schema_version": 99}', b"\xff\xfe\0"]
)
def test_a_damaged_record_is_named_in_one_line(tmp_path, capsys, content):
    run = make_run(tmp_path / "a", with_plots=False)
    run.record.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert "run.json" in refused(capsys, run.folder)
    assert not run.report.exists()


def test_what_cannot_be_done_is_said_before_anything_is_drawn(tmp_path, capsys, monkeypatch):
    def never(*_, **__):
        raise AssertionError("drawn")

    monkeypatch.setattr(figures.plots, "training_curves", never)
    run = make_run(tmp_path / "a").folder
    shutil.copytree(run, tmp_path / "same")
    there = tmp_path / "there.html"
    there.touch()
    (tmp_path / "png").mkdir()
    (tmp_path / "png" / "radar.png").touch()
    (tmp_path / "empty").mkdir()
    no_place = f"{there}/x"
    for words, said in [
        ([run, "--out", "a.txt"], "--out a.txt: must end in .html"),
        ([run, "--pdf", "a.html"], "--pdf a.html: must end in .pdf"),
        ([run, "--csv", "a"], "--csv a: must end in .csv"),
        ([run, "--history-csv", "a.xlsx"], "--history-csv a.xlsx: must end in .csv"),
        ([run, "--xlsx", "a.xls"], "--xlsx a.xls: must end in .xlsx"),
        ([run, "--out", there], "exists already; give another name, or --overwrite"),
        ([run, "--csv", "a.csv", "--history-csv", "./a.csv"], "--csv is written there"),
        ([run, "--png", there], "not a folder"),
        ([run, "--png", tmp_path / "png"], "radar.png: exists already; give another name, or --overwrite"),
        ([run, "--out", f"{no_place}/a.html"], "not a folder that can be written"),
        ([run, "--pdf", f"{no_place}/a.pdf"], "not a folder that can be written"),
        ([run, "--out", "/proc/a.html"], "/proc: not a folder that can be written"),
        ([run, "--plots", "none", "--pdf", "a.pdf"], "--pdf a.pdf: not written with --plots none"),
        ([run, "--plots", "show", "--out", "a.html"], "--out a.html: not written with --plots show"),
        ([run, tmp_path / "same"], "both hold run a"),
        ([tmp_path / "nowhere"], "no such folder"),
        ([tmp_path / "empty"], "no runs here"),
        ([there], "no such folder"),
        ([], "no runs here"),
        ([run, "--nonsense"], "--nonsense"),
    ]:
        assert said in refused(capsys, *words), words
    assert not (run / "report.html").exists()


@pytest.mark.backlog("B18")
@pytest.mark.parametrize("mode", ["file", "SHOW", "", "true"])
def test_any_other_mode_is_refused_by_name(tmp_path, capsys, mode):
    run = make_run(tmp_path / "a", with_plots=False)
    line = refused(capsys, run.folder, "--plots", mode)
    assert "plots" in line
    assert all(known in line for known in ("show", "save", "both", "none"))


@pytest.mark.slow
@pytest.mark.backlog("B18")
@pytest.mark.parametrize("mode", ["show", "both"])
def test_without_a_display_one_line_says_so(tmp_path, mode):
    """And no time goes into figures that nobody will see."""
    run = make_run(tmp_path / "a", with_plots=False, results={})
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    command = [sys.executable, "-m", "tofae_jax", "report", str(run.folder), "--plots", mode]
    done = subprocess.run(
        command, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert done.stderr.count("this machine has no display") == 1
    assert run.report.exists() == (mode == "both")
    assert done.stdout.split() == ([str(run.report)] if mode == "both" else [])
    if mode == "show":
        assert "plotting" not in done.stderr


def test_a_page_without_figures_has_none(tmp_path, capsys):
    run = make_run(tmp_path / "a")
    assert report(run.folder, "--plots", "none") == 0
    assert "plotting" not in capsys.readouterr().err
    text = run.report.read_text(encoding="utf-8")
    assert "<img" not in text
    assert "unsafe-eval" not in text
    assert len(text) < 40_000
    assert "efficiency" in text
    with open_page(run.report) as opened:
        assert_well_made(opened, n_images=0)


def test_without_plotly_there_are_pictures_and_a_note(tmp_path, monkeypatch, sketched):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ModuleNotFoundError):
        event_viewer.plotly_script()
    run = make_run(tmp_path / "a")
    assert report(run.folder) == 0
    text = run.report.read_text(encoding="utf-8")
    assert "No view that can be turned, only the pictures below: interactive figures need plotly" in text
    assert "event 1 of 2, in 3-D" in [name for *_, name in pictures(text)]
    assert len(text) < 3 * MIB


def test_runs_are_told_once_however_they_are_named(tmp_path, capsys):
    run = make_run(tmp_path / "runs" / "a", with_plots=False)
    assert report(run.folder, run.folder, tmp_path / "runs", "--plots", "none") == 0
    assert capsys.readouterr().out.split() == [str(run.report)]
    assert not (tmp_path / "runs" / "comparison.html").exists()


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from tofae_jax.cli import app
sys.exit(app.main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["html", "csv", "pdf", "xlsx"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, ending):
    run = make_run(tmp_path / "a", with_plots=False)
    out = tmp_path / f"out.{ending}"
    before = {"html": b"<!DOCTYPE html>", "pdf": b"%PDF-", "xlsx": b"PK\3\4", "csv": b"a,b"}[ending]
    out.write_bytes(before)
    option = "--out" if ending == "html" else f"--{ending}"
    command = [sys.executable, "-c", LIMITED, "300", "report", str(run.folder), option, str(out), "--overwrite"]
    command += [] if ending == "pdf" else ["--plots", "none"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    target = out if ending != "pdf" else run.report  # which is written first
    assert line == f"tofae_jax: {target}: File too large"
    assert "Traceback" not in done.stderr
    assert out.read_bytes() == before
    assert not list(tmp_path.rglob("*partial"))


@pytest.mark.slow
def test_a_report_loads_no_jax_and_is_quick(tmp_path):
    run = make_run(tmp_path / "a")
    run.timeline.unlink()  # reading it takes the instruments, which load jax
    code = "import sys; from tofae_jax.cli import app; code = app.main(sys.argv[1:]); "
    code += "print(sorted({'jax', 'flax', 'grain', 'orbax', 'sklearn'} & {*sys.modules})); sys.exit(code)"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, "report", str(run.folder), "--plots", "none"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert time.monotonic() - began < 10


@pytest.mark.backlog("B19", "B52")
def test_figures_of_the_training_itself_are_there(trained):
    """Of every epoch but the last, whose figures are those of the end; and what they took is in the history."""
    record = json.loads(trained.record.read_text())
    first, last = read_history(trained.metrics)
    assert {path.name for path in trained.epoch_plots(1).iterdir()} == {
        "data.npz",
        "event_1_stages.png",
        "event_1_3d.png",
    }
    assert not trained.epoch_plots(2).exists()
    assert first["time"]["plots_share"] == pytest.approx(first["time"]["plots_s"] / first["time"]["epoch_s"])
    assert "plots_s" not in last["time"]
    told = record["results"]["plots_in_training"]
    assert told["s"] == pytest.approx(first["time"]["plots_s"])
    assert told["background_cpu_s"] > 0.1


def test_a_picture_without_a_size_would_be_found_out(tmp_path, monkeypatch, sketched):
    """The negative control: once, every picture was 0 pixels wide, and all else was well."""
    real = html.picture
    monkeypatch.setattr(html, "picture", lambda *words: real(*words)._replace(width=0, height=0))
    run = make_run(tmp_path / "a", with_plots=False)
    assert report(run.folder) == 0
    with open_page(run.report) as opened, pytest.raises(AssertionError):
        assert_well_made(opened, n_images=len(pictures(run.report.read_text())))
