"""Profilers, and the folders of all instruments."""

import os
import pstats
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from permissions import without_privileges

from tofae_jax.engine.monitoring.profiler import StepProfiler, python_profile
from tofae_jax.engine.monitoring.recorder import Recorder

BIG = 1 << 30


class Interrupted(Exception):
    """What goes wrong inside a context."""


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def recorder_in(folder):
    return Recorder(folder, flush_every=1, memory_cap_bytes=BIG)


def profiler_in(folder):
    return StepProfiler(folder, first_step=0, n_steps=1)


def python_profile_in(folder):
    with python_profile(folder / "profile.pstats", viewer=False, say=pytest.fail):
        pytest.fail("the block was entered")


@pytest.mark.backlog("B26")
@pytest.mark.parametrize("use", [recorder_in, profiler_in, python_profile_in])
def test_monitoring_folder_that_is_a_file_is_refused(use, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    for folder in (taken, taken / "beneath"):
        with pytest.raises(ValueError, match=f"^{folder}: not a folder that can be written: .+$"):
            use(folder)
    assert taken.read_text() == "mine"


@pytest.mark.backlog("B26")
@pytest.mark.skipif(os.name == "nt", reason="permissions of folders are a matter of POSIX")
@pytest.mark.parametrize("use", [recorder_in, profiler_in, python_profile_in])
def test_monitoring_read_only_folder_is_refused(use):
    with tempfile.TemporaryDirectory() as name:  # tmp_path lies in a folder that others may not even enter
        folder = Path(name)
        folder.chmod(0o555)
        with without_privileges():
            for path in (folder, folder / "new"):
                with pytest.raises(ValueError, match=f"^{path}: not a folder that can be written: Permission denied$"):
                    use(path)
        assert files_in(folder) == []


def traced_steps(folder):
    """Numbers of the steps that the trace in a folder names."""
    [path] = folder.rglob("*.xplane.pb")
    events = [
        event
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes
        for line in plane.lines
        for event in line.events
        if event.name == "train"
    ]
    assert all(event.duration_ns > 0 for event in events)
    return sorted(dict(event.stats)["step_num"] for event in events)


def run_steps(profiler, steps):
    double = jax.jit(lambda x: 2 * x)
    x = jnp.ones(3)
    active = []
    for step in steps:
        profiler.at_step(step, x)
        active.append(profiler.is_active)
        with profiler.step_annotation(step):
            x = double(x).block_until_ready()
    return active


@pytest.mark.backlog("B26")
def test_step_profiler_traces_the_active_steps(tmp_path):
    folder, said = tmp_path / "new" / "profile", []
    with StepProfiler(folder, first_step=2, n_steps=3, say=said.append) as profiler:
        assert run_steps(profiler, range(7)) == [False, False, True, True, True, False, False]
    assert traced_steps(folder) == [2, 3, 4]
    [line] = said
    assert line.startswith("profile of steps 2 to 4; to view it: ")
    assert line.endswith(f"tensorboard --logdir {folder}")


@pytest.mark.backlog("B26", "B38")
@pytest.mark.parametrize("error", [Interrupted, KeyboardInterrupt])
def test_step_profiler_closes_the_trace_on_every_way_out(error, tmp_path):
    said = []
    with pytest.raises(error), StepProfiler(tmp_path, first_step=0, n_steps=9, say=said.append) as profiler:
        run_steps(profiler, range(2))
        raise error
    assert traced_steps(tmp_path) == [0, 1]
    assert said[0].startswith("profile of steps 0 to 1;")
    assert not profiler.is_active
    jax.profiler.start_trace(tmp_path / "another")  # would fail if one were still open
    jax.profiler.stop_trace()


@pytest.mark.backlog("B26")
def test_step_profiler_resumed_run_starts_at_its_first_step(tmp_path):
    with StepProfiler(tmp_path, first_step=3, n_steps=2, say=lambda _: None) as profiler:
        run_steps(profiler, range(100, 105))
    assert traced_steps(tmp_path) == [100, 101]


@pytest.mark.backlog("B26")
def test_step_profiler_run_ending_in_warm_up_says_so(tmp_path):
    said = []
    with StepProfiler(tmp_path, first_step=5, n_steps=1, say=said.append) as profiler:
        run_steps(profiler, range(5))
    assert said == ["no step was profiled: training ended before step 5"]
    assert files_in(tmp_path) == []


class Pending:
    """An array that notes when it was waited for."""

    def __init__(self):
        self.waited_at = []

    def block_until_ready(self):
        self.waited_at.append(self.step)
        return self


@pytest.mark.backlog("B26")
def test_step_profiler_waits_where_the_trace_begins_and_ends(tmp_path):
    state = Pending()
    with StepProfiler(tmp_path, first_step=2, n_steps=3, say=lambda _: None) as profiler:
        for state.step in range(8):
            profiler.at_step(state.step, {"state": state})
    assert state.waited_at == [2, 5]


def test_step_profiler_bad_steps_are_named(tmp_path):
    with pytest.raises(ValueError, match="first_step is -1, must not be negative"):
        StepProfiler(tmp_path, first_step=-1, n_steps=1)
    with pytest.raises(ValueError, match="n_steps is 0, must be at least 1"):
        StepProfiler(tmp_path, first_step=0, n_steps=0)
    with pytest.raises(ValueError, match="the profiler is not open"):
        StepProfiler(tmp_path, first_step=0, n_steps=1).at_step(0)


def work():
    return sum(len(str(i)) for i in range(1000))


def profiled_functions(path):
    return {name for _, _, name in pstats.Stats(str(path)).stats}


@pytest.mark.backlog("B27")
def test_python_profile_is_read_by_pstats(tmp_path):
    path, said = tmp_path / "new" / "run.pstats", []
    with python_profile(path, viewer=False, say=said.append):
        work()
    assert "work" in profiled_functions(path)
    assert said[0] == f"Python profile: {path}; to read it: python -m pstats {path}"
    assert any("(work)" in line for line in said)
    assert not any("\n" in line for line in said)
    assert files_in(path.parent) == ["run.pstats"]


@pytest.mark.backlog("B27", "B38")
def test_python_profile_is_written_on_an_exception(tmp_path, no_viewer):
    path, said = tmp_path / "run.pstats", []
    path.write_text("old")
    with pytest.raises(Interrupted), python_profile(path, viewer=True, say=said.append):
        work()
        raise Interrupted
    assert "work" in profiled_functions(path)
    assert not any("snakeviz" in line for line in said)
    with python_profile(path, viewer=False, say=said.append):
        pass
    assert "work" not in profiled_functions(path)


@pytest.mark.backlog("B27")
def test_python_profile_over_a_folder_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match=f"^{tmp_path}: is a folder, not a file that can be written$"),
        python_profile(tmp_path, viewer=False, say=pytest.fail),
    ):
        pytest.fail("the block was entered")


@pytest.fixture
def no_viewer(monkeypatch):
    """Neither snakeviz nor a display."""
    monkeypatch.setattr("tofae_jax.engine.monitoring.profiler.find_spec", lambda _: None)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")


@pytest.fixture
def viewer(tmp_path, monkeypatch):
    """A package called snakeviz that notes what it was asked for; the file with its notes."""
    notes = tmp_path / "notes.txt"
    (tmp_path / "snakeviz").mkdir()
    (tmp_path / "snakeviz" / "__init__.py").touch()
    code = f"import sys\nopen({str(notes)!r}, 'w').write(sys.argv[1])\nsys.exit('fail' in sys.argv[1])"
    (tmp_path / "snakeviz" / "__main__.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":0")
    return notes


@pytest.mark.backlog("B27")
def test_python_profile_missing_viewer_is_named(tmp_path, no_viewer):
    path, said = tmp_path / "run.pstats", []
    with python_profile(path, viewer=True, say=said.append):
        work()
    assert said[-1] == f"the viewer snakeviz is missing: pip install snakeviz, then python -m snakeviz {path}"


@pytest.mark.backlog("B27")
def test_python_profile_opens_the_viewer_where_it_can(tmp_path, viewer):
    said = []
    with python_profile(tmp_path / "run.pstats", viewer=True, say=said.append):
        work()
    assert viewer.read_text() == str(tmp_path / "run.pstats")
    assert said[-1] == f"snakeviz shows {tmp_path / 'run.pstats'}; Ctrl-C ends it"
    with python_profile(tmp_path / "fail.pstats", viewer=True, say=said.append):
        work()
    assert said[-1] == "snakeviz failed with exit code 1"
    viewer.unlink()
    with python_profile(tmp_path / "run.pstats", viewer=False, say=said.append):
        work()
    assert not viewer.exists()


@pytest.mark.backlog("B27")
def test_python_profile_ctrl_c_closes_the_viewer_only(tmp_path, viewer, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupt)
    said = []
    with python_profile(tmp_path / "run.pstats", viewer=True, say=said.append):
        work()
    assert said[-1].endswith("Ctrl-C ends it")


@pytest.mark.backlog("B27")
def test_python_profile_without_display_opens_no_viewer(tmp_path, viewer, monkeypatch):
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    said = []
    with python_profile(tmp_path / "run.pstats", viewer=True, say=said.append):
        work()
    assert said[-1].startswith("the viewer is not opened: this machine has no display")
    assert not viewer.exists()
