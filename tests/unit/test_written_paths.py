"""Every function that writes a file or a folder returns where it is, once it is there."""

import ast
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from full_disk import largest_file
from made_runs import made_up_result, make_run, small_views
from places import ROOT
from plotted import SMALL, nothing_left_behind  # noqa: F401 (fixture)
from small_datasets import DETECTOR, events_of

from tofae_jax import plots
from tofae_jax.config import SimulateConfig
from tofae_jax.data.convert import convert_events
from tofae_jax.data.dataset_writer import write_dataset
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.data.storage.array_file import save_array
from tofae_jax.data.storage.atomic import write_text
from tofae_jax.engine.checkpoint_format import CheckpointMeta
from tofae_jax.engine.checkpoints import Checkpoints
from tofae_jax.engine.events import write_simulation
from tofae_jax.engine.monitoring.recorder import Recorder
from tofae_jax.engine.monitoring.timer import Timer
from tofae_jax.engine.operating_point import save_scores
from tofae_jax.metrics import ScoreSums
from tofae_jax.runs.arrays import save_arrays
from tofae_jax.runs.background_figures import draw_epoch
from tofae_jax.runs.event_views import save_views
from tofae_jax.runs.figure_output import deliver
from tofae_jax.runs.figures import Drawing, deliver_all
from tofae_jax.runs.folder import RunPaths, create_run_folder
from tofae_jax.runs.record import RunRecord, write_record
from tofae_jax.runs.report.html import write_page
from tofae_jax.runs.report.pdf import write_pdf
from tofae_jax.runs.report.tables import write_csv, write_history_csv, write_xlsx
from tofae_jax.runs.report.write import ReportPaths, numbers, read_runs, write_report
from tofae_jax.runs.saved_run import Latents, save_latents
from tofae_jax.runs.summary import write_summary
from tofae_jax.steps.loss_scaling import initial_scale
from tofae_jax.steps.state import TrainState

PACKAGES = ("data", "runs", "engine")
WRITES = re.compile(r"(write|save|pack|deliver|convert|export)(_|$)|(draw_epoch|simulated_dataset|predecessor_run)$")
METHODS = re.compile(r"(save|flush|export)(_|$)")
TELLS = re.compile(r"\b(Path|RunPaths|Dataset|Converted)\b")
"""types that hold a path"""
ELSEWHERE = {
    "pretrained.pack.pack_run",  # needs a trained run: tests/e2e/test_packaged_models.py
    "engine.import_predecessor.predecessor_run",  # tests/e2e/test_import_predecessor.py
}


def writers() -> dict[str, str]:
    """Public functions that write, by module, with the annotation of what they return."""
    found = {}
    for path in sorted(path for package in PACKAGES for path in (ROOT / "tofae_jax" / package).rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and WRITES.match(node.name):
                found[f"{path.parent.name}.{path.stem}.{node.name}"] = ast.unparse(node.returns)
            elif isinstance(node, ast.ClassDef):
                methods = [method for method in node.body if isinstance(method, ast.FunctionDef)]
                name = f"{path.parent.name}.{path.stem}.{node.name}"
                found |= {f"{name}.{m.name}": ast.unparse(m.returns) for m in methods if METHODS.match(m.name)}
    return found


def small_state():
    params = {"w": jnp.ones(2)}
    none = jax.tree.map(lambda leaf: None, params)
    return TrainState(jnp.int32(0), params, {}, {}, jax.random.key(0), initial_scale(1.0, in_use=False), none)


def checkpoint(folder):
    meta = {"run_id": "r", "epoch": 1, "step": 7, "batches_delivered": 7, "data_fingerprint": "x", "history": []}
    meta |= {"package_versions": {}, "model_name": "none", "config": {}, "precision": "float32"}
    with Checkpoints(folder) as checkpoints:
        return checkpoints.save(small_state(), CheckpointMeta(**meta), score=1.0)


def recording(folder):
    with Recorder(folder, flush_every=2, memory_cap_bytes=10**6) as recorder:
        recorder.record(1, "weights", {"w": np.ones(2)})
        return recorder.flush()


def run_of(folder):
    return read_runs([folder])


def figure():
    return plots.threshold_telemetry([])


def text_of(run):
    return {"best_epoch": 1, "steps": 7, "hits_dropped": 0, "precision": "float32", "test": made_up_result()}


TINY = SimulateConfig(pattern="v", events=5)
VIEW = small_views(1)
LATENTS = Latents(np.ones((3, 2), np.float32), np.array(["v"] * 3), np.zeros((1, 7, 9), np.float32), True)
CASES = {
    "storage.array_file.save_array": lambda out, run: save_array(out / "a.npy", np.ones(2)),
    "storage.atomic.write_text": lambda out, run: write_text(out / "a.txt", "text"),
    "data.convert.convert_events": lambda out, run: convert_events(run / "hits.csv", out / "a.npz", detector=DETECTOR),
    "data.dataset_writer.write_dataset": lambda out, run: write_dataset(
        out / "d", [events_of([2, 3])], detector=DETECTOR, provenance={}
    ),
    "simulated.simulated_dataset.simulated_dataset": lambda out, run: simulated_dataset(
        out / "d", detector=DETECTOR, weights={"v": 1}, n_events=5, seed=1
    ),
    "engine.events.write_simulation": lambda out, run: write_simulation(str(out / "d"), TINY, detector=DETECTOR),
    "engine.checkpoints.Checkpoints.save": lambda out, run: checkpoint(out),
    "engine.operating_point.save_scores": lambda out, run: save_scores(
        out / "s.npz", ScoreSums(np.ones((2, 2)), np.ones((2, 2)), np.int64(4))
    ),
    "monitoring.recorder.Recorder.flush": lambda out, run: recording(out),
    "monitoring.timer.Timer.save": lambda out, run: Timer().save(out / "t.json"),
    "runs.arrays.save_arrays": lambda out, run: save_arrays(out / "a.npz", {"x": np.ones(2)}),
    "runs.background_figures.draw_epoch": lambda out, run: draw_epoch(
        RunPaths(run / "run"), 1, say=lambda _: None, warn=lambda _: None
    ),
    "runs.event_views.save_views": lambda out, run: save_views(out / "v.npz", VIEW, SMALL),
    "runs.figure_output.deliver": lambda out, run: deliver(figure(), out / "f.png", "save"),
    "runs.figures.deliver_all": lambda out, run: deliver_all(
        [Drawing("f", "a figure", figure)], out, "save", say=lambda _: None
    ),
    "runs.record.write_record": lambda out, run: write_record(RunPaths(out), RunRecord(run_id="r")),
    "runs.saved_run.save_latents": lambda out, run: save_latents(out / "l.npz", LATENTS),
    "runs.summary.write_summary": lambda out, run: write_summary(
        RunPaths(out), RunRecord(run_id="r"), text_of(run), [], parameters=[]
    ),
    "report.html.write_page": lambda out, run: write_page(out / "p.html", run_of(run / "run"), with_figures=False),
    "report.pdf.write_pdf": lambda out, run: write_pdf(out / "p.pdf", ["text"], [], say=lambda _: None),
    "report.tables.write_csv": lambda out, run: write_csv(out / "a.csv", rows(run)),
    "report.tables.write_history_csv": lambda out, run: write_history_csv(out / "a.csv", rows(run)),
    "report.tables.write_xlsx": lambda out, run: write_xlsx(out / "a.xlsx", rows(run)),
    "report.write.write_report": lambda out, run: write_report(
        [run / "run"], ReportPaths(out=out / "p.html", csv=out / "a.csv", history_csv=out / "h.csv"), mode="none"
    ),
}
"""of every writer, a call that writes into a folder, given another one with a run and a file of hits"""


def rows(folder):
    return [numbers(run) for run in run_of(folder / "run")]


def files_in(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def paths_of(returned) -> list[Path]:
    if isinstance(returned, list):
        return returned
    return [returned if isinstance(returned, Path) else returned.path]


@pytest.mark.backlog("B02")
def test_writers_all_declare_the_path_they_return():
    found = writers()
    assert {name: returned for name, returned in found.items() if not TELLS.search(returned)} == {}
    assert set(found) == set(CASES) | ELSEWHERE


@pytest.mark.slow
@pytest.mark.backlog("B02")
@pytest.mark.parametrize("name", CASES)
def test_writers_return_the_paths_that_they_wrote(name, tmp_path):
    out, given = tmp_path / "out", tmp_path / "given"
    out.mkdir()
    make_run(given / "run", with_plots=False)
    (given / "hits.csv").write_text("event,x,y,t\n0,1,2,3\n1,4,3,2\n")
    before = files_in(tmp_path)
    returned = paths_of(CASES[name](out, given))
    made = files_in(tmp_path) - before
    assert made and returned
    for path in returned:  # each is there, and new
        assert path.exists()
        assert any(file == path or path in file.parents for file in made), path
    for file in made:  # and nothing else was written
        assert any(file == path or path in file.parents for path in returned), file


@pytest.mark.parametrize("name", CASES)
def test_writers_on_a_full_disk_name_what_they_write_and_leave_nothing(name, tmp_path):
    out, given = tmp_path / "out", tmp_path / "given"
    out.mkdir()
    make_run(given / "run", with_plots=False)
    (given / "hits.csv").write_text("event,x,y,t\n0,1,2,3\n1,4,3,2\n")
    before = files_in(tmp_path)
    with largest_file(0), pytest.raises(OSError, match="File too large") as caught:
        CASES[name](out, given)
    assert tmp_path in Path(caught.value.filename).parents
    assert "partial" not in caught.value.filename
    assert files_in(tmp_path) == before


@pytest.mark.backlog("B02", "B22")
def test_create_run_folder_every_path_is_inside(tmp_path):
    paths = create_run_folder(tmp_path / "runs", "name")
    assert paths.folder.is_dir()
    for path in (*vars(paths).values(), paths.epoch_plots(3)):
        assert path == paths.folder or paths.folder in path.parents
