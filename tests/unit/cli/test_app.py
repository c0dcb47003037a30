"""What becomes of the errors of a command."""

import types

import pytest

from tofae_jax.cli import app


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
        (RuntimeError("odd"), 1, "tofae_jax: RuntimeError: odd (set TOFAE_JAX_DEBUG=1 in the environment for the"),
        (KeyboardInterrupt(), 130, "tofae_jax: interrupted"),
        (KeyboardInterrupt("SIGTERM came a second time"), 143, "tofae_jax: interrupted"),
    ],
)
def test_main_error_of_a_command_is_one_line(failing, capsys, monkeypatch, error, code, line):
    monkeypatch.delenv(app.DEBUG_VARIABLE, raising=False)
    failing(error)
    assert app.main(["train"]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(line) and said.err.count("\n") == 1


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
