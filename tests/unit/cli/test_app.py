"""What becomes of the errors of a command."""

import shutil
import signal
import types

import pytest
from places import REFERENCE

from tofae_jax.cli import app
from tofae_jax.data import convert


@pytest.fixture
def failing(monkeypatch):
    """Makes every command raise an error."""

    def install(error):
        def run(argv):
            raise error

        monkeypatch.setattr(app, "command", lambda name: types.SimpleNamespace(run=run))

    return install


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("a\n  b"), 2, "tofae_jax: a b"),
        (OSError(28, "No space left on device", "x/y"), 1, "tofae_jax: x/y: No space left on device"),
        (OSError("no number"), 1, "tofae_jax: train: no number"),
        (ValueError(), 2, "tofae_jax: ValueError"),
        (AssertionError(), 1, "tofae_jax: AssertionError: no message (set TOFAE_JAX_DEBUG=1"),
        (RuntimeError("odd"), 1, "tofae_jax: RuntimeError: odd (set TOFAE_JAX_DEBUG=1 in the environment for the"),
        (KeyboardInterrupt(), 130, "tofae_jax: interrupted"),
        (KeyboardInterrupt("SIGTERM came a second time"), 143, "tofae_jax: interrupted"),
        (KeyboardInterrupt("SIGHUP"), 129, "tofae_jax: interrupted"),
    ],
)
def test_main_error_of_a_command_is_one_line(failing, capsys, monkeypatch, error, code, line):
    monkeypatch.delenv(app.DEBUG_VARIABLE, raising=False)
    failing(error)
    assert app.main(["train"]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(line) and said.err.count("\n") == 1


def test_main_notes_of_an_error_are_on_its_line(failing, capsys):
    error = OSError(28, "No space left on device", "x/y")
    error.add_note("z could not be updated")
    failing(error)
    assert app.main(["train"]) == 1
    assert capsys.readouterr().err == "tofae_jax: x/y: No space left on device; z could not be updated\n"


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_main_signal_ends_a_command_in_good_order(monkeypatch, capsys, tmp_path, name, code):
    """A batch system ends jobs with SIGTERM: no half-written file stays."""
    number = getattr(signal, name)
    before = signal.getsignal(number)
    shutil.copy(REFERENCE / "small_bundle_hits.csv", tmp_path / "hits.csv")
    real = convert.read_events

    def read(*words, **options):
        yield from real(*words, **options)
        assert len(list(tmp_path.iterdir())) == 2  # the file under way
        signal.raise_signal(number)

    monkeypatch.setattr(convert, "read_events", read)
    assert app.main(["convert", str(tmp_path / "hits.csv"), str(tmp_path / "out.npz")]) == code
    assert capsys.readouterr().err == "tofae_jax: interrupted\n"
    assert [path.name for path in tmp_path.iterdir()] == ["hits.csv"]
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("error", [ValueError("bad"), OSError("bad"), RuntimeError("bad")])
def test_main_debug_variable_raises_the_error(failing, monkeypatch, error):
    monkeypatch.setenv(app.DEBUG_VARIABLE, "1")
    failing(error)
    with pytest.raises(type(error), match="bad"):
        app.main(["train"])


def test_main_broken_pipe_is_left_to_the_caller(failing):
    failing(BrokenPipeError())
    with pytest.raises(BrokenPipeError):
        app.main(["train"])


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (2, 2)])
def test_main_exit_code_is_what_the_command_returns(monkeypatch, returned, code):
    seen = []
    monkeypatch.setattr(
        app, "command", lambda name: types.SimpleNamespace(run=lambda argv: seen.append((name, argv)) or returned)
    )
    assert app.main(["inspect", "--a", "b"]) == code
    assert seen == [("inspect", ["--a", "b"])]


@pytest.mark.parametrize("name", app.COMMANDS)
def test_command_every_name_has_options_and_run(name):
    module = app.command(name)
    assert module.Options.__doc__ and "\n" not in module.Options.__doc__
    assert callable(module.run)


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (
            ModuleNotFoundError("XLSX tables need openpyxl: pip install 'tofae-jax[report]'"),
            "XLSX tables need openpyxl: pip install 'tofae-jax[report]'",
            2,
        ),
        (ModuleNotFoundError("No module named 'optax'"), "ModuleNotFoundError: No module named 'optax'", 1),
    ],
)
def test_main_missing_extra_is_one_line_with_the_installation(monkeypatch, capsys, error, message, code):
    def fails(argv):
        raise error

    monkeypatch.setattr(app, "command", lambda name: type("Command", (), {"run": staticmethod(fails)}))
    monkeypatch.delenv(app.DEBUG_VARIABLE, raising=False)
    assert app.main(["report", "x"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tofae_jax: {message}")
