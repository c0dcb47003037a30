"""Text for messages."""

import pytest

from tofae_jax.core.text import MAX_SHOWN, one_line, visible, visible_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("  two\n\tlines \r\n here ", "two lines here"),
        (ValueError("a\nb"), "a b"),
        (ValueError(), "ValueError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        ([1, 2], "[1, 2]"),
        ("\x1b[2J\x07", "\\u001b[2J\\u0007"),
        ("x" * MAX_SHOWN, "x" * MAX_SHOWN),
        ("x" * MAX_SHOWN + "y", "x" * MAX_SHOWN + "..."),
    ],
)
def test_one_line_any_text_is_short_and_on_one_line(text, expected):
    assert one_line(text) == expected


def test_one_line_without_limit_keeps_all():
    assert one_line("word\n" * 1000, limit=None) == " ".join(["word"] * 1000)


def test_one_line_with_tail_keeps_both_ends():
    text = "beginning" + "-" * 300 + "the cause"
    shown = one_line(text, limit=20, tail=9)
    assert shown == "beginning-- ... the cause"
    assert one_line("x" * 20, limit=20, tail=9) == "x" * 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("größe \u2265 5 \N{GRINNING FACE}", "größe \u2265 5 \N{GRINNING FACE}"),
        ("\x1b[31m\x00\x7f\x9b", "\\u001b[31m\\u0000\\u007f\\u009b"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("\u202egpj.\u2066\ufeff\u200f", "\\u202egpj.\\u2066\\ufeff\\u200f"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_visible_escapes_what_a_terminal_obeys_or_hides(text, expected):
    assert visible(text) == expected
    assert visible(expected) == expected


def test_visible_lines_line_ends_of_one_text_stay_those_of_lines_do_not():
    assert visible_lines("a\nb\x07") == "a\nb\\u0007"
    assert visible_lines(["a\nb", "c"]) == "a\\nb\nc"


def test_one_line_of_an_error_without_a_word_gives_its_class():
    assert one_line(KeyError(())) == "KeyError"
    assert one_line("()") == "()"
