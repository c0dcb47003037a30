"""One TensorBoard server for a folder, started only when asked for and only where somebody can look at it.

A server is its own process and may outlive a run that is killed. A small file in the folder names it, so that the next
run finds it instead of starting a second one.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tofae_jax.config.documents import DocumentError, decode_json
from tofae_jax.data.storage.lock import locked_file
from tofae_jax.runs.display import missing_display

_HOST = "127.0.0.1"
_STATE, _LOG = ".dashboard.json", ".dashboard.log"
_START_LIMIT_S = 60.0  # importing TensorBoard alone takes seconds on a busy machine
_ANSWER_LIMIT_S = 3.0
_MOST_ANSWER_BYTES = 2**20
_END_LIMIT_S = 5.0
_POLL_S = 0.1


class _NotStartedError(RuntimeError):
    """The server did not come up; the message says why."""


class Dashboard:
    """A TensorBoard server that answers at `address`; a context manager that ends it, if it was started here."""

    def __init__(self, address: str, folder: Path, process: subprocess.Popen[bytes] | None) -> None:
        """`process` is None for a server that somebody else started: it is left running."""
        self.address = address
        self._folder, self._process = folder, process

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_ours(self) -> bool:
        """Whether this object started the server, and has not ended it."""
        return self._process is not None

    def close(self) -> None:
        """End the server that was started here and remove its files. A second call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            if _read_state(self._folder / _STATE).get("pid") == process.pid:
                _remove_files(self._folder)  # before the end: whoever starts one meanwhile must not find this one
        finally:
            _end(process)


def headless_reason(environment: Mapping[str, str], platform: str) -> str:
    """Why nobody can look at a browser here, as `os.environ` and `sys.platform` tell; empty if somebody can.

    An SSH session counts as headless on every system; a missing display only where there are X11 or Wayland.
    """
    if any(environment.get(name) for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")):
        return "this is an SSH session"
    return missing_display(environment, platform)


def start_dashboard(
    folder: Path, *, port: int = 0, headless_too: bool = False, say: Callable[[str], None]
) -> Dashboard | None:
    """Serve `folder`, and all runs in it, with TensorBoard on this machine only, and `say` the address once it answers.

    `port` 0 takes any free one. A server of the same folder that was started here before and still answers is used
    again, whatever its port. Returns None, having said why, without TensorBoard, on a headless machine unless
    `headless_too`, or if the server does not come up: a run needs no dashboard.
    """
    if importlib.util.find_spec("tensorboard") is None:
        say("dashboard: not started: TensorBoard is not installed (pip install tensorboard)")
        return None
    if not headless_too and (reason := headless_reason(os.environ, sys.platform)):
        say(f"dashboard: not started: {reason}")
        return None
    folder = folder.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked_file(folder / _STATE, wait=True):  # whoever starts at the same time waits, then finds the server
            address = _running(folder)
            dashboard = _start(folder, port) if address is None else Dashboard(address, folder, None)
    except (_NotStartedError, OSError) as error:
        say(f"dashboard: not started: {error}")
        return None
    say(f"dashboard: {dashboard.address}{'' if dashboard.is_ours else ' (was running already)'}")
    return dashboard


def _start(folder: Path, port: int) -> Dashboard:
    """A new server that answers; without one, nothing is left behind."""
    # -P: no module of the folder that we happen to be in
    command = [sys.executable, "-P", "-m", "tensorboard.main", "--logdir", str(folder), "--host", _HOST]
    process: subprocess.Popen[bytes] | None = None
    try:
        with (folder / _LOG).open("wb") as log:
            process = subprocess.Popen(
                [*command, "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,  # a file: a pipe that nobody reads would fill up
                start_new_session=True,  # Ctrl-C is for the run; it ends the server in its own time
                env=os.environ | {"no_grpc_proxy": "localhost,127.0.0.1"},  # a proxy would come between its two halves
            )
        address = _wait_for_answer(process, folder)
        state = {"pid": process.pid, "address": address}
        (folder / _STATE).write_text(json.dumps(state) + "\n", encoding="utf-8")
    except BaseException:
        try:
            _remove_files(folder)
        finally:
            if process is not None:
                _end(process)
        raise
    return Dashboard(address, folder, process)


def _wait_for_answer(process: subprocess.Popen[bytes], folder: Path) -> str:
    """The address, once the server answers there; _NotStartedError if it ends before or takes too long."""
    limit = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < limit:
        ended = process.poll()
        said = (folder / _LOG).read_text(encoding="utf-8", errors="replace")
        if ended is not None:
            last_line = (said.strip() or "it said nothing").splitlines()[-1]
            raise _NotStartedError(f"TensorBoard ended with exit code {ended}: {last_line}")
        found = re.search(rf"TensorBoard \S+ at (http://{re.escape(_HOST)}:\d+)", said)
        if found and _serves(found[1], folder):
            return found[1]
        time.sleep(_POLL_S)
    raise _NotStartedError(f"TensorBoard did not answer within {_START_LIMIT_S:.0f} s")


def _running(folder: Path) -> str | None:
    """The address of a server of this folder that was started here, lives and answers."""
    state = _read_state(folder / _STATE)
    pid, address = state.get("pid"), state.get("address")
    if isinstance(pid, int) and isinstance(address, str) and _is_alive(pid) and _serves(address, folder):
        return address
    return None


def _read_state(path: Path) -> dict[str, Any]:
    """What the file says; nothing if it is missing, or torn by the end of who wrote it."""
    try:
        state = decode_json(path.read_bytes())
    except (FileNotFoundError, DocumentError):
        return {}
    return state if isinstance(state, dict) else {}


def _is_alive(pid: int) -> bool:
    if os.name != "posix":  # there is no question without a signal: the answer on its port must do
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _serves(address: str, folder: Path) -> bool:
    """Whether a TensorBoard answers there and shows this folder: the port may be another program's by now."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=_ANSWER_LIMIT_S)  # asks no proxy
    try:
        connection.request("GET", "/data/environment")
        answer = decode_json(connection.getresponse().read(_MOST_ANSWER_BYTES))
        return isinstance(answer, dict) and answer.get("data_location") == str(folder)
    except (OSError, http.client.HTTPException, DocumentError):
        return False
    finally:
        connection.close()


def _remove_files(folder: Path) -> None:
    for name in (_STATE, _LOG):
        (folder / name).unlink(missing_ok=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
