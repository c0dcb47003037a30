"""The command line: `python -m tofae_jax COMMAND`. Whatever a command needs is imported inside it.

A user's mistake gives one line on stderr that names it, and exit code 2; a run that fails gives one line and code 1.
Results go to stdout, all else to stderr.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from tofae_jax.config import Config, ConfigError, checked, read_toml
from tofae_jax.config import commands as c

if TYPE_CHECKING:
    from tofae_jax.data.files.predecessor_checkpoint import PredecessorCheckpoint

PROGRAM = "tofae_jax"
DEFAULT_RECIPE = "demo.toml"
DEBUG_VARIABLE = "TOFAE_JAX_DEBUG"
EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}  # of runs that a signal stopped, as shells have it
S = TypeVar("S", bound=msgspec.Struct)


def recipes_folder() -> Path:
    """Where the recipes are: inside an installed package, or beside it in a source tree."""
    package = Path(__file__).resolve().parent
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def parse(kind: type[S], argv: Sequence[str], *, command: str, default: S | None = None, about: str = "") -> S:
    """Typed settings from the command line; ConfigError in one line for whatever is wrong with it."""
    import tyro

    said = io.StringIO()
    options: Any = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(said):
            settings = tyro.cli(
                kind, args=list(argv), prog=f"{PROGRAM} {command}", description=about or kind.__doc__, **options
            )
    except SystemExit as error:
        if error.code:
            raise ConfigError(f"{command}: {one_line(said.getvalue())}") from None
        raise
    return checked(settings, command)


def one_line(box: str) -> str:
    """The first words of an error that was drawn as a box, and what it thinks was meant."""
    text = re.sub(r"\[/?bold\]", "", box)
    framed = "╭" in text  # where the terminal knows no such signs, the title stands on a line of its own
    lines = [line.strip("│ ") for line in text.splitlines() if not line.startswith(("╭", "╰"))]
    parts: list[str] = [""]
    for line in lines:
        if line and not line.strip("─-"):
            parts.append("")
        else:
            parts[-1] = f"{parts[-1]} {line}".strip()
    message, *rest = parts if framed or len(parts) == 1 else parts[1:]
    message = message.partition(". Got errors:")[0]  # what each type of a union says
    message = re.sub(r"^Error parsing \w+: ", "", message)  # the name of a class, before what settings say themselves
    hint = next((re.search(r"(--\S+)", part) for part in rest if part.startswith("Perhaps you meant")), None)
    return f"{message}; perhaps you meant {hint.group(1)}" if hint else message


def train(argv: list[str]) -> int:
    """train a denoiser, evaluate it on unseen events, draw; without arguments: the demo"""
    rest = list(argv)
    recipe, resumed, parent = (_take(rest, option) for option in ("--config", "--resume", "--from"))
    if resumed and (recipe or parent):
        raise ConfigError("train: --resume goes on with a run's own settings; it takes neither --config nor --from")
    about = (
        "Train a denoiser, evaluate it on unseen events, draw. --config FILE takes settings from a TOML recipe; "
        f"without it configs/{DEFAULT_RECIPE} is used. --resume RUN goes on with an interrupted run. --from RUN "
        "starts another run from its weights, with its settings unless --config gives others. Options override all."
    )
    if recipe is None and (resumed or parent):
        from tofae_jax.runs.record import settings_of

        default = settings_of(resumed or parent or "")
    else:
        default = read_toml(recipe or recipes_folder() / DEFAULT_RECIPE, Config)
    if parent:
        optimiser = default.start.optimiser if recipe else False  # the parent's own start is not inherited
        default = msgspec.structs.replace(default, start=type(default.start)(run=parent, optimiser=optimiser))
    config = parse(Config, rest, command="train", default=default, about=about)
    from tofae_jax.engine import process

    process.prepare_process()
    from tofae_jax.engine.training import train as training
    from tofae_jax.runs.summary import outputs_table

    command = [PROGRAM, "train", *argv]
    paths, record = (
        training.resume(resumed, config, command=command) if resumed else training.train(config, command=command)
    )
    if record.results["test"]:
        print(outputs_table(record.results["test"]))
    if record.status == "stopped":
        print(f"stopped ({record.reason}) after {record.results['steps']} steps; train --resume {paths.folder} goes on")
    print(f"run folder, with plots/ and {paths.summary.name}:")
    print(paths.folder)
    return EXIT_CODES.get(record.reason, 0)


def _take(words: list[str], option: str) -> str | None:
    """The value of an option, which is taken out of the words; None where it is not given."""
    for i, word in enumerate(words):
        if word == option:
            value = words[i + 1] if i + 1 < len(words) else ""
            del words[i : i + 2]
        elif word.startswith(f"{option}="):
            value = words.pop(i).partition("=")[2]
        else:
            continue
        if not value or value.startswith("--"):
            raise ConfigError(f"train: {option} needs a value")
        return value
    return None


def simulate(argv: list[str]) -> None:
    """simulate labelled patterns into a new dataset"""
    settings = parse(c.SimulateCommand, argv, command="simulate")
    from tofae_jax.config import SimulateConfig
    from tofae_jax.engine.events import write_simulation

    names = ("pattern", "events", "tracks", "seed", "lhcb_torch")
    dataset = write_simulation(
        settings.out,
        SimulateConfig(**{name: getattr(settings, name) for name in names}),
        detector=settings.detector,
        origin=(settings.origin_x, settings.origin_y, settings.origin_t),
        overwrite=settings.overwrite,
    )
    print(f"{len(dataset)} events, {dataset.description.n_hits} hits: {dataset.path}")


def convert(argv: list[str]) -> None:
    """make a dataset from files of other programs, or such a file from a dataset; a run from a .pth checkpoint"""
    settings = parse(c.ConvertCommand, argv, command="convert")
    from tofae_jax.data.convert import convert_events
    from tofae_jax.data.files.predecessor_checkpoint import read_predecessor_checkpoint

    source, out = Path(settings.src), Path(settings.out)
    if (checkpoint := read_predecessor_checkpoint(source)) is not None:
        _convert_checkpoint(settings, checkpoint, [PROGRAM, "convert", *argv])
        return
    done = convert_events(
        source, out, detector=settings.detector, overwrite=settings.overwrite, **_reading_options(settings)
    )
    if done.tally.n_outside:
        print(f"{source}: {done.tally}", file=sys.stderr)
    print(f"{done.n_events} events, {done.n_hits} hits: {out}")


def _reading_options(settings: c.SourceOptions) -> dict[str, Any]:
    """What `read_events` takes."""
    columns = msgspec.structs.asdict(settings.columns)
    further = columns.pop("further")
    return {
        "array": settings.array,
        "tree": settings.tree,
        "columns": {name: column for name, column in columns.items() if name != column},
        "further": None if further == "all" else [name for name in further.split(",") if name not in ("", "none")],
        "units": settings.units,
        "origin": settings.origin,
    }


def _convert_checkpoint(settings: c.ConvertCommand, checkpoint: PredecessorCheckpoint, command: list[str]) -> None:
    if settings.array is not None:
        raise ConfigError(f"convert: --array {settings.array}: {settings.src} is a checkpoint and has no named arrays")
    if _reading_options(settings) != _reading_options(c.ConvertCommand(src="", out="")):
        raise ConfigError(f"convert: {settings.src} is a checkpoint, for which no tree, columns or units can be chosen")
    from tofae_jax.engine import process

    process.prepare_process()
    from tofae_jax.engine.import_predecessor import predecessor_run

    _, record = predecessor_run(
        checkpoint, settings.out, detector=settings.detector, overwrite=settings.overwrite, command=command
    )
    n_parameters, epoch = record.results["parameters"], record.results["epochs"]
    print(
        f"autoencoder of {n_parameters} parameters after epoch {epoch}, {record.results['precision']}: {settings.out}"
    )


def inspect(argv: list[str]) -> int:
    """check a dataset's integrity and show what is in it"""
    settings = parse(c.InspectCommand, argv, command="inspect")
    from tofae_jax import plots
    from tofae_jax.data.dataset import Dataset
    from tofae_jax.data.inspection import describe, inspect_dataset
    from tofae_jax.data.simulated import MODULE_GENERATOR

    dataset = Dataset(settings.dataset)
    found = inspect_dataset(dataset)
    print("\n".join(describe(dataset, found)))
    if settings.plots != "none":
        name = settings.plot_file or f"runs/inspect-{dataset.path.resolve().name}.png"
        is_ours = dataset.provenance.get("generator") == MODULE_GENERATOR
        angles = dataset.provenance["module"]["theta_z_rad"] if is_ours else None
        figure = plots.dataset_distributions(
            found.distributions, detector=dataset.detector, row_angles_rad=tuple(angles) if angles else None
        )
        path = plots.deliver(figure, Path(name), settings.plots)
        if path:
            print(f"plot saved: {path}")
    for problem in found.problems:
        print(f"problem: {problem}", file=sys.stderr)
    return 2 if found.problems else 0


def evaluate(argv: list[str]) -> None:
    """evaluate a run on events that it has not seen, and print the result as JSON"""
    settings = parse(c.EvaluateCommand, argv, command="evaluate")
    from tofae_jax.engine import process

    process.prepare_process()
    from tofae_jax.engine.evaluate import evaluate_run
    from tofae_jax.engine.operating_point import Cut

    result = evaluate_run(
        settings.run,
        data=settings.data,
        split=settings.split,
        n_signal=settings.signal,
        n_noise=settings.noise,
        smear_t_ns=settings.smear_t_ns,
        seed=settings.seed,
        save_hits=settings.save_hits,
        precision=settings.precision,
        overwrite=settings.overwrite,
        cut=Cut(settings.keep, settings.wanted, settings.score_threshold),
    )
    print(msgspec.json.format(msgspec.json.encode(result), indent=1).decode())


def denoise(argv: list[str]) -> None:
    """denoise measured events into a file of hits with columns event, x, y, t, those of the input, and score"""
    settings = parse(c.DenoiseCommand, argv, command="denoise")
    from tofae_jax.engine import process

    process.prepare_process()
    from tofae_jax.data.files.units import Tally
    from tofae_jax.engine.denoise import denoise_run
    from tofae_jax.engine.operating_point import Cut
    from tofae_jax.runs.messages import warn

    *run, source, output = settings.places
    report = denoise_run(
        run[0] if run else None,
        source,
        output,
        model=settings.model,
        tracks=settings.tracks,
        all_hits=settings.all_hits,
        cut=Cut(settings.keep, settings.wanted, settings.score_threshold, settings.tof_tolerance_ns),
        precision=settings.precision,
        overwrite=settings.overwrite,
        **_reading_options(settings),
    )
    if report.hits_outside:
        n_read = report.hits + report.hits_outside
        print(f"{source}: {Tally(n_read, report.hits_outside)}", file=sys.stderr)
    for n, what in ((report.tracks_unused, "tracks have no event"), (report.events_without_tracks, "events no track")):
        if n:
            warn(f"{settings.tracks}: {n} {what}")
    if 2 * report.events_emptied > report.events:
        warn(f"{source}: no hit was kept of {report.events_emptied} of {report.events} events; {_why(settings)}")
    print(msgspec.json.encode(report._asdict()).decode())


def _why(settings: c.DenoiseCommand) -> str:
    """What to look at where nearly nothing is kept."""
    if settings.tracks is not None:
        return f"do they belong to {settings.tracks}, its impact points and windows to this module?"
    return "is the model made for such events?"


def lineage(argv: list[str]) -> None:
    """show which run started from which, with training time and metrics along each line"""
    settings = parse(c.LineageCommand, argv, command="lineage")
    from tofae_jax.runs.lineage import family_tree, read_family

    print(family_tree(read_family(settings.runs), metric=settings.metric))


def report(argv: list[str]) -> None:
    """tell about a run, or compare several, in one HTML file that opens offline; also PDF, PNG, CSV, XLSX"""
    settings = parse(c.ReportCommand, argv, command="report")
    from tofae_jax.runs.report.write import Wanted, write_report

    places = {name: Path(path) for name in Wanted._fields if (path := getattr(settings, name)) is not None}
    for path in write_report(
        settings.runs,
        Wanted(**places),
        mode=settings.plots,
        overwrite=settings.overwrite,
        say=lambda message: print(message, file=sys.stderr),
    ):
        print(path)


COMMANDS: dict[str, Callable[[list[str]], int | None]] = {
    "simulate": simulate,
    "convert": convert,
    "inspect": inspect,
    "train": train,
    "evaluate": evaluate,
    "denoise": denoise,
    "report": report,
    "lineage": lineage,
}


def usage() -> str:
    """What `--help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.__doc__}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: python -m {PROGRAM} COMMAND [OPTIONS]",
            "",
            "Denoise sparse time-of-flight detector events.",
            "",
            "commands:",
            *lines,
            "",
            f"python -m {PROGRAM} COMMAND --help lists the options of a command.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    name, *rest = words
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; perhaps you meant {close[0]}" if close else ""
        return _fail(f"there is no command {name!r}{hint} (known: {', '.join(COMMANDS)})", 2)
    try:
        return COMMANDS[name](rest) or 0
    except KeyboardInterrupt as error:  # of `Control`, it names the signal that came again
        return _fail("interrupted", EXIT_CODES.get(str(error).partition(" ")[0], 130))
    except ValueError as error:
        return _failed(error, str(error), 2)
    except BrokenPipeError:  # of our output; the caller of all this ends quietly
        raise
    except OSError as error:
        return _failed(error, f"{error.filename or name}: {error.strerror or error}", 1)
    except Exception as error:  # a fault of ours, or of the machine
        hint = f"{DEBUG_VARIABLE}=1 in the environment shows where"
        return _failed(error, f"{type(error).__name__}: {error} ({hint})", 1)


def _failed(error: Exception, message: str, code: int) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    return _fail(message, code)


def _fail(message: str, code: int) -> int:
    print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr)
    return code
