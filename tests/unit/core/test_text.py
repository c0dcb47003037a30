"""Text for messages."""

import pytest

from tofae_jax.core.text import MAX_SHOWN, one_line


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


def test_one_line_of_an_error_without_a_word_gives_its_class():
    assert one_line(KeyError(())) == "KeyError"
    assert one_line("()") == "()"
