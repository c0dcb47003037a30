"""Try to lose, damage and exhaust: what was tried, and how much of it held.

    python benchmarks/break_test.py [--flips 10000] [--minutes 30] [--out benchmarks/results/NAME.json]

Everything is done in a temporary folder, on a small run and a small dataset made for it. An attempt holds if nothing of
the user's is lost, and if damage is named on one line or has no effect on any result, bit for bit.

- flips: one bit of a byte of a run folder or dataset; half of the bytes are drawn evenly, half evenly from the files.
- cuts: a file of them cut at any length.
- kills: a simulation and a training killed at any moment; the next command finds no leftovers, and the training,
  resumed, ends with the same numbers.
- races: a folder that appears while a dataset is written, and several writers of one dataset.
- disks: the largest size that a file may have, as on a full disk.
- streams: standard streams that are closed or full.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from tofae_jax.cli import app
from tofae_jax.data.dataset import Dataset
from tofae_jax.engine.build import describe_devices
from tofae_jax.engine.checkpoints import Checkpoints
from tofae_jax.engine.checksums import checksums
from tofae_jax.engine.load import load_run, not_of, stored_shapes
from tofae_jax.runs import environment
from tofae_jax.runs.folder import RunPaths
from tofae_jax.runs.record import read_record, settings_of
from tofae_jax.runs.saved_run import read_saved

D = ("--detector.n-x", "12", "--detector.n-y", "16", "--detector.n-t", "50")
TRAIN = ("train", *D, "--data.path", "d", "--data.max-hits", "24", "--degradation.n-signal", "8")
TRAIN += (
    "--degradation.n-noise",
    "10",
    "--model.name",
    "autoencoder",
    "--loss.name",
    "acb_mse",
    "--model.autoencoder.latent",
    "4",
    "--model.autoencoder.fc",
    "16",
)
TRAIN += ("--train.batch", "16", "--train.plots", "none", "--tracking.no-tensorboard", "--checkpoints.keep", "2")
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from tofae_jax.cli import app
sys.exit(app.main(sys.argv[2:]))
"""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """what is tried, and how often"""

    flips: int = 10_000
    """bits flipped"""
    others: int = 40
    """attempts of each other kind"""
    minutes: float = 60.0
    """no part goes on beyond this"""
    seed: int = 0
    """of all draws"""
    out: str = ""
    """write the result as JSON to this file"""


class Outcome(NamedTuple):
    """One attempt."""

    kind: str
    """what came of it, e.g. `named`"""
    failure: str = ""
    """why it did not hold; empty: it held"""


class Bench:
    """A small run and dataset in a folder, and the draws of the attempts."""

    def __init__(self, folder: Path, options: Options) -> None:
        """Make them."""
        self.folder, self.rng = folder, random.Random(options.seed)
        self.ends = time.monotonic() + 60 * options.minutes
        os.chdir(folder)
        must("simulate", "d", "--events", "160", *D)
        must(*TRAIN, "--train.epochs", "2", "--runs.folder", "runs")
        [run] = (folder / "runs").iterdir()
        self.run = RunPaths(run)
        record, shapes = read_record(run)[1], stored_shapes(settings_of(run))
        with Checkpoints(self.run.checkpoints, read_only=True) as checkpoints:
            template = shapes(checkpoints.read_meta(checkpoints.numbers()[-1]))
        self.restoring: dict[str, Any] = {"template": lambda _: template, "objection": not_of(record)}
        self.whole = {place: self.results(place) for place in (self.run.checkpoints, self.run.folder, folder / "d")}

    def place_of(self, path: Path) -> Path:
        """What of the run and the dataset a file belongs to."""
        return next(place for place in self.whole if path.is_relative_to(place))

    def results(self, place: Path) -> dict[str, Any]:
        """All that commands use of a place, as checksums and values; raises what they raise, as `load_run` does."""
        if place == self.folder / "d":
            parts = Dataset(place).events()
            return {"events": [array.tobytes() for part in parts for array in jax.tree.leaves(part)], "problems": []}
        if place == self.run.checkpoints:
            said: list[str] = []
            with Checkpoints(place, read_only=True) as checkpoints:
                states = [
                    checkpoints.restore(best=best, warn=said.append, **self.restoring)[0] for best in (True, False)
                ]
            return {"states": checksums({"a": states}), "problems": said}
        saved = read_saved(place)
        return {
            "record": saved.record,
            "settings": settings_of(place),
            "history": saved.history,
            "arrays": {name: (value.dtype.str, value.tobytes()) for name, value in arrays_of(saved)},
            "problems": saved.problems,
        }

    def files(self) -> list[Path]:
        """Files of the run and the dataset that hold something."""
        places = [self.run.folder, self.folder / "d"]
        found = [path for place in places for path in place.rglob("*") if path.is_file() and path.stat().st_size]
        return sorted(found)

    def has_time(self) -> bool:
        """Whether another attempt may begin."""
        return time.monotonic() < self.ends


def arrays_of(saved: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield all arrays of a saved run by name."""
    tree = {"events": saved.events, "scores": saved.scores, "views": [view._asdict() for view in saved.views]}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path), np.asarray(leaf)


def quietly(*words: str) -> tuple[int, str]:
    """Run a command in this process; returns its code and messages."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = app.main(list(words))
    return code, said.getvalue()


def must(*words: str) -> None:
    """Run a command that has to succeed."""
    code, said = quietly(*words)
    if code:
        raise RuntimeError(f"{words}: {said}")


def apart(*words: str, folder: Path) -> subprocess.Popen[str]:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "tofae_jax", *words]
    return subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def damaged(bench: Bench, path: Path, content: bytes) -> Outcome:
    """Put other bytes into a file, and see what commands make of the folders."""
    before, place = path.read_bytes(), bench.place_of(path)
    path.write_bytes(content)
    try:
        found = bench.results(place)
    except (ValueError, OSError) as error:
        is_one_line = "\n" not in str(error) and str(error).strip()
        return Outcome("named", "" if is_one_line else f"{path}: {error!r}")
    except BaseException as error:
        return Outcome("crashed", f"{path}: {error!r}")
    finally:
        path.write_bytes(before)
    if found["problems"]:
        return Outcome("named")
    whole = bench.whole[place]
    same = {key: found[key] == whole[key] for key in found}
    if path == bench.run.metrics and found["history"] == whole["history"][:-1]:  # its last line is taken for torn
        same["history"] = True
    if all(same.values()):
        return Outcome("without effect")
    return Outcome("used", f"{path}: other {[key for key, value in same.items() if not value]}")


def flips(bench: Bench, number: int) -> Iterator[Outcome]:
    """Flip single bits."""
    files = bench.files()
    sizes = [path.stat().st_size for path in files]
    for index in range(number):
        path = bench.rng.choices(files, sizes if index % 2 else None)[0]
        content = bytearray(path.read_bytes())
        content[bench.rng.randrange(len(content))] ^= 1 << bench.rng.randrange(8)
        yield damaged(bench, path, bytes(content))


def cuts(bench: Bench, number: int) -> Iterator[Outcome]:
    """Cut files short."""
    for _ in range(number):
        path = bench.rng.choice(bench.files())
        content = path.read_bytes()
        yield damaged(bench, path, content[: bench.rng.randrange(len(content))])


def kills(bench: Bench, number: int) -> Iterator[Outcome]:
    """Kill a simulation, and a training that is then resumed."""
    whole = None
    for index in range(number):
        place = Path(tempfile.mkdtemp(dir=bench.folder))
        if index % 4:
            run = apart("simulate", "out", "--events", "100000", *D, folder=place)
            time.sleep(bench.rng.uniform(0.3, 3.0))
            run.kill()
            run.communicate()
            quietly("simulate", str(place / "next"), "--events", "3", *D)
            left = sorted(name for name in os.listdir(place) if name not in ("out", "next"))
            is_whole = not (place / "out").exists() or len(Dataset(place / "out")) == 100_000
            yield Outcome("killed", "" if is_whole and not left else f"left behind: {left}")
            continue
        whole = whole or _trained(bench, place / "whole")
        yield _killed_training(bench, place / "runs", whole)


def _train_words(bench: Bench, runs: Path) -> tuple[str, ...]:
    return (*TRAIN, "--train.epochs", "3", "--runs.folder", str(runs), "--checkpoints.every-epochs", "1")


def _trained(bench: Bench, runs: Path) -> dict[str, Any]:
    quietly(*_train_words(bench, runs))
    [run] = runs.iterdir()
    return checksums({"variables": load_run(run, best=False).variables})


def _killed_training(bench: Bench, runs: Path, whole: dict[str, Any]) -> Outcome:
    run = apart(*_train_words(bench, runs), folder=bench.folder)
    time.sleep(bench.rng.uniform(4.0, 14.0))
    run.kill()
    run.communicate()
    found = list(runs.iterdir()) if runs.exists() else []
    if not found or not (found[0] / "run.json").exists():
        return Outcome("killed before it began")
    code, said = quietly("train", "--resume", str(found[0]))
    if code and "finished after 3 epochs" not in said:
        return Outcome("resumed", f"code {code}: {said}")
    same = checksums({"variables": load_run(found[0], best=False).variables}) == whole
    return Outcome("resumed", "" if same else "other weights")


def races(bench: Bench, number: int) -> Iterator[Outcome]:
    """Have something appear at the place of an output, or several write there."""
    for index in range(number):
        place = Path(tempfile.mkdtemp(dir=bench.folder))
        n_writers = 1 + 2 * (index % 2)
        runs = [apart("simulate", "out", "--events", "60000", *D, folder=place) for _ in range(n_writers)]
        if n_writers == 1:
            time.sleep(bench.rng.uniform(0.0, 2.5))
            try:
                (place / "out").mkdir()
                (place / "out" / "thesis.txt").write_text("mine")
            except FileExistsError:  # it was quicker
                runs[0].communicate()
                yield Outcome("too late")
                continue
        codes = sorted((run.communicate(), run.returncode)[1] for run in runs)
        kept = n_writers > 1 or (place / "out" / "thesis.txt").read_text() == "mine"
        expected = [0, 2, 2] if n_writers > 1 else [2]
        left = [name for name in os.listdir(place) if name != "out"]
        yield Outcome("refused", "" if kept and codes == expected and not left else f"codes {codes}, left {left}")


def disks(bench: Bench, number: int) -> Iterator[Outcome]:
    """Limit the size of files at which commands can write nothing more."""
    commands = [
        ("simulate", "out", "--events", "20000", *D),
        *[("convert", "d", f"out{ending}") for ending in (".csv", ".npz", ".root", ".parquet", ".arrow", ".h5")],
        ("report", str(bench.run.folder), "--out", "out.html"),
    ]
    for index in range(number):
        place = Path(tempfile.mkdtemp(dir=bench.folder))
        shutil.copytree(bench.folder / "d", place / "d")
        limit = str(bench.rng.randrange(10, 9000))
        words = commands[index % len(commands)]
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, limit, *words], cwd=place, capture_output=True, text=True, check=False
        )
        left = sorted(set(os.listdir(place)) - {"d"})
        held = done.returncode == 1 and len(done.stderr.splitlines()) == 1 and not left
        fitted = done.returncode == 0 and left
        why = f"{words[:3]} at {limit}: code {done.returncode}, left {left}, {done.stderr[-300:]!r}"
        yield Outcome("it fitted" if fitted else "one line", "" if held or fitted else why)


def streams(bench: Bench, number: int) -> Iterator[Outcome]:
    """Close standard streams, or fill them."""
    words = f"{sys.executable} -m tofae_jax"
    lines = [
        f"{words} --help > /dev/full",
        f"{words} inspect d --plots none > /dev/full",
        f"{words} inspect d --plots none >&-",
        f"{words} inspect d --plots none >&- 2>&-",
        f"{words} inspect d --plots none <&-",
        f"{words} inspect d --plots none | head -1",
    ]
    for index in range(min(number, len(lines))):
        done = subprocess.run(
            ["bash", "-c", lines[index]], cwd=bench.folder, capture_output=True, text=True, check=False
        )
        held = "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 1
        yield Outcome("one line", "" if held else f"{lines[index]}: {done.stderr[-300:]!r}")


PARTS: dict[str, Callable[[Bench, int], Iterator[Outcome]]] = {
    "flips": flips,
    "cuts": cuts,
    "kills": kills,
    "races": races,
    "disks": disks,
    "streams": streams,
}


def break_test(options: Options) -> dict[str, Any]:
    """Carry out all attempts; returns what was tried, what came of it, and what did not hold, by part."""
    before = Path.cwd()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder).resolve(), options)
        try:
            for name, part in PARTS.items():
                began, kinds, failures = time.monotonic(), Counter(), []
                for outcome in part(bench, options.flips if name == "flips" else options.others):
                    kinds[outcome.kind] += 1
                    failures += [outcome.failure] if outcome.failure else []
                    if not bench.has_time():
                        break
                tried = sum(kinds.values())
                results[name] = {
                    "tried": tried,
                    "held": tried - len(failures),
                    "outcomes": dict(kinds),
                    "failures": [text.replace(folder, "") for text in failures[:20]],
                    "seconds": round(time.monotonic() - began, 1),
                }
        finally:
            os.chdir(before)
    return results


def main(options: Options) -> None:
    """Print the table, and write the result."""
    results = break_test(options)
    table = Table("part", "tried", "held", "outcomes", "seconds")
    for name, part in results.items():
        outcomes = ", ".join(f"{kind} {n}" for kind, n in part["outcomes"].items())
        table.add_row(name, str(part["tried"]), str(part["held"]), outcomes, f"{part['seconds']:g}")
    console = Console()
    console.print(table)
    for name, part in results.items():
        for failure in part["failures"]:
            console.print(f"{name}: {failure}", markup=False)
    if options.out:
        about = {"versions": environment.versions(), "system": environment.system_information(describe_devices())}
        Path(options.out).write_text(
            json.dumps(about | {"options": msgspec.to_builtins(options), "parts": results}, indent=1)
        )


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    main(tyro.cli(Options))
