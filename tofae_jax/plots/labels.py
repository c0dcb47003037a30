"""How figures and tables call things: numbers of a record, and names that may hold anything."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from matplotlib.font_manager import findfont, get_font

_MOST_SIGNS = 44


class Quantity(NamedTuple):
    """How a number of a record is called and drawn."""

    heading: str
    unit: str = ""
    limits: tuple[float, float] | None = None
    """of what it can be, where an axis shows all of that"""
    may_be_log: bool = False
    """True if a tenth of it is still worth seeing"""
    less_is_better: bool = False

    @property
    def label(self) -> str:
        """With the unit, e.g. `PSNR (dB)`."""
        return f"{self.heading} ({self.unit})" if self.unit and self.unit != "share" else self.heading


class LossNames(NamedTuple):
    """What the axes of losses are called; losses of the same name share an axis."""

    train: str = ""
    """the loss that is trained; empty: not known"""
    validation: str = ""
    """the loss of validation and test"""


_SHARE: Any = {"unit": "share", "limits": (0.0, 1.0)}
_PERCENT: Any = {"unit": "%", "limits": (0.0, 100.0)}
_LESS: Any = {"may_be_log": True, "less_is_better": True}
LOSS = Quantity("loss", **_LESS)
QUALITIES = {
    "efficiency": Quantity("efficiency", **_SHARE),
    "purity": Quantity("purity", **_SHARE),
    "f1": Quantity("F1", **_SHARE),
    "noise_rejection": Quantity("noise rejection", **_SHARE),
    "detection_snr_db": Quantity("detection SNR", "dB"),
    "false_positives_per_event": Quantity("false positives per event", **_LESS),
    "false_negatives_per_event": Quantity("false negatives per event", **_LESS),
    "true_positive_xy_percent": Quantity("true positives, xy", **_PERCENT),
    "true_positive_tof_percent": Quantity("true positives, xy + ToF", **_PERCENT),
    "true_positive_tof_near_percent": Quantity("true positives, xy + near ToF", **_PERCENT),
    "correlation": Quantity("correlation"),
    "mse": Quantity("MSE", "t²/T²", **_LESS),
    "mae": Quantity("MAE", "t/T", **_LESS),
    "psnr_db": Quantity("PSNR", "dB"),
    "power_snr_db": Quantity("power SNR", "dB"),
    "ssim": Quantity("SSIM"),
    "nmi": Quantity("NMI"),
}
"""the numbers of `metrics.compute` that say how good an output is, in the order of figures"""


@cache
def _known_characters() -> frozenset[int]:
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def shown_name(name: Any, *, most: int = _MOST_SIGNS) -> str:
    """A name as a figure shows it: one line, the middle of a long one left out, as names differ at their ends.

    What cannot be printed becomes a space, what the font does not have a replacement character. Draw it with
    `parse_math=False`: a name is no formula, whatever dollar signs it has.
    """
    characters = [character if character.isprintable() else " " for character in str(name)]
    if len(characters) > most:
        tail = (most - 1) // 2
        characters = [*characters[: most - 1 - tail], "…", *characters[-tail:]]
    return (
        "".join(character if ord(character) in _known_characters() else "\ufffd" for character in characters).strip()
        or "(no name)"
    )
