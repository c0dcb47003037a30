"""Makes `small_bundle.pt` and `small_bundle_hits.csv`: the first four events of a bundle of the predecessor.

    python tests/reference/make_small_bundle.py V3_bundle_0.pt

The bundle keeps the layout and the pickle that PyTorch wrote, but for the counts of events and numbers; its
float64 become float16, which has all time bins up to 2048, so that the file is small. The hits are found by a loop
over the raw numbers, without anything of `tofae_jax`.
"""

import csv
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
N_EVENTS, N_EVENTS_BEFORE = 4, 10
N_Y, N_X = 128, 88
N_PIXELS = N_Y * N_X


def main(source: Path) -> None:
    with zipfile.ZipFile(source) as archive:
        members = {name.removeprefix(f"{source.stem}/"): archive.read(name) for name in archive.namelist()}
    values = struct.unpack(f"<{N_EVENTS * N_PIXELS}d", members["data/0"][: N_EVENTS * N_PIXELS * 8])
    pickle = members["data.pkl"]
    for before, after in (
        (b"ctorch\nDoubleStorage\n", b"ctorch\nHalfStorage\n"),
        (b"J" + struct.pack("<i", N_EVENTS_BEFORE * N_PIXELS), b"J" + struct.pack("<i", N_EVENTS * N_PIXELS)),
        (bytes([ord("K"), N_EVENTS_BEFORE]), bytes([ord("K"), N_EVENTS])),
    ):
        assert pickle.count(before) == 1
        pickle = pickle.replace(before, after)
    members |= {"data.pkl": pickle, "data/0": np.array(values, "<f2").tobytes()}
    with zipfile.ZipFile(HERE / "small_bundle.pt", "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"small_bundle/{name}"), content)
    with (HERE / "small_bundle_hits.csv").open("w", encoding="utf-8", newline="") as text:
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["event", "x", "y", "t"])
        for place, value in enumerate(values):
            if value:
                event, pixel = divmod(place, N_PIXELS)
                rows.writerow([event, pixel % N_X, pixel // N_X, int(value)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
