"""Which run started from which."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.tree import Tree

from tofae_jax.config import leaves
from tofae_jax.core.text import visible
from tofae_jax.runs.folder import RunError
from tofae_jax.runs.messages import warn_once
from tofae_jax.runs.record import RunRecord, read_record

R = TypeVar("R")


def run_folders(places: Sequence[str | Path]) -> list[Path]:
    """The run folders at the places, each a run folder or a folder of runs; RunError where there is none."""
    found: dict[Path, None] = {}
    for place in map(Path, places):
        if not place.is_dir():
            raise RunError(f"{place}: no such folder")
        folders = [place] if (place / "run.json").is_file() else sorted(p for p in place.iterdir() if p.is_dir())
        found |= {folder.resolve(): None for folder in folders if (folder / "run.json").is_file()}
    if not found:
        raise RunError(f"{', '.join(map(str, places)) or 'no place named'}: no runs here")
    return list(found)


def readable_runs(places: Sequence[str | Path], read: Callable[[Path], R]) -> Iterator[R]:
    """Yield the runs at the places as `read` reads them; of a folder of runs, one that it cannot read is left out.

    A warning names what is left out.

    Args:
        places: each a run folder or a folder of runs.
        read: reads a run folder.

    Raises:
        ValueError: as `read`, of a run folder that is a place itself, or where no run can be read.
        RunError: there is no run.
    """
    named = {Path(place).resolve() for place in places}
    refused: list[ValueError | OSError] = []
    n_read = 0
    for folder in run_folders(places):
        try:
            run = read(folder)
        except (ValueError, OSError) as error:
            if folder in named:
                raise
            refused.append(error)
            continue
        n_read += 1
        yield run
    if refused and not n_read:
        raise refused[0]
    for error in refused:
        warn_once(f"{error}; this run is left out")


def read_family(places: Sequence[str | Path]) -> list[RunRecord]:
    """Records of all runs at the places, by start, as `readable_runs` finds them; RunError where none is."""
    found = {record.run_id: record for record in readable_runs(places, lambda folder: read_record(folder)[1])}
    return sorted(found.values(), key=lambda record: (record.started, record.run_id))


def family_of(folders: Iterable[str | Path]) -> list[RunRecord]:
    """Records of these runs, and of those beside them from which they or which from them descend, by start.

    A neighbour that cannot be read is no relative, and a warning names it.
    """
    places = [Path(folder).resolve() for folder in folders]
    records = {record.run_id: record for record in (read_record(place)[1] for place in places)}
    wanted = set(records)
    for parent in dict.fromkeys(place.parent for place in places):
        for neighbour in _readable(parent):
            records.setdefault(neighbour.run_id, neighbour)
    family = set(wanted)
    for reach in (_parents, _children):
        found = set(wanted)
        while found:
            found = {run_id for run_id in reach(found, records) if run_id in records} - family
            family |= found
    return sorted((records[run_id] for run_id in family), key=lambda record: (record.started, record.run_id))


def _readable(folder: Path) -> Iterator[RunRecord]:
    """Records in a folder of runs, as far as they can be read."""
    with contextlib.suppress(OSError):  # a run may lie where one may not look around
        for place in sorted(folder.iterdir()):
            if not (place / "run.json").is_file():
                continue
            try:
                yield read_record(place)[1]
            except (RunError, OSError) as error:
                warn_once(f"{error}; this run is left out")


def _parents(of: set[str], records: dict[str, RunRecord]) -> set[str]:
    return {parent for run_id in of if (parent := records[run_id].parent_run_id) is not None}


def _children(of: set[str], records: dict[str, RunRecord]) -> set[str]:
    return {run_id for run_id, record in records.items() if record.parent_run_id in of}


def _number(tree: Any, path: str) -> float | None:
    for name in path.split("."):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return float(tree) if isinstance(tree, int | float) else None


def check_shown_metric(records: Iterable[RunRecord], metric: str) -> None:
    """Check that a run has a number of this name among those of its test events, if any run has some.

    Raises:
        RunError: none has; the message lists the names.
    """
    tests = [test for record in records if (test := record.results.get("test"))]
    known = dict.fromkeys(name for test in tests for name, value in leaves(test) if not isinstance(value, list | str))
    names = [name for name in known if not name.startswith("intervals.")]
    if tests and metric not in known:
        raise RunError(f"metric {metric!r}: not a number of the test events; known: {', '.join(names)}")


def duration(seconds: float) -> str:
    """A time as people say it, e.g. `3.5 min`."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _line(record: RunRecord, inherited_s: float, metric: str) -> str:
    results = record.results
    own_s = results.get("training_s", 0.0)
    parts = [record.status]
    if "epochs" in results:
        parts.append(f"{results['epochs']} epochs, best {results.get('best_epoch')}")
    parts.append(duration(own_s) + (f", {duration(own_s + inherited_s)} in all" if inherited_s else ""))
    value = _number(results.get("test"), metric)
    parts.append(f"{metric} {'-' if value is None else f'{value:.4g}'}")
    return visible(f"{record.run_id}: {'; '.join(parts)}")


def family_tree(records: Iterable[RunRecord], *, metric: str = "masked.f1") -> str:
    """The records as trees of text: each run under its parent, with its own training time and that of its whole line.

    A parent that is not among them is named with `(not here)`. A run that claims to descend from itself is a root.
    """
    known = {record.run_id: record for record in records}
    children: dict[str | None, list[RunRecord]] = {}
    for record in known.values():
        children.setdefault(None if _is_own_ancestor(record, known) else record.parent_run_id, []).append(record)
    forest = Tree("", hide_root=True)

    def grow(branch: Tree, record: RunRecord, inherited_s: float) -> None:
        twig = branch.add(_line(record, inherited_s, metric))
        for child in children.get(record.run_id, []):
            grow(twig, child, inherited_s + record.results.get("training_s", 0.0))

    for root in children.get(None, []):
        grow(forest, root, 0.0)
    for missing in [parent for parent in children if parent is not None and parent not in known]:
        branch = forest.add(visible(f"{missing} (not here)"))
        for child in children[missing]:
            grow(branch, child, 0.0)
    console = Console(width=10_000, color_system=None, file=io.StringIO(), record=True, highlight=False, markup=False)
    console.print(forest)
    return "\n".join(line.rstrip() for line in console.export_text().splitlines())


def _is_own_ancestor(record: RunRecord, known: dict[str, RunRecord]) -> bool:
    seen: set[str] = set()
    current = known.get(record.parent_run_id or "")
    while current is not None and current.run_id not in seen and current is not record:
        seen.add(current.run_id)
        current = known.get(current.parent_run_id or "")
    return current is record
