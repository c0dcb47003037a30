"""Draws the images of the README, from a run and from a simulated track: `python docs/make_images.py runs/ID`.

Those that are here come from a run of `configs/demo.toml`.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from tofae_jax import plots
from tofae_jax.core.detector import Detector
from tofae_jax.data.simulated.lhcb_torch import ModuleEvents
from tofae_jax.data.storage.atomic import replacing_file
from tofae_jax.lhcb_torch.simulation import BackgroundSettings, ModuleSettings
from tofae_jax.runs.saved_run import read_saved

HERE = Path(__file__).resolve().parent
COLOURS = 255  # of a palette: a figure has few, and its file is a third as large


def write_image(figure: Figure, path: Path) -> Path:
    """A figure as a PNG with a palette; returns its path."""
    with plots.style.style():
        figure.savefig(buffer := io.BytesIO(), format="png")
    image = Image.open(buffer).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    with replacing_file(path) as partial:
        image.save(partial, format="png", optimize=True)
    return path


def simulated_track() -> Figure:
    """Photons of a track through the simulated TORCH module, far enough from its middle to show all bands."""
    settings = ModuleSettings(x_mm=(-150, -150), y_mm=(100, 100), slope_x=(0, 0), slope_y=(0, 0), momentum_gev=(6, 6))
    module = ModuleEvents(Detector(), settings, BackgroundSettings(n_other_tracks=0, n_dark=0, n_hot=0))
    events, _ = module.draw(np.zeros(1, np.int64))
    return plots.photon_bands(
        events.hits,
        events.hit_columns["is_reflected"],
        detector=module.detector,
        row_angles_rad=settings.theta_z_rad,
    )


def main() -> None:
    """Draw them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the images")
    arguments = parser.parse_args()
    run = read_saved(arguments.run)
    if not run.views or not run.history:
        parser.error(f"{arguments.run}: has saved no events or no history to draw")
    view = max(run.views, key=lambda view: len(view.sparse))  # the one with the most signal
    for name, figure in {
        "event_stages": plots.stage_panels(view, detector=run.detector),
        "event_3d": plots.event_3d(view, detector=run.detector),
        "lhcb_torch": simulated_track(),
    }.items():
        print(write_image(figure, arguments.out / f"{name}.png"))


if __name__ == "__main__":
    main()
