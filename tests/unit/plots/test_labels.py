"""Names as figures show them."""

from figure_data import FULL_HISTORY, result, small_png
from plotted import legend

from tofae_jax.plots.comparison import compare_curves, compare_outputs, radar

HOSTILE = ["$x_{1}$ \\frac{", "_hidden", "two\nlines\x00", "long " * 60, "", "日本", "\ud800", "\u202e$"]


def test_shown_name_hostile_names_are_drawn_literally():
    runs = dict.fromkeys(HOSTILE, FULL_HISTORY[:2])
    names = legend(compare_curves(runs))
    assert names[:3] == [HOSTILE[0], "_hidden", "two lines"]
    assert len(names[3]) <= 44 and "…" in names[3]
    assert names[4:] == ["(no name) [1]", "\ufffd\ufffd", "(no name) [2]", "$"]
    results = {name: result(f1=None) for name in HOSTILE}
    for figure in (compare_curves(runs), compare_outputs(results), radar(results)):
        assert legend(figure) == names
        assert not any(text.get_parse_math() for text in figure.legends[0].get_texts())
        small_png(figure)


def test_shown_name_long_names_stay_apart():
    start, end = "run-" * 30, "-end" * 30
    names = legend(compare_curves({start: [], f"{start}1": [], f"{start}1{end}": [], f"{start}2{end}": []}))
    assert len(set(names)) == 4
    assert names[2].startswith("run-run-") and names[2].endswith("-end [1] (no history)")
