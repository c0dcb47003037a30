"""One module of TORCH for LHCb (never "torch" alone: that is PyTorch): tracks, Cherenkov photons, hits, backgrounds.

Everything is a pure JAX function of arrays and plain numbers: `key` first, static shapes, float32, for one event; use
`jax.vmap` with a key per event, or `simulate_batch`. Numbers of `ModuleSettings` may be traced; slots are static.

    y = +H/2  ======= focusing optics and photon tubes: x -> column, theta_z -> row, time -> bin =======
              |                                                        |
              |      photons with p_y > 0 go straight up ("direct")    |       z (thickness): the track enters at
    side edge |                                                        | side    z = 0 and leaves at z = thickness;
    x = -W/2  |              * impact point (x, y) at z = 0            | edge    photons zigzag between these faces
    (total    |                                                        | x = +W/2
    reflect.) |      photons with p_y < 0 go down, come back up        |
              |      ("reflected") with p_y reversed                   |
    y = -H/2  ================================ mirror ==================================================

x and y are measured from the plate's centre, z from the face where the track enters, in mm; W, H, thickness = 660,
1250, 10 mm. Times are in ns after the bunch crossing. Column 0 is at x = -W/2, row 0 at the smallest theta_z. A hit's
time bin is `floor((time - window start) / bin) + 1`, within 1..n_t.

Left out on purpose, being small against the spread of the photons that it would act on: Rayleigh scattering and
absorption in the silica, surface roughness, chromatic aberration of the optics, charge sharing between pixels, dead
time of a pixel. Losses that do not depend on the path (glue, mirror, gaps between tubes) are in the collection factor.

Sources: M. Charles, R. Forty, Nucl. Instrum. Methods A 639 (2011) 173, the concept; M. van Dijk, CERN-THESIS-2016-039,
the design; S. Bhasin et al., arXiv:2002.07632, and J. Smallwood et al., arXiv:2111.04627, prototypes (about 30 detected
photons per track and 70 ps per photon are their targets).
"""

from tofae_jax.lhcb_torch.module import ModuleSettings, check_settings
from tofae_jax.lhcb_torch.optics import PARTICLES
from tofae_jax.lhcb_torch.simulation.backgrounds import ORIGINS, BackgroundSettings, MixedEvent, mix_backgrounds
from tofae_jax.lhcb_torch.simulation.detection import (
    Photons,
    Slots,
    choose_slots,
    draw_window_start,
    simulate_track,
)
from tofae_jax.lhcb_torch.simulation.event import SimulatedEvent, event_keys, simulate_batch, simulate_event
from tofae_jax.lhcb_torch.simulation.tracks import Track, draw_tracks

__all__ = [
    "ORIGINS",
    "PARTICLES",
    "BackgroundSettings",
    "MixedEvent",
    "ModuleSettings",
    "Photons",
    "SimulatedEvent",
    "Slots",
    "Track",
    "check_settings",
    "choose_slots",
    "draw_tracks",
    "draw_window_start",
    "event_keys",
    "mix_backgrounds",
    "simulate_batch",
    "simulate_event",
    "simulate_track",
]
