"""When a dashboard is started."""

import pytest

from tofae_jax.engine.monitoring import dashboard
from tofae_jax.engine.monitoring.dashboard import headless_reason, start_dashboard


def nothing_may_start(*_, **__):
    raise AssertionError("a process was started")


@pytest.mark.backlog("B36")
def test_start_dashboard_without_tensorboard_says_how(tmp_path, monkeypatch):
    monkeypatch.setattr(dashboard.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(dashboard.subprocess, "Popen", nothing_may_start)
    said = []
    assert start_dashboard(tmp_path / "new", headless_too=True, say=said.append) is None
    assert said == ["dashboard: not started: TensorBoard is not installed (pip install tensorboard)"]
    assert not (tmp_path / "new").exists()


@pytest.mark.backlog("B36")
def test_start_dashboard_headless_starts_nothing(tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(dashboard.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(dashboard.subprocess, "Popen", nothing_may_start)
    monkeypatch.setattr(dashboard.sys, "platform", "linux")
    said = []
    assert start_dashboard(tmp_path / "new", say=said.append) is None
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 22 10.0.0.2 22")
    assert start_dashboard(tmp_path / "new", say=said.append) is None
    assert [line.split(" (")[0] for line in said] == [
        "dashboard: not started: this machine has no display",
        "dashboard: not started: this is an SSH session",
    ]
    assert not (tmp_path / "new").exists()
    monkeypatch.delenv("SSH_CONNECTION")
    with pytest.raises(AssertionError, match="a process was started"):  # with a display it does start
        start_dashboard(tmp_path / "new", say=said.append)


@pytest.mark.parametrize(
    ("environment", "platform", "reason"),
    [
        ({}, "linux", "no display"),
        ({"DISPLAY": ""}, "linux", "no display"),
        ({"DISPLAY": ":0"}, "linux", ""),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "freebsd14", ""),
        ({"DISPLAY": ":10", "SSH_TTY": "/dev/pts/1"}, "linux", "SSH"),
        ({}, "darwin", ""),
        ({}, "win32", ""),
        ({"SSH_CLIENT": "10.0.0.1 5 22"}, "darwin", "SSH"),
    ],
)
def test_headless_reason_without_display_or_over_ssh(environment, platform, reason):
    answer = headless_reason(environment, platform)
    assert reason in answer
    assert bool(answer) == bool(reason)


@pytest.mark.backlog("B36")
def test_start_dashboard_bad_folder_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(dashboard.importlib.util, "find_spec", lambda name: object())
    (tmp_path / "file").write_text("")
    said = []
    assert start_dashboard(tmp_path / "file" / "tb", headless_too=True, say=said.append) is None
    (line,) = said
    assert line.startswith("dashboard: not started: ")
    assert str(tmp_path / "file") in line
