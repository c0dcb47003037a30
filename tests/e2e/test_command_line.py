"""The command line: what a user types wrong gets one clear line and exit code 2, and loses nothing."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_runs import make_run
from places import ROOT

from tofae_jax.cli import app, options, train
from tofae_jax.config import Config, ConfigError, read_toml
from tofae_jax.core.detector import Detector


def run(capsys, *words):
    """Exit code, stdout, stderr of a command in this process."""
    try:
        code = app.main(list(words))
    except SystemExit as error:
        code = error.code
    said = capsys.readouterr()
    return code, said.out, said.err


def fails(capsys, *words, code=2):
    """The one line that a bad command gives."""
    got, out, err = run(capsys, *words)
    assert got == code
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("tofae_jax: ")
    return lines[0]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.backlog("B30", "B33")
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--degradation.n-nois", "3"], ["--degradation.n-nois", "--degradation.n-noise"]),
        (["--degradation.n-noise", "-5"], ["n_noise", "-5", "from 0 to"]),
        (["--degradation.n-noise", "9", "5"], ["n_noise", "(9, 5)", "low <= high"]),
        (["--degradation.n-noise", "1", "2", "3"], ["--degradation.n-noise", "'3'"]),
        (["--degradation.n-noise", "3000000000"], ["n_noise", "100000"]),
        (["--degradation.smear-x-mm", "inf"], ["smear_x_mm must be a number from 0 to 1e+12", "got inf"]),
        (["--detector.width-mm", "nan"], ["detector.width_mm = nan"]),
        (["--normalisation.name", "binary", "--mask.tof-tolerance-ns", "1"], ["tof_tolerance_ns", "binary"]),
        (["--train.epochs", "0"], ["train.epochs = 0", ">= 1"]),
        (["--train.epochs", "two"], ["--train.epochs", "'two'"]),
        (["--train.epochs"], ["--train.epochs"]),
        (["--normalisation.threshold", "1"], ["normalisation.threshold = 1.0", "< 1.0"]),
        (["--train.plots", "maybe"], ["'maybe'", "show", "save", "both", "none"]),
        (["--loss.name", "nonsense"], ["nonsense", "acb_mse", "mse", "mae", "bce"]),
        (["--loss.name", "nonsense"], ["class_mse", "acb_mse_3d", "hit_bce", "hit_focal"]),
        (["--loss.split.hit-loss", "acb_mse"], ["'acb_mse'", "mse", "mae", "bce", "sse", "binary_mse"]),
        (["--loss.acb-mse.hit-weight", "half"], ["--loss.acb-mse.hit-weight", "FLOAT|{auto}", "'half'"]),
        (["--loss.acb-mse.hit-weight", "-1"], ["loss.acb_mse.hit_weight = -1.0", ">= 0"]),
        (["--evaluation-loss.name", "nonsense"], ["nonsense", "same", "acb_mse", "mse"]),
        (
            ["--model.name=autoencoder", "--loss.name=hit_bce"],
            ["loss.name", "'hit_bce' takes hits", "losses that fit: acb_mse, mse"],
        ),
        (["--data.simulate.pattern", "v=x"], ["pattern", "'v=x'"]),
        (["--data.train-share", "0.9", "--data.test-share", "0.9"], ["train_share", "at most 1"]),
        (["--config"], ["--config needs a value"]),
        (["--config", "none.toml"], ["none.toml", "no such file"]),
        (["stray"], ["stray"]),
    ],
)
def test_main_bad_train_option_is_named(capsys, words, parts):
    line = fails(capsys, "train", *words)
    for part in parts:
        assert part in line
    assert list(Path().iterdir()) == []


IMAGES = ["--model.name=autoencoder", "--loss.name=acb_mse", "--mask.choose=none"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--loss.acb-mse.hit-weight=5"], "loss.acb_mse.hit_weight = 5: has no effect, as loss.name is hit_bce"),
        (["--loss.acb-mse.hit-weight", "1"], "loss.acb_mse.hit_weight = 1: has no effect, as loss.name is hit_bce"),
        (["--model.unet.no-regress-tof"], "model.unet.regress_tof = false: has no effect, as model.name is hit_trans"),
        (["--evaluation-loss.split.hit-loss", "mse"], "evaluation_loss.split.hit_loss = mse: has no effect, as evalu"),
        (["--degradation.noise.n-clusters", "2"], "degradation.noise.n_clusters = 2: has no effect, as degradation.n"),
        (["--data.source=simulate", "--data.path", "x"], "data.path = x: has no effect, as data.source is simulate"),
        (["--data.max-tracks", "2"], "data.max_tracks = 2: has no effect, as model hit_transformer uses no tracks"),
        (["--train.target", "pattern"], "train.target = pattern: has no effect, as loss hit_bce compares hits"),
        (["--precision.fallback-after", "2"], "precision.fallback_after = 2: has no effect, as precision.policy is f"),
        (["--instruments.profile-folder", "p"], "instruments.profile_folder = p: has no effect, as instruments.prof"),
        ([*IMAGES, "--normalisation.name=none"], "normalisation.name = 'none': the targets of loss.name acb_mse are"),
        ([*IMAGES, "--mask.tof-tolerance-ns=65"], "mask.tof_tolerance_ns = 65: at most 25, which is detector.window"),
        (["--metrics.tof-tolerance-ns", "65"], "metrics.tof_tolerance_ns = 65: at most 25, which is detector.window"),
        (["--degradation.smear-t-ns", "0", "65"], "degradation.smear_t_ns = 65: at most 25, which is detector.windo"),
    ],
)
def test_main_train_option_without_effect_is_refused(capsys, words, line):
    assert fails(capsys, "train", *words).startswith(f"tofae_jax: {line}")
    assert list(Path().iterdir()) == []


def test_main_recipe_setting_without_effect_is_refused(capsys):
    Path("r.toml").write_text("[loss]\nname = 'mae'\n[loss.acb_mse]\nhit_weight = 5\n")
    line = fails(capsys, "train", "--config", "r.toml")
    assert line == "tofae_jax: r.toml: loss.acb_mse.hit_weight = 5: has no effect, as loss.name is mae"
    assert [path.name for path in Path().iterdir()] == ["r.toml"]


def test_main_resume_option_without_effect_is_refused(capsys):
    make_run(Path("run"), detector=Detector(), with_plots=False)
    words = ["train", "--resume", "run", "--train.epochs", "9"]
    line = fails(capsys, *words, "--tracking.dashboard-port", "7000")
    assert line == "tofae_jax: tracking.dashboard_port = 7000: has no effect, as tracking.dashboard is false"
    assert "the data of run are gone" in fails(capsys, *words)  # the check can fail


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--lhcb-torch.photons", "dense"], "lhcb_torch.photons = dense: has no effect, as pattern is v"),
        (
            ["--pattern=lhcb_torch", "--lhcb-torch.module.window-margin-ns=65"],
            "window_margin_ns is 65, allowed: at most",
        ),
    ],
)
def test_main_simulate_option_without_effect_is_refused(capsys, words, line):
    assert fails(capsys, "simulate", "d", *words).startswith(f"tofae_jax: {line}")
    assert list(Path().iterdir()) == []


def test_main_evaluate_overwrite_of_nothing_is_refused(capsys):
    assert "overwrite has no effect without save_hits" in fails(capsys, "evaluate", "run", "--overwrite")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[degradation]\nn_nois = 3", ["degradation.n_nois", "perhaps n_noise"]),
        ("[degradation]\nn_noise = -3", ["degradation.n_noise", "-3"]),
        ("[model.autoencoder]\nlatent = 2.5", ["model.autoencoder.latent = 2.5", "int"]),
        ("[train]\nbatch = true", ["train.batch = True", "int"]),
        ("[loss]\nname = 'nonsense'", ["loss.name = 'nonsense'", "acb_mse, mse, mae, bce"]),
        ("[loss.acb_mse]\nhit_weight = 'half'", ["loss.acb_mse.hit_weight = 'half'", "allowed: a number, auto"]),
        ("[runs]\nname = '../x'", ["runs.name", "'../x'"]),
        ("seed = ", ["bad.toml"]),
        ("nonsense = 3", ["nonsense", "known here: seed"]),
    ],
)
def test_main_bad_recipe_is_named(capsys, text, parts):
    Path("bad.toml").write_text(text)
    line = fails(capsys, "train", "--config", "bad.toml")
    for part in ["bad.toml", *parts]:
        assert part in line


@pytest.mark.backlog("B30")
def test_parse_good_options_are_typed():
    words = ["--degradation.n-noise", "3", "7", "--degradation.n_signal", "5", "--mask.tof-tolerance-ns", "1.5"]
    config = options.parse(Config, [*words, "--train.no-jit"], command="train", default=Config())
    assert config.degradation.n_noise == (3, 7)
    assert config.degradation.n_signal == 5
    assert config.mask.tof_tolerance_ns == 1.5
    assert config.train.jit is False


def test_parse_options_override_the_recipe():
    Path("r.toml").write_text("seed = 4\n[train]\nepochs = 3\nbatch = 7")
    for given in (["--config=r.toml"], ["--config", "r.toml"]):
        rest = ["--train.batch", "8", *given]
        recipe = train.take_options(rest).recipe
        assert recipe == "r.toml"
        config = options.parse(Config, rest, command="train", default=read_toml(recipe, Config))
        assert (config.seed, config.train.epochs, config.train.batch) == (4, 3, 8)
    assert train.take_options(["--train.batch", "8"]) == train.Options()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--resume"], ["--resume needs a value"]),
        (["--resume", "none"], ["none", "no such run"]),
        (["--from", "none"], ["none", "no such run"]),
        (["--resume", "a", "--config", "b.toml"], ["neither --config nor --from"]),
        (["--train.time-limit", "soon"], ["time_limit", "30m", "'soon'"]),
    ],
)
def test_main_bad_train_start_is_named(capsys, words, parts):
    line = fails(capsys, "train", *words)
    for part in parts:
        assert part in line


def test_main_unknown_command_and_help(capsys):
    assert "perhaps you meant train" in fails(capsys, "trian")
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for command in app.COMMANDS:
        assert command in out
        code, out_of_command, _ = run(capsys, command, "--help")
        assert code == 0
        assert "usage" in out_of_command
        code, out, _ = run(capsys, "--help")
    assert run(capsys)[0] == 2


HEAVY = {"jax", "flax", "optax", "orbax", "grain", "matplotlib", "tensorboardX"}
HELP = """
import sys
from tofae_jax.__main__ import main
sys.argv = ["tofae_jax", *sys.argv[1:]]
try:
    code = main()
except SystemExit as error:
    code = error.code
print("LOADED", code, *sys.modules)
"""


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in app.COMMANDS)], ids=" ".join)
def test_help_of_any_command_loads_no_array_library(words):
    answer = subprocess.run([sys.executable, "-c", HELP, *words], capture_output=True, text=True, cwd=ROOT, check=True)
    text, _, loaded = answer.stdout.partition("LOADED ")
    code, *modules = loaded.split()
    assert code in ("0", "None")
    assert "usage: " in text and answer.stderr == ""
    assert "msgspec" in modules  # the list is there
    assert not HEAVY & set(modules)


@pytest.mark.parametrize("name", app.COMMANDS)
def test_help_of_a_command_is_the_docstring_of_its_options(capsys, name):
    about = app.command(name).Options.__doc__
    code, usage, _ = run(capsys, "--help")
    assert code == 0
    assert re.search(rf"^  {name} +{re.escape(about)}$", usage, re.MULTILINE)
    code, text, _ = run(capsys, name, "--help")
    words = " ".join(re.sub("[│╭╮╰╯─]", " ", text).split()).lower()
    assert about.partition(";")[0].lower() in words
    assert app.command(name).__doc__ == f"The command `{name}`."


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["RUN", "NAME"]),
        (["r"], ["NAME"]),
        (["r", "m", "more"], ["more"]),
        (["none", "m"], ["none", "no such run"]),
        (["r", "m"], ["r", "not a run folder"]),
        (["r", "m", "--config", "none.toml"], ["none.toml", "no such file"]),
        (["r", "m", "--config", "bad.toml"], ["bad.toml", "degradation.n_nois", "perhaps n_noise"]),
        (["r", "m", "--signal", "-1"], ["signal", "-1", "from 0 to"]),
        (["r", "m", "--signal", "9", "5"], ["signal", "(9, 5)", "low <= high"]),
        (["r", "m", "--noise", "1", "2", "3"], ["'3'"]),
        (["r", "m", "--noise", "many"], ["--noise", "'many'"]),
        (["r", "../m"], ["name '../m'", "letters, digits, '_' and '-' allowed"]),
        (["r", "1m"], ["name '1m'", "a letter at the beginning"]),
        (["r", "m", "--nois", "1"], ["--nois", "perhaps you meant --noise"]),
    ],
)
def test_main_bad_pack_option_is_named(capsys, words, parts):
    Path("r").mkdir()
    Path("bad.toml").write_text("[degradation]\nn_nois = 3")
    line = fails(capsys, "pack", *words)
    for part in parts:
        assert part in line


@pytest.mark.slow
def test_main_simulate_inspect_and_their_mistakes(capsys):
    code, out, _ = run(capsys, "simulate", "d", "--events", "50", "--pattern", "v=2,parabola=1", "--seed", "3")
    assert code == 0
    assert out.startswith("50 events")
    code, out, _ = run(capsys, "inspect", "d")
    assert code == 0
    assert "integrity    ok" in out
    assert Path("runs/inspect-d.png").stat().st_size > 10_000
    assert "exists already" in fails(capsys, "simulate", "d")
    assert "tracks" in fails(capsys, "simulate", "e", "--tracks", "0")
    assert "cannot be written" in fails(capsys, "simulate", "d/dataset.json/x")
    assert "known: v, parabola" in fails(capsys, "simulate", "e", "--pattern", "w")
    assert "OUT" in fails(capsys, "simulate")
    assert "origin" in fails(capsys, "simulate", "e", "--origin-x", "99")
    assert "no such dataset" in fails(capsys, "inspect", "nothing")
    Path("empty").mkdir()
    assert "without dataset.json and without files to read" in fails(capsys, "inspect", "empty")
    assert "not a dataset" in fails(capsys, "train", "--data.path", "empty")
    assert not Path("e").exists()
    (Path("d") / "00000.hits.npy").write_bytes(b"short")
    code, out, err = run(capsys, "inspect", "d", "--plots", "none")
    assert code == 2
    assert "cut short" in err
    assert "checksum" in err


def test_main_convert_and_its_mistakes(capsys):
    images = np.zeros((3, 128, 88), np.int32)
    images[0, 5, 6] = 7
    images[2, 127, 87] = 1000
    np.save("good.npy", images)
    code, out, _ = run(capsys, "convert", "good.npy", "d")
    assert (code, out) == (0, "3 events, 2 hits: d\n")
    images[1, 0, 0] = 1001
    np.save("bad.npy", images)
    assert "1001" in fails(capsys, "convert", "bad.npy", "e")
    np.save("shape.npy", images[:, :, :5])
    assert "[3, 128, 5]" in fails(capsys, "convert", "shape.npy", "e")
    Path("cut.npy").write_bytes(Path("good.npy").read_bytes()[:5000])
    assert "cut.npy" in fails(capsys, "convert", "cut.npy", "e")
    Path("what.dat").write_text("x")
    assert ".csv, .tsv, .txt" in fails(capsys, "convert", "what.dat", "e")
    assert "none.csv" in fails(capsys, "convert", "none.csv", "e")
    Path("header.csv").write_text("event,x,y,t\n")
    assert "header.csv: holds no events" in fails(capsys, "convert", "header.csv", "e")
    Path("column.csv").write_text("event,x,y,t,../z\n0,1,1,1,1\n")
    assert run(capsys, "convert", "column.csv", "column")[0] == 0
    assert json.loads(Path("column/dataset.json").read_text())["hit_columns"] == ["z"]  # nothing leads elsewhere
    shutil.rmtree("column")
    Path("column.csv").unlink()
    names = {path.name for path in Path().iterdir()}
    assert names == {"good.npy", "bad.npy", "shape.npy", "cut.npy", "what.dat", "header.csv", "d"}


def test_main_missing_run_is_named(capsys):
    assert "no such run" in fails(capsys, "evaluate", "nothing")
    assert "no such run" in fails(capsys, "denoise", "nothing", "in.npz", "out.npz")
    Path("empty").mkdir()
    assert "not a run folder" in fails(capsys, "evaluate", "empty")
    assert "signal" in fails(capsys, "evaluate", "empty", "--signal", "-1")


def test_main_detector_that_does_not_fit_is_named(capsys):
    run(capsys, "simulate", "d", "--events", "20", "--detector.n-x", "5")
    line = fails_last_line(capsys, "train", "--data.path", "d")
    assert "(5, 128, 1000)" in line
    assert "(88, 128, 1000)" in line
    assert not Path("runs").exists()


def fails_last_line(capsys, *words):
    """As `fails`, where lines on what goes on come before."""
    code, _, err = run(capsys, *words)
    assert code == 2
    return err.strip().splitlines()[-1]


def test_error_of_box_any_box_is_one_line():
    plain = " Bad \n ------ \n  one \n  two. \n  ------\n  Perhaps you meant:\n   --x INT\n"
    assert options.error_of_box(plain) == "one two.; perhaps you meant --x"
    box = "╭─ Bad ──╮\n│ one       │\n│ two.      │\n│ ──────────│\n│ Perhaps you meant:│\n│   --x INT │\n╰──╯"
    assert options.error_of_box(box) == "one two.; perhaps you meant --x"
    assert options.error_of_box("╭─ x ─╮\n│ Error parsing TrainCommand: too few │\n╰──╯") == "too few"


def test_read_toml_unknown_setting_raises():
    with pytest.raises(ConfigError, match="no setting"):
        read_and_fail()


def read_and_fail():
    Path("x.toml").write_text("[train]\nepoch = 3")
    read_toml("x.toml", Config)


@pytest.mark.slow
@pytest.mark.backlog("B53")
def test_module_run_as_program_simulates():
    answer = subprocess.run(
        [sys.executable, "-m", "tofae_jax", "simulate", "data/v", "--events", "5"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        check=True,
    )
    assert answer.stdout.startswith("5 events")
    described = json.loads(Path("data/v/dataset.json").read_text())
    assert described["provenance"]["pattern"] == {"v": 1.0}


@pytest.mark.slow
def test_module_closed_pipe_ends_quietly():
    command = f"{sys.executable} -m tofae_jax --help | true; exit ${{PIPESTATUS[0]}}"
    for _ in range(3):  # the reader may be slower
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.stderr == ""
        assert done.returncode in (0, 141)
