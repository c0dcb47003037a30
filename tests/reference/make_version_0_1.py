"""Make tests/reference/version_0_1.tar.xz: datasets, runs and results of version 0.1.0, before its packages moved.

The archive was made with commit 634c128, by the command line alone, so that this script does not depend on where a
function is. `python tests/reference/make_version_0_1.py OUT` with any version makes the same content; do not replace
the archive with one of a later version, or it no longer proves that old data can be read.

    git worktree add /tmp/old 634c128 && cd /tmp/old && python /path/to/make_version_0_1.py version_0_1.tar.xz
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

SMALL = ["--detector.n-x", "12", "--detector.n-y", "16", "--detector.n-t", "40"]
HITS = ["--degradation.n-signal", "8", "--degradation.n-noise", "12"]
TRAIN = ["--train.epochs", "1", "--train.batch", "8", "--train.plots", "none"]
TRAIN += ["--optimiser.schedule", "constant", "--tracking.no-tensorboard"]
SPLIT = ["--data.train-share", "0.6", "--data.validation-share", "0.2", "--data.test-share", "0.2"]
NETWORK = {
    name: value
    for size in ("width 8", "hidden 16", "layers 1", "queries 2", "value-width 4", "event-width 8", "frequencies 4")
    for name, value in [size.split()]
}
BLIND = {"laws": "2", "samples": "16", "improved": "4", "refined": "2", "searched-hits": "16"}

DATASETS = {
    "patterns": ["--pattern", "v", "--events", "80", "--seed", "1", *SMALL],
    "mixture": ["--pattern", "v=2,parabola=1,hemisphere=1", "--events", "40", "--tracks", "1", "2", *SMALL],
    "module": ["--pattern", "lhcb_torch", "--events", "20", "--lhcb-torch.module.dense-factor", "1.5"],
}


HIT_BCE = ["--loss.name", "hit_bce"]
RUNS = {
    "autoencoder": ("patterns", [*SMALL, "--loss.name", "acb_mse"], {"latent": "4", "fc": "8"}),
    "unet": ("patterns", [*SMALL, *HIT_BCE], {"width": "4", "depth": "1", "n-fourier": "2", "coincidences": "2"}),
    "hit_transformer": ("patterns", [*SMALL, "--loss.name", "hit_focal"], NETWORK),
    "lhcb_torch": ("module", HIT_BCE, NETWORK | BLIND),
    "lhcb_torch_tracks": ("module", [*HIT_BCE, "--data.max-tracks", "1"], {"width": "4"}),
}


FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
"""of the tests too (tests/conftest.py), so that numbers agree closely; known to jaxlib 0.10"""


def command(*words):
    """Run `python -m tofae_jax`; returns what it printed on stdout."""
    program = [sys.executable, "-m", "tofae_jax", *map(str, words)]
    environment = os.environ | {"XLA_FLAGS": FLAGS}
    return subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def train(*words):
    """The folder of a run, which is the last line of a training."""
    return Path(command("train", *words).strip().splitlines()[-1])


def numbers_of(run):
    """Loss and F1 of the validation, epoch by epoch."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {
            "train_loss": line["train"]["loss"],
            "loss": line["validation"]["loss"],
            "f1": line["validation"]["masked"]["f1"],
        }
        for line in lines
        if "validation" in line
    ]


def make(checkpoint):
    """Everything, in the present folder; returns what it gave, by name."""
    expected = {}
    for name, words in DATASETS.items():
        command("simulate", name, *words)
    command("convert", "patterns", "hits.csv")
    command("convert", "hits.csv", "converted", *SMALL)
    for name, (data, words, sizes) in RUNS.items():
        option = f"--model.{name.replace('_', '-')}"
        words = ["--model.name", name, *words, *(w for size in sizes.items() for w in (f"{option}.{size[0]}", size[1]))]
        run = train("--data.path", data, "--data.max-hits", "128", *words, *HITS, *TRAIN, *SPLIT)
        run.rename(name)
        expected[name] = results_of(name, data)
        shutil.copytree(name, "again")
        command("train", "--resume", "again", "--train.epochs", "2")
        expected[name]["resumed"] = numbers_of(Path("again"))
        shutil.rmtree("again")
    command("convert", checkpoint, "predecessor", "--detector.n-x", "8", "--detector.n-y", "16", "--detector.n-t", "40")
    command(
        "simulate", "small", "--detector.n-x", "8", "--detector.n-y", "16", "--detector.n-t", "40", "--events", "20"
    )
    expected["predecessor"] = results_of("predecessor", "small")
    return expected


def results_of(run, data):
    """What a run makes of a dataset: evaluated, and its hits with their scores."""
    result = json.loads(command("evaluate", run, "--data", data, "--split", "all", "--signal", "8", "--noise", "12"))
    command("denoise", run, data, "scored.csv", "--all-hits")
    lines = Path("scored.csv").read_text().splitlines()
    Path("scored.csv").unlink()
    names = lines[0].split(",")
    columns = list(zip(*(line.split(",") for line in lines[1:]), strict=True))
    columns = dict(zip(names, columns, strict=True))
    masked = result["masked"]
    return {
        "data": data,
        "n_hits": len(lines) - 1,
        "evaluated": {"loss": result["loss"], "f1": masked["f1"], "efficiency": masked["efficiency"]},
        "score": [float(score) for score in columns["score"][:200]],
        "n_kept": columns["kept"].count("1"),
    }


def packaged_scores(model):
    """Scores of a packaged model for the events of `module`, before any training."""
    command("denoise", "--model", model, "module", "scored.csv", "--all-hits")
    names, *rows = [line.split(",") for line in Path("scored.csv").read_text().splitlines()]
    Path("scored.csv").unlink()
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    scores = [float(score) for score in columns["score"][:600]]
    return {"score": scores, "n_kept": columns["kept"].count("1"), "n_hits": len(rows)}


def main(out):
    """Make the archive, and `packaged_scores.json` beside it."""
    out = Path(out).resolve()
    tests = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as place:
        sys.path[:0] = [str(tests / "fixtures"), str(tests), os.getcwd()]
        os.environ["PYTHONPATH"] = os.getcwd()
        os.chdir(place)
        from predecessor_files import small_tree, write_pth

        write_pth(Path("small_epoch_3.pth"), small_tree())
        expected = make("small_epoch_3.pth")
        Path("expected.json").write_text(json.dumps(expected))
        for path in ("hits.csv", "small_epoch_3.pth"):
            Path(path).unlink()
        scores = {model: packaged_scores(model) for model in ("lhcb_torch", "lhcb_torch_tracks")}
        out.with_name("packaged_scores.json").write_text(json.dumps(scores))
        with tarfile.open(out, "w:xz", preset=9) as archive:
            for path in sorted(Path().iterdir()):
                if path.name != "runs":
                    archive.add(path)
    print(out, out.stat().st_size, "bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
