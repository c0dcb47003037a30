"""Events that the reader turns: what plotly is told, that any label is safe, and the page in a real browser."""

import io
import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from browser import open_page
from matplotlib.image import imread
from plotted import DETECTOR, SMALL, nothing

from tofae_jax.plots import EventView, style
from tofae_jax.plots import event_viewer as viewer
from tofae_jax.plots.event_viewer import event_traces, event_viewer

STAGES = ["pattern", "sparse", "smeared", "noised", "direct", "masked"]
HOSTILE = "</script></select><img src=x onerror=\"document.title='bad'\"> & 'é' \u2028"


def event(n_signal: int = 30, n_noise: int = 200) -> EventView:
    """A line of signal among noise; one hit in ten of each kind is judged wrongly."""
    rng = np.random.default_rng(3)
    step = np.arange(n_signal)
    signal = np.stack([20 + step, 90 - 2 * step, 400 + step], axis=1)
    noise = np.stack([rng.integers(0, 88, n_noise), rng.integers(0, 128, n_noise), rng.integers(1, 1001, n_noise)], 1)
    hits = np.concatenate([signal, noise]).astype(np.int16)
    is_signal = np.arange(len(hits)) < n_signal
    kept = is_signal ^ (np.arange(len(hits)) % 10 == 0)
    direct = np.zeros((128, 88), np.float32)
    direct[signal[:, 1], signal[:, 0]] = signal[:, 2] + 0.25
    direct[:40] = 0
    direct[0, :5] = 77.5
    return EventView(signal, signal[::2], signal[::2], hits, is_signal, direct, kept)


def trace(view: EventView, stage: str, name: str, **units):
    return next(
        each for each in event_traces(view, detector=DETECTOR, **units)[stage]["traces"] if each["name"] == name
    )


def places(trace) -> np.ndarray:
    return np.stack([trace[axis] for axis in "xyz"], axis=1)


def in_mm_and_ns(hits) -> np.ndarray:
    return np.stack([(hits[:, 0] + 0.5) * 7.5, (hits[:, 1] + 0.5) * 53 / 128, (hits[:, 2] - 0.5) * 0.025], axis=1)


def test_event_traces_kinds_stand_where_hits_are():
    view = event()
    signal, kept = view.is_signal, view.kept
    expected = {
        ("pattern", "signal"): view.pattern,
        ("sparse", "signal"): view.sparse,
        ("noised", "signal"): view.hits[signal],
        ("noised", "noise"): view.hits[~signal],
        ("masked", "recovered"): view.hits[signal & kept],
        ("masked", "false"): view.hits[~signal & kept],
        ("masked", "missed"): view.hits[signal & ~kept],
    }
    for (stage, name), hits in expected.items():
        assert len(hits)
        physical, pixels = trace(view, stage, name), trace(view, stage, name, units="pixels")
        np.testing.assert_allclose(places(physical), in_mm_and_ns(hits), rtol=0, atol=1e-4)
        np.testing.assert_array_equal(places(pixels), hits)
        np.testing.assert_array_equal(physical["customdata"], hits)
        np.testing.assert_allclose(pixels["customdata"], in_mm_and_ns(hits), rtol=0, atol=1e-4)


def test_event_traces_direct_pixels_have_output_times():
    view = event()
    recovered = trace(view, "direct", "recovered", units="pixels")
    rows = view.pattern[:, 1] >= 40
    assert len(recovered["x"]) == rows.sum()
    assert set(recovered["z"]) == set(view.pattern[rows, 2] + 0.25)
    assert trace(view, "direct", "false", units="pixels")["z"] == [77.5] * 5
    assert len(trace(view, "direct", "missed")["x"]) == (~rows).sum()


def test_event_traces_look_as_in_other_figures():
    view = event()
    assert trace(view, "noised", "signal")["marker"]["color"] == style.SIGNAL
    assert trace(view, "noised", "noise")["marker"]["color"] == style.NOISE
    missed, false = trace(view, "masked", "missed"), trace(view, "masked", "false")
    assert (missed["marker"]["symbol"], missed["marker"]["color"]) == ("circle-open", style.SIGNAL)
    assert (false["mode"], false["text"], false["textfont"]["color"]) == ("text", "×", style.BLACK)


@pytest.mark.slow
def test_event_traces_are_short_and_plain():
    shown = event_traces(event(), detector=DETECTOR)
    assert list(shown) == STAGES
    assert shown["noised"]["heading"] == "noised: 30 signal, 200 noise"
    text = json.dumps(shown, allow_nan=False)
    assert json.loads(text) == shown
    assert max(map(len, re.findall(r"\d+\.\d+", text))) <= len("659.1234")


def test_event_traces_empty_stages_say_so():
    timeless = event()._replace(has_time=False)
    assert list(event_traces(timeless, detector=DETECTOR)) == [stage for stage in STAGES if stage != "direct"]
    shown = event_traces(nothing(SMALL), detector=SMALL)
    assert [stage["heading"].split(": ")[1] for stage in shown.values()] == ["no hits"] * 4 + [
        "no lit pixels",
        "no hits",
    ]
    assert all(len(each["x"]) == 0 for stage in shown.values() for each in stage["traces"])


def test_event_viewer_bad_arguments_are_named():
    with pytest.raises(ValueError, match="units is 'inches', allowed are 'physical', 'pixels'"):
        event_traces(event(), detector=DETECTOR, units="inches")
    with pytest.raises(ValueError, match="units is 'inches'"):
        event_viewer({}, DETECTOR, units="inches")
    with pytest.raises(ValueError, match=r"direct has shape \(128, 88\)"):
        event_viewer({"a": nothing()}, SMALL)
    with pytest.raises(ValueError, match="detector has 2 entries for 1 events"):
        event_viewer({"a": event()}, [SMALL, DETECTOR])
    for name in ("", "1", "a b", 'a"', "a\n"):
        with pytest.raises(ValueError, match=r"name is .*, expected a letter"):
            event_viewer({"a": event()}, DETECTOR, name=name)


class Page(HTMLParser):
    """The tags, texts of options, and scripts of a piece of HTML, as a browser reads it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.ids, self.options, self.scripts, self.path = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.path.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.path.pop()[0] in (tag, "img", "input")

    def handle_data(self, data):
        tag = self.path[-1][0] if self.path else ""
        if tag in ("option", "script"):
            getattr(self, tag + "s").append(data)


def test_event_viewer_hostile_labels_stay_labels():
    pairs = [(HOSTILE, event()), ("plain", nothing()), ("plain", event())]
    page = Page(event_viewer(pairs, DETECTOR, name="v1"))
    assert page.options == [HOSTILE, "plain", "plain"]
    assert "img" not in page.tags
    data, script = page.scripts
    assert [list(each["stages"]) for each in json.loads(data)["events"]] == [STAGES] * 3
    assert json.loads(data)["events"][0]["stages"] == event_traces(pairs[0][1], detector=DETECTOR)
    assert "NAME" not in script
    assert page.ids and all(each == "v1" or each.startswith("v1-") for each in page.ids)


def test_event_viewer_data_cannot_end_the_script():
    text = viewer._script_json({HOSTILE: "<!--<script>"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {HOSTILE: "<!--<script>"}


def test_event_viewer_detectors_have_their_own_axes():
    script = Page(event_viewer({"a": event(), "b": nothing(SMALL), "c": event()}, [DETECTOR, SMALL, DETECTOR])).scripts[
        0
    ]
    data = json.loads(script)
    assert [each["layout"] for each in data["events"]] == [0, 1, 0]
    scenes = [layout["scene"] for layout in data["layouts"]]
    assert [scene["yaxis"]["range"] for scene in scenes] == [[53.0, 0.0], [3.5, 0.0]]
    assert [scenes[0][axis]["title"]["text"] for axis in ("xaxis", "yaxis", "zaxis")] == [
        "x (mm)",
        "y (mm)",
        "time (ns)",
    ]


def test_event_viewer_no_events_raise():
    assert event_viewer({}, DETECTOR) == '<p id="events"><em>no events to show</em></p>'


def test_plotly_script_missing_plotly_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"^interactive figures need plotly: pip install 'tofae-jax\[report\]'$"
    ):
        viewer.plotly_script()


def test_plotly_script_fits_into_a_page():
    pytest.importorskip("plotly")
    text = viewer.plotly_script().lower()
    assert len(text) > 1e6
    for end in ("</script", "<!--", "<script"):
        assert end not in text


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """Two viewers on one page, beneath each other."""
    pytest.importorskip("plotly")
    events = {HOSTILE: event(), "empty": nothing(), "timeless": event()._replace(has_time=False)}
    first, second = event_viewer(events, DETECTOR, name="a"), event_viewer({"b": event()}, DETECTOR, name="b")
    head = f"<!doctype html><meta charset='utf-8'><title>good</title><script>{viewer.plotly_script()}</script>"
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(f"{head}<body style='height:4000px'>{first}{second}</body>", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def opened(page_file):
    with open_page(page_file) as opened:
        for name in "ab":
            opened.page.wait_for_selector(f"#{name}-plot canvas")
        yield opened


def settle(page) -> None:
    """Until what was asked for is drawn."""
    frame = "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 60)))"
    for _ in range(2):
        page.evaluate(f"new Promise((done) => {frame})")


def picture(page, name: str = "a") -> np.ndarray:
    settle(page)
    return np.round(imread(io.BytesIO(page.locator(f"#{name}-plot").screenshot()))[..., :3] * 255).astype(int)


def n_pixels(image: np.ndarray, colour: str) -> int:
    """How many pixels of the image have about this colour."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(image - rgb).max(axis=2) < 8).sum())


def look(page, name: str = "a") -> dict:
    """Camera and size of the scene, as plotly has them."""
    scene = page.evaluate(f"document.getElementById('{name}-plot').layout.scene")
    return {part: scene[part] for part in viewer.LOOKS["3-D"]}


def centre(page) -> tuple[float, float]:
    box = page.locator("#a-plot").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def press(page, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).first.click()
    settle(page)


def test_page_from_a_file_draws_its_events(opened):
    image = picture(opened.page)
    assert n_pixels(image, style.SIGNAL) > 300
    assert n_pixels(image, style.NOISE) > 1000
    assert n_pixels(picture(opened.page, "b"), style.SIGNAL) > 300
    assert opened.page.title() == "good"
    assert opened.page.inner_text("#a-heading") == "noised: 30 signal, 200 noise"
    opened.assert_clean()


def test_page_stages_and_events_are_picked(opened):
    page = opened.page
    noised = picture(page)
    page.select_option("#a-stage", "masked")
    masked = picture(page)
    assert page.inner_text("#a-heading").startswith("masked: 27 recovered")
    for colour, more, fewer in ((style.NOISE, noised, masked), ("#000000", masked, noised)):
        assert n_pixels(more, colour) > 3 * n_pixels(fewer, colour), colour
    assert (noised != masked).any()
    page.select_option("#a-event", "1")
    empty = picture(page)
    assert n_pixels(empty, style.SIGNAL) == 0
    assert (empty < 250).any(axis=2).sum() > 1000  # its axes
    assert page.inner_text("#a-heading") == "masked: no hits"
    page.select_option("#a-event", "2")
    assert page.locator("#a-stage option").all_inner_texts() == [stage for stage in STAGES if stage != "direct"]
    assert page.input_value("#a-stage") == "masked"
    np.testing.assert_array_equal(picture(page), masked)
    page.select_option("#a-event", "0")
    page.select_option("#a-stage", "noised")
    np.testing.assert_array_equal(picture(page), noised)
    opened.assert_clean()


def test_page_kinds_can_be_hidden_and_stay_so(opened):
    page = opened.page
    box = page.locator("#a-kinds").get_by_label("noise")
    with_noise = picture(page)
    box.uncheck()
    without = picture(page)
    assert n_pixels(without, style.NOISE) < n_pixels(with_noise, style.NOISE) / 3
    assert n_pixels(without, style.SIGNAL) >= n_pixels(with_noise, style.SIGNAL)
    page.select_option("#a-event", "2")
    assert not box.is_checked()
    np.testing.assert_array_equal(picture(page), without)
    box.check()
    page.select_option("#a-event", "0")
    np.testing.assert_array_equal(picture(page), with_noise)
    opened.assert_clean()


@pytest.mark.parametrize("preset", viewer.LOOKS)
def test_page_dragged_camera_stays(opened, preset):
    page = opened.page
    press(page, preset)
    before = look(page)
    assert before == json.loads(json.dumps(viewer.LOOKS[preset]))
    x, y = centre(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 50, y + 30, steps=5)
    page.mouse.up()
    settle(page)
    dragged = look(page)
    assert max(abs(before["camera"]["eye"][axis] - dragged["camera"]["eye"][axis]) for axis in "xyz") > 0.1
    page.select_option("#a-stage", "pattern")
    page.select_option("#a-event", "2")
    settle(page)
    assert look(page) == dragged
    press(page, preset)
    assert look(page) == before
    page.select_option("#a-event", "0")
    page.select_option("#a-stage", "noised")
    assert look(page, "b") == json.loads(json.dumps(viewer.LOOKS["3-D"]))
    opened.assert_clean()


def test_page_birds_eye_shows_x_right_and_y_down(opened):
    """The line of signal begins at (20, 90) and goes to the right and, y being downward, up."""
    page = opened.page
    press(page, "bird's-eye x–y")
    page.select_option("#a-stage", "pattern")
    rows, columns = np.nonzero(np.abs(picture(page) - [0xCC, 0x33, 0x11]).max(axis=2) < 8)
    page.select_option("#a-stage", "noised")
    first, last = columns.argmin(), columns.argmax()
    assert columns[last] - columns[first] > 50
    assert rows[first] - rows[last] > 50
    assert np.corrcoef(columns, rows)[0, 1] < -0.99
    press(page, "3-D")
    opened.assert_clean()


def test_page_hit_says_what_it_is(opened):
    page = opened.page
    press(page, "bird's-eye x–y")
    rows, columns = np.nonzero(np.abs(picture(page) - [0xCC, 0x33, 0x11]).max(axis=2) < 8)
    box = page.locator("#a-plot").bounding_box()
    page.mouse.move(box["x"] + float(columns[0]), box["y"] + float(rows[0]))
    page.locator("#a-plot .hovertext").wait_for()
    said = page.locator("#a-plot .hovertext").text_content()
    x, pixel, y, row, t, time_bin = map(float, re.findall(r"[\d.]+", said))
    assert said.startswith("signal")
    assert [pixel, row, time_bin] in event().pattern.tolist()
    np.testing.assert_allclose([[x, y, t]], in_mm_and_ns(np.array([[pixel, row, time_bin]])), atol=1e-3)
    press(page, "3-D")
    opened.assert_clean()


def test_page_wheel_scrolls_and_zooms_with_control(opened):
    page = opened.page
    press(page, "3-D")
    before = look(page)
    page.mouse.move(*centre(page))
    page.mouse.wheel(0, 200)
    page.wait_for_function("scrollY === 200")
    settle(page)
    assert look(page) == before
    page.evaluate("scrollTo(0, 0)")
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    settle(page)
    assert page.evaluate("scrollY") == 0
    assert look(page)["aspectratio"]["x"] > before["aspectratio"]["x"]
    press(page, "3-D")
    opened.assert_clean()


def test_page_keys_turn_and_zoom(opened):
    page = opened.page
    press(page, "bird's-eye x–y")
    page.focus("#a-plot")
    page.keyboard.press("ArrowDown")
    settle(page)
    turned = look(page)["camera"]["eye"]
    assert turned["z"] < 1.99 and turned["y"] < -0.1 and abs(turned["x"]) < 1e-9
    page.keyboard.press("ArrowRight")
    settle(page)
    assert look(page)["camera"]["eye"]["x"] > 0.01
    size = look(page)["aspectratio"]["x"]
    page.keyboard.press("+")
    settle(page)
    assert look(page)["aspectratio"]["x"] > size
    press(page, "3-D")
    opened.assert_clean()


def test_page_offers_no_upload(opened):
    buttons = opened.page.locator("#a-plot .modebar-btn")
    titles = [buttons.nth(i).get_attribute("data-title") for i in range(buttons.count())]
    assert len(titles) == 5
    assert not [title for title in titles if re.search("share|send|cloud|edit|logo", title, re.IGNORECASE)]


def test_page_without_webgl_says_so(page_file):
    with open_page(page_file, with_webgl=False) as opened:
        alert = opened.page.locator("#a-failure")
        alert.wait_for()
        assert "WebGL is missing" in alert.inner_text()
        assert not opened.page.locator("#a-event").is_visible()
        opened.assert_clean()


def test_page_without_scripts_says_so(page_file):
    with open_page(page_file, java_script_enabled=False) as opened:
        assert "needs JavaScript" in opened.page.inner_text("#a noscript")
        assert not opened.page.locator("#a-event").is_visible()


def test_page_without_plotly_says_so(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><meta charset='utf-8'>{event_viewer({'a': event()}, DETECTOR)}", encoding="utf-8")
    with open_page(path) as opened:
        assert "needs plotly" in opened.page.inner_text("#events-failure")
        opened.assert_clean()


def test_open_page_unclean_page_is_found_out(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<img src='http://localhost:9/x.png'><script>console.error('said'); throw Error('thrown')</script>")
    with open_page(path) as opened:
        opened.page.wait_for_timeout(200)
        assert "said" in opened.console_errors
        assert opened.page_errors == ["thrown"]
        assert opened.requests == ["http://localhost:9/x.png"]
        with pytest.raises(AssertionError):
            opened.assert_clean()
