"""How well signal is told from noise: filters, neighbour counts, trained runs and an oracle, on the same events.

    python benchmarks/bench_quality.py [--data v lhcb_torch ...] [--signal 10 30 100] [--noise 0 200 1000]
        [--run NAME=FOLDER ...] [--events 256] [--validation-events 128] [--methods NAME ...] [--out PREFIX] [--quick]
    python benchmarks/bench_quality.py --robustness --data lhcb_torch --run NAME=FOLDER [--methods NAME ...]

All methods get the same held-out events, which no training has seen. Settings and thresholds are chosen for the best F1
on validation events of the same data set: thresholds for each pair of counts, and settings too where that is quick,
else once, at 30 signal and 200 noise hits. With `--robustness` everything is chosen once, and the conditions change one
at a time: noise, signal, time resolution, a dead column. `PREFIX.csv`, `.json`, `.md` and `.png` hold all numbers,
tables, curves.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from quality import oracle, simulated_oracle
from quality.classical import classical_filters
from quality.comparison import DEAD_COLUMN, MethodsOf, Plan, Row, compared, hardships, withstood
from quality.events import Conditions
from quality.methods import Method, untouched
from quality.neighbours import neighbour_cut
from quality.output import markdown, write_all
from quality.runs import Run
from quality.sources import DATA, MODULES

from tofae_jax.core.detector import Detector
from tofae_jax.engine.process import prepare_process

HARD_NOISE = (0, 50, 100, 200, 400, 700, 1000)
HARD_SIGNAL = (10, 20, 30, 50, 100)
HARD_SMEARING_PS = (0, 35, 70, 110, 150)
SIGNAL, NOISE = (10, 30, 100), (0, 100, 200, 400, 1000)
OF_ROBUSTNESS = ("input", "neighbours", oracle.NAME, simulated_oracle.NAME)
QUICK = {"events": 20, "validation_events": 20, "data": ["v"]}
QUICK_COUNTS = {"signal": [30], "noise": [200]}


def options() -> argparse.Namespace:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=256, help="test events of each data set")
    parser.add_argument("--validation-events", type=int, default=128, help="events to choose settings on")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA), metavar="NAME", help=", ".join(DATA))
    parser.add_argument("--signal", type=int, nargs="+", help="signal hits, with each noise; default: 10 30 100")
    parser.add_argument("--noise", type=int, nargs="+", help="noise hits; default: 0 100 200 400 1000")
    parser.add_argument("--time-smearing-ps", type=float, help="time resolution; default: 70 on LHCb TORCH, else 0")
    parser.add_argument("--dead-column", type=int, help="column whose hits are not seen; default: none")
    parser.add_argument(
        "--run",
        action="append",
        default=[],
        metavar="NAME=FOLDER[@DATA,…]",
        help="a trained run, or NAME=model:MODEL, perhaps for some of the data sets only; repeatable",
    )
    parser.add_argument(
        "--methods", nargs="+", metavar="NAME", help="only these, and all runs; default: all, with --robustness few"
    )
    parser.add_argument(
        "--robustness", action="store_true", help="everything chosen once, in conditions that grow hard"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the events and their draws")
    parser.add_argument("--repeats", type=int, default=3, help="timings of each method")
    parser.add_argument("--out", default="", metavar="PREFIX", help="write PREFIX.csv, .json, .md and .png")
    parser.add_argument("--quick", action="store_true", help="20 events of v, at 30 signal and 200 noise hits, no BM3D")
    return parser.parse_args()


def say(message: str) -> None:
    """To the user, on stderr."""
    print(message, file=sys.stderr, flush=True)


class Entry(NamedTuple):
    """A run in the comparison."""

    run: Run
    data: tuple[str, ...]
    """the data sets that it is compared on"""


def entries(named: Sequence[str], seed: int, tell: Callable[[str], None]) -> list[Entry]:
    """Runs from `NAME=FOLDER` or `NAME=FOLDER@DATA,…`; `tell` is told where one cannot be used."""
    found = []
    for text in named:
        name, _, place = text.partition("=")
        folder, _, only = place.rpartition("@")
        data = tuple(only.split(","))
        if not folder or not set(data) <= set(DATA):  # a folder may be called anything
            folder, data = place, DATA
        if not name or not folder:
            raise ValueError(f"run is {text!r}, allowed: NAME=FOLDER or NAME=FOLDER@DATA,…")
        run = Run(name, folder)
        run.check_detector()
        run.check_held_out(seed)
        if run.takes_tracks and not set(data) <= set(MODULES):
            tell(f"{name}: only on LHCb TORCH, as it is given tracks")
            data = tuple(one for one in data if one in MODULES)
        found.append(Entry(run, data))
    return found


def methods_by_data(chosen: argparse.Namespace, runs: Sequence[Entry]) -> MethodsOf:
    """The methods of each data set: its own oracle, and all others. ValueError for names that are not known."""
    common: list[Method] = [untouched(), *classical_filters(say), neighbour_cut()]
    if chosen.quick or chosen.robustness:
        common = [method for method in common if not method.at_reference_only]
    known = [*(method.name for method in common), oracle.NAME, simulated_oracle.NAME]
    wanted = chosen.methods or (OF_ROBUSTNESS if chosen.robustness else known)
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise ValueError(f"methods has {', '.join(unknown)}, allowed: {', '.join(known)}")

    for name in chosen.data:
        impossible = set() if name in MODULES else {simulated_oracle.NAME}
        if not set(wanted) - impossible and not any(name in entry.data for entry in runs):
            raise ValueError(f"no method is to be compared on {name}")

    def of_data(name: str) -> list[Method]:
        density = oracle.noise_density(name, seed=chosen.seed, detector=Detector())
        own = [*common, oracle.oracle(density)]
        if name in MODULES:
            own.append(simulated_oracle.simulated_oracle(density))
        own = [method for method in own if method.name in wanted]
        own += [method for entry in runs if name in entry.data for method in entry.run.methods()]
        names = [method.name for method in own]
        if repeated := sorted({one for one in names if names.count(one) > 1}):
            raise ValueError(f"run gives {', '.join(repeated)} twice; name them differently")
        return own

    return of_data


def conditions_of(chosen: argparse.Namespace) -> list[Conditions]:
    """What is asked for, checked before anything is computed. ValueError for options that do not go together."""
    counts = {"signal": chosen.signal, "noise": chosen.noise}
    others = {"time-smearing-ps": chosen.time_smearing_ps, "dead-column": chosen.dead_column}
    if chosen.robustness:
        if given := [name for name, value in (counts | others).items() if value is not None]:
            raise ValueError(f"--robustness has conditions of its own; leave out --{', --'.join(given)}")
        points = hardships(HARD_NOISE, HARD_SIGNAL, HARD_SMEARING_PS, DEAD_COLUMN)
    else:
        points = [
            Conditions(n_signal, n_noise, chosen.time_smearing_ps, chosen.dead_column)
            for n_signal in chosen.signal or SIGNAL
            for n_noise in chosen.noise or NOISE
        ]
    for point in points:
        point.check(Detector())
    return points


def recorded(chosen: argparse.Namespace) -> dict[str, Any]:
    """The options as results keep them: runs by their names, wherever they lie."""
    return vars(chosen) | {"run": [text.partition("=")[0] for text in chosen.run], "out": Path(chosen.out).name}


def main() -> None:
    """Compare, print tables, write files."""
    chosen = options()
    if chosen.quick:
        vars(chosen).update(QUICK if chosen.robustness else QUICK | QUICK_COUNTS)
    prepare_process()
    plan = Plan(chosen.events, chosen.validation_events, chosen.seed, chosen.repeats)
    plan.check()
    points = conditions_of(chosen)
    methods_of = methods_by_data(chosen, entries(chosen.run, chosen.seed, say))
    parts = (withstood if chosen.robustness else compared)(chosen.data, points, methods_of, plan, say)
    rows: list[Row] = []
    for part in parts:
        print(markdown(part), flush=True)
        rows += part
        if chosen.out:  # anew each time: what is done stays, should the rest be interrupted
            write_all(chosen.out, rows, recorded(chosen), is_robustness=chosen.robustness)
    if not rows:  # BM3D, where other counts than the usual are asked for
        raise ValueError("no method was to be compared")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"bench_quality: {error}")
