"""Events in three dimensions that the reader can turn: pieces of a web page that needs no network.

A page embeds `plotly_script` once, and below it one `event_viewer` for all its events: every viewer holds a WebGL
context, and browsers allow only a few of them.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.plots.detector_axes import Coordinate, Frame, Units, detector_frame
from tofae_jax.plots.event_view import EventView, check_view
from tofae_jax.plots.stages import Group, event_stages

_FIRST_STAGE = "noised"
_MARKER_PIXELS = 4.5
_SYMBOLS = {"s": "square", "o": "circle"}
_GLYPHS = {"s": "■", "o": "●", "x": "×"}
_HOLLOW_GLYPH = "○"
# a tenth of a thousandth of a pixel is far below what a screen shows
_DIGITS_BELOW_STEP = 3


def _look(
    eye: tuple[float, float, float], *, size: float = 1.6, down: float = 0, dragmode: str = "turntable"
) -> dict[str, Any]:
    """Without perspective: a flat view then shows places exactly; and plotly, where that changes, mirrors axes."""
    vectors = {"eye": eye, "up": (0, 0, 1), "center": (0, 0, -down)}
    camera: dict[str, Any] = {name: dict(zip("xyz", vector, strict=True)) for name, vector in vectors.items()}
    return {
        "camera": camera | {"projection": {"type": "orthographic"}},
        "aspectratio": dict.fromkeys("xyz", size),
        "dragmode": dragmode,
    }


LOOKS = {
    "3-D": _look((0.9, -1.6, 0.9), size=1.15, down=0.1),
    # a little aside, as straight from above "up" would mean nothing; a turntable cannot be seen from beyond that
    "bird's-eye x–y": _look((0, -0.001, 2), dragmode="orbit"),
    "x–t": _look((0, -2, 0)),
    "y–t": _look((-2, 0, 0)),
}
"""preset cameras, and sizes of the detector in the view, by what their buttons say; the first is how a viewer begins"""


def plotly_script() -> str:
    """Plotly's JavaScript, about 5 MB, to stand once in a `<script>` of a page; for 3-D views it needs no network.

    Raises `ModuleNotFoundError` where plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "interactive figures need plotly: pip install 'tofae-jax[report]'", name="plotly"
        ) from None
    return re.sub(r"</(?=script)", r"<\\/", get_plotlyjs(), flags=re.IGNORECASE)


def _rounded(values: Any, step: float) -> list[int | float]:
    """Plain numbers, as short as a coordinate with pixels or bins of this length allows."""
    digits = max(0, _DIGITS_BELOW_STEP - math.floor(math.log10(step)))
    rounded = (round(float(value), digits) for value in np.asarray(values))
    return [int(value) if value.is_integer() else value for value in rounded]


def _places(hits: np.ndarray, frame: Frame) -> list[list[int | float]]:
    return [
        _rounded(places, axis.step) for places, axis in zip(frame.place(hits), (frame.x, frame.y, frame.t), strict=True)
    ]


def _hover(name: str, units: str) -> str:
    """What plotly shows of a hit: its kind and place, in both units."""
    lines = [f"<b>{name}</b>"]
    for i, (axis, of, length, index) in enumerate(
        (("x", "x", "mm", "pixel"), ("y", "y", "mm", "pixel"), ("z", "t", "ns", "bin"))
    ):
        here, other = f"%{{{axis}:.7~g}}", f"%{{customdata[{i}]}}"
        physical, whole = (here, other) if units == "physical" else (other, here)
        lines.append(f"{of} = {physical} {length}, {index} {whole}")
    return "<br>".join(lines) + "<extra></extra>"


def _trace(group: Group, detector: Detector, units: Units | str) -> dict[str, Any]:
    frames = {name: detector_frame(detector, name) for name in ("physical", "pixels")}
    x, y, z = _places(group.hits, frames.pop(units))
    (other,) = frames.values()
    mark, size = group.mark, round(_MARKER_PIXELS * group.mark.size, 1)
    trace: dict[str, Any] = {"type": "scatter3d", "name": group.name, "x": x, "y": y, "z": z}
    trace["customdata"] = [list(place) for place in zip(*_places(group.hits, other), strict=True)]
    trace["hovertemplate"] = _hover(group.name, units)
    glyph = _HOLLOW_GLYPH if mark.is_hollow else _GLYPHS[mark.marker]
    trace["meta"] = {"glyph": glyph, "colour": mark.colour}
    if mark.marker == "x":
        # plotly's own "x" is an emoji, which many machines have no font for
        font = {"color": mark.colour, "size": round(2.5 * size), "weight": "bold"}
        return trace | {"mode": "text", "text": glyph, "textposition": "middle center", "textfont": font}
    symbol = _SYMBOLS[mark.marker] + ("-open" if mark.is_hollow else "")
    marker = {"symbol": symbol, "color": mark.colour, "size": size, "line": {"width": 0}, "opacity": 1}
    return trace | {"mode": "markers", "marker": marker}


def event_traces(view: EventView, *, detector: Detector, units: Units | str = "physical") -> dict[str, dict[str, Any]]:
    """What plotly draws of each stage that has times, by the stage's name; plain dicts, lists and numbers for JSON.

    `{"heading": what it is and how many of each kind, "traces": [one scatter3d per group]}`. Places are in mm and ns,
    or pixels and bins; `customdata` holds the other of both, and what a hit says when pointed at has both. Kinds look
    as in `stage_panels`, and `meta` says how for a legend. A group without hits is an empty trace. The direct output
    is left out where it has no times. Raises `ValueError` for mismatched shapes and unknown units.
    """
    view = check_view(view, detector)
    detector_frame(detector, units)
    shown = {}
    for stage in event_stages(view, detector):
        if stage.name == "direct" and not view.has_time:
            continue
        heading = f"{stage.name}: {stage.if_empty if stage.is_empty else stage.counts}"
        traces = [_trace(group, detector, units) for group in stage.groups]
        shown[stage.name] = {"heading": heading, "traces": traces}
    return shown


def _axis(coordinate: Coordinate, *, is_reversed: bool = False) -> dict[str, Any]:
    first, last = coordinate.limits
    return {
        "title": {"text": coordinate.label},
        "range": [last, first] if is_reversed else [first, last],
        "autorange": False,
        "showspikes": False,
        "zeroline": False,
        "gridcolor": "#DDDDDD",
        "linecolor": "#333333",
        "showline": True,
    }


def _layout(detector: Detector, units: Units | str) -> dict[str, Any]:
    """Axes of the whole detector, as long as each other, y downward like the rows of the image."""
    frame = detector_frame(detector, units)
    scene = {
        "xaxis": _axis(frame.x),
        "yaxis": _axis(frame.y, is_reversed=True),
        "zaxis": _axis(frame.t),
        "aspectmode": "manual",
        **next(iter(LOOKS.values())),
        "bgcolor": "#FFFFFF",
    }
    margin = {"l": 0, "r": 0, "t": 0, "b": 0}
    dragmode = scene["dragmode"]  # plotly needs it in both places
    return {"scene": scene, "margin": margin, "showlegend": False, "uirevision": "kept", "dragmode": dragmode}


def _script_json(data: Any) -> str:
    """JSON that cannot end the `<script>` that it stands in."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text)


def event_viewer(
    views: Mapping[str, EventView] | Sequence[tuple[str, EventView]],
    detector: Detector | Sequence[Detector],
    *,
    name: str = "events",
    units: Units | str = "physical",
) -> str:
    """A piece of HTML in which the reader picks an event and a stage, and turns it in x, y and time.

    `plotly_script` must stand in a `<script>` before it. The camera stays when another event or stage is picked.
    Without JavaScript, plotly or WebGL it says so. Without events it says that.

    Args:
        views: events by label, or pairs of label and event; labels may hold any text.
        detector: of all events, or one per event.
        name: begins all ids of the piece: one of its own for each piece of a page; letters, digits, `-` and `_`.
        units: of the axes, "physical" (mm, ns) or "pixels".

    Raises:
        ValueError: a bad name or unit, mismatched shapes, or not one detector per event.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise ValueError(f"name is {name!r}, expected a letter, then letters, digits, '-' or '_'")
    labelled = list(views.items() if isinstance(views, Mapping) else views)
    detectors = [detector] * len(labelled) if isinstance(detector, Detector) else list(detector)
    if len(detectors) != len(labelled):
        raise ValueError(f"detector has {len(detectors)} entries for {len(labelled)} events")
    detector_frame(Detector(), units)
    if not labelled:
        return f'<p id="{name}"><em>no events to show</em></p>'
    distinct = list(dict.fromkeys(detectors))
    data = {
        "first": _FIRST_STAGE,
        "looks": list(LOOKS.values()),
        "layouts": [_layout(each, units) for each in distinct],
        "events": [
            {"layout": distinct.index(each), "stages": event_traces(view, detector=each, units=units)}
            for (_, view), each in zip(labelled, detectors, strict=True)
        ],
    }
    options = "".join(f'<option value="{i}">{html.escape(label)}</option>' for i, (label, _) in enumerate(labelled))
    buttons = "".join(
        f'<button type="button" value="{i}">{html.escape(label)}</button> ' for i, label in enumerate(LOOKS)
    )
    return _FRAGMENT.format(
        name=name, options=options, buttons=buttons, data=_script_json(data), script=_SCRIPT.replace("NAME", name)
    )


_FRAGMENT = """<div id="{name}" class="event-viewer">
<noscript><p>This view in three dimensions needs JavaScript, which is switched off here.</p></noscript>
<p id="{name}-failure" role="alert" hidden></p>
<div id="{name}-all" hidden>
<p><label for="{name}-event">Event</label> <select id="{name}-event">{options}</select>
<label for="{name}-stage">Stage</label> <select id="{name}-stage"></select>
<span id="{name}-cameras" role="group" aria-label="Camera">{buttons}</span></p>
<p><span id="{name}-heading" role="status"></span>
<span id="{name}-kinds" role="group" aria-label="Kinds of hits shown"></span></p>
<div id="{name}-plot" role="group" tabindex="0" style="width:100%;height:36rem;max-height:85vh;background:#fff"
 aria-label="The event in x, y and time. Arrow keys turn it, plus and minus zoom."></div>
<p><small>Drag to turn; Ctrl and the wheel to zoom. On the keyboard: arrow keys, + and −.</small></p>
</div>
<script type="application/json" id="{name}-data">{data}</script>
<script>{script}</script>
</div>
"""

# kept by hand rather than left to plotly: camera and hidden kinds across stages, a legend that the keyboard reaches,
# a wheel that scrolls the page, keys that turn the view
_SCRIPT = r"""(() => {
"use strict";
const part = (suffix) => document.getElementById("NAME-" + suffix);
const data = JSON.parse(part("data").textContent);
const plot = part("plot"), events = part("event"), stages = part("stage"), kinds = part("kinds");
// these buttons only: one of plotly's own sends the data away
const config = {displaylogo: false, plotlyServerURL: "", toImageButtonOptions: {filename: "event", scale: 2},
  modeBarButtons: [["toImage"], ["zoom3d", "pan3d", "tableRotation", "orbitRotation"]]};
const hidden = new Set();
let endOn;
const copy = (value) => JSON.parse(JSON.stringify(value));

function fail(why) {
  part("failure").textContent = why;
  part("failure").hidden = false;
  part("all").hidden = true;
}

function drawsInDepth() {
  const context = document.createElement("canvas").getContext("webgl");
  const release = context && context.getExtension("WEBGL_lose_context");
  if (release) release.loseContext();
  return Boolean(context);
}

function stage() { return data.events[events.value].stages[stages.value]; }

function offerStages() {
  const names = Object.keys(data.events[events.value].stages);
  const wanted = [stages.value, data.first, names[0]].find((name) => names.includes(name));
  stages.replaceChildren(...names.map((name) => new Option(name, name, false, name === wanted)));
}

function offerKinds() {
  kinds.replaceChildren(...stage().traces.map((trace) => {
    const label = document.createElement("label"), box = document.createElement("input");
    const glyph = document.createElement("span");
    box.type = "checkbox";
    box.checked = !hidden.has(trace.name);
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(trace.name); else hidden.add(trace.name);
      draw();
    });
    glyph.textContent = trace.meta.glyph;
    glyph.style.color = trace.meta.colour;
    glyph.setAttribute("aria-hidden", "true");
    label.style.marginLeft = "1em";
    label.append(box, " ", glyph, " ", trace.name);
    return label;
  }));
}

// an axis seen end on, or none: its numbers would lie on one another
function axisEndOn(eye) {
  return [..."xyz"].find((axis) => Math.abs(eye[axis]) > 0.999 * Math.hypot(eye.x, eye.y, eye.z));
}

function draw() {
  const fresh = copy(data.layouts[data.events[events.value].layout]);
  // always the same object: plotly writes a turned camera into the first that it was given
  const layout = plot.layout || fresh;
  endOn = axisEndOn(layout.scene.camera.eye);
  for (const axis of "xyz") layout.scene[axis + "axis"] = fresh.scene[axis + "axis"];
  if (endOn) Object.assign(layout.scene[endOn + "axis"], {showticklabels: false, title: {text: ""}});
  const traces = stage().traces.map((trace) => ({...trace, uid: trace.name, visible: !hidden.has(trace.name)}));
  // an unseen point, without which an event that has none would have no axes either
  const corner = [..."xyz"].map((axis) => [axis, [layout.scene[axis + "axis"].range[0]]]);
  traces.push({type: "scatter3d", mode: "markers", marker: {opacity: 0, size: 1}, hoverinfo: "skip", uid: "axes",
    ...Object.fromEntries(corner)});
  part("heading").textContent = stage().heading;
  return Plotly.react(plot, traces, layout, config).catch((error) => fail("This view failed: " + error));
}

function look(wanted) {
  const {camera, aspectratio, dragmode} = copy({...plot.layout.scene, ...wanted});
  // in both places: after a change of its own making, plotly reads only the second
  return Plotly.relayout(plot, {"scene.camera": camera, "scene.aspectratio": aspectratio,
    "scene.dragmode": dragmode, dragmode});
}

function turn(right, up) {
  const camera = copy(plot.layout.scene.camera), {x, y, z} = camera.eye;
  const level = Math.hypot(x, y), distance = Math.hypot(level, z);
  const limit = Math.PI / 2 - 0.01;
  const azimuth = (level > 1e-6 ? Math.atan2(y, x) : -Math.PI / 2) + right;
  const elevation = Math.max(-limit, Math.min(limit, Math.atan2(z, level) + up));
  const reach = distance * Math.cos(elevation);
  camera.eye = {x: reach * Math.cos(azimuth), y: reach * Math.sin(azimuth), z: distance * Math.sin(elevation)};
  camera.up = {x: 0, y: 0, z: 1};
  look({camera});
}

function zoom(factor) {
  const {x, y, z} = plot.layout.scene.aspectratio;
  look({aspectratio: {x: x * factor, y: y * factor, z: z * factor}});
}

const step = Math.PI / 24;
const keys = {ArrowLeft: () => turn(-step, 0), ArrowRight: () => turn(step, 0), ArrowUp: () => turn(0, step),
  ArrowDown: () => turn(0, -step), "+": () => zoom(1.1), "=": () => zoom(1.1), "-": () => zoom(1 / 1.1)};

function begin() {
  part("all").hidden = false;
  offerStages();
  offerKinds();
  events.addEventListener("change", () => { offerStages(); offerKinds(); draw(); });
  stages.addEventListener("change", () => { offerKinds(); draw(); });
  for (const button of part("cameras").children) {
    button.addEventListener("click", () => look(data.looks[button.value]));
  }
  plot.addEventListener("keydown", (event) => {
    if (event.target !== plot || event.ctrlKey || event.altKey || event.metaKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  plot.addEventListener("wheel", (event) => { if (!event.ctrlKey) event.stopPropagation(); },
    {capture: true, passive: true});
  // drawn once there is room for it, as there is none in a closed part of the page
  new ResizeObserver(() => {
    if (!plot.offsetWidth) return;
    if (plot.layout) Plotly.Plots.resize(plot);
    else draw().then(() => {
      plot.on("plotly_relayout", () => { if (axisEndOn(plot.layout.scene.camera.eye) !== endOn) draw(); });
      plot.on("plotly_webglcontextlost", () =>
        fail("The browser gave up this 3-D view, as it does when there are too many: load the page again."));
    });
  }).observe(plot);
}

if (!window.Plotly) fail("This view in three dimensions needs plotly, which this page lacks.");
else if (!drawsInDepth()) {
  fail("This browser draws nothing in three dimensions: WebGL is missing or switched off.");
} else begin();
})();"""
