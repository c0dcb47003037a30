"""Settings of the commands other than `train`, whose settings are `Config`."""

from __future__ import annotations

from typing import Annotated, Literal

from tyro.conf import Positional, arg

from tofae_jax.config.lhcb_torch import LhcbTorchConfig
from tofae_jax.config.run import PrecisionName
from tofae_jax.config.types import (
    MOST_TRACKS,
    WIDEST,
    CountOrRange,
    NonNegative,
    PlotMode,
    PositiveCount,
    Section,
    Seed,
    Share,
    WidthOrRange,
    check_range,
)
from tofae_jax.core.detector import Detector


class SimulateCommand(Section, frozen=True):
    """simulate labelled patterns into a new dataset"""

    out: Annotated[Positional[str], arg(metavar="OUT")]
    """dataset folder to make"""
    pattern: str = "v"
    """pattern name (v, parabola, cross, line, hemisphere, blank, lhcb_torch), or a mixture such as v=2,parabola=1"""
    events: PositiveCount = 10_000
    """number of events"""
    seed: Seed = 0
    """seed; the same seed gives the same events"""
    tracks: CountOrRange = 1
    """tracks per event, a number or a range"""
    origin_x: float | None = None
    """pixel column of every origin; None: random"""
    origin_y: float | None = None
    """pixel row of every origin; None: random"""
    origin_t: float | None = None
    """time bin of every origin; None: random"""
    overwrite: bool = False
    """replace a dataset that is there"""
    detector: Detector = Detector()
    lhcb_torch: LhcbTorchConfig = LhcbTorchConfig()

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        check_range("tracks", self.tracks, least=1, most=MOST_TRACKS)


class ColumnsConfig(Section, frozen=True):
    """names of the columns in the tables of .root, .parquet, .arrow and .h5 files"""

    event: str = "event"
    """number of the event, never falling; empty: the rows are the events and are counted"""
    x: str = "x"
    """pixel column, or mm"""
    y: str = "y"
    """pixel row, or mm"""
    t: str = "t"
    """time bin, or ns"""
    further: str = "all"
    """further columns to read: all that hold numbers, none, or names separated by commas"""


class SourceOptions(Section, frozen=True, kw_only=True):
    """how to read a file of another program"""

    array: str | None = None
    """which array of an .npz file"""
    tree: str | None = None
    """which tree of a .root file (DIRECTORY/NAME), or group of an .h5 file; None: the only one there is"""
    columns: ColumnsConfig = ColumnsConfig()
    units: Literal["pixels", "physical"] = "pixels"
    """of the x, y, t of a table; physical: mm and ns, by the detector's scale, where hits outside it are dropped"""
    origin: Literal["edge", "centre"] = "edge"
    """what physical x and y are measured from, the detector's edge or its centre"""


class ConvertCommand(SourceOptions, frozen=True, kw_only=True):
    """make a dataset from files of other programs, or such a file from a dataset; a run from a .pth checkpoint"""

    src: Annotated[Positional[str], arg(metavar="SRC")]
    """images (.npy, .npz, .pt); hits (.npz, .csv, .root, .parquet, .arrow, .h5); a dataset folder; a .pth checkpoint"""
    out: Annotated[Positional[str], arg(metavar="OUT")]
    """dataset folder to make, or hit file (.npz, .csv, .root, .parquet, .arrow, .h5); of a checkpoint: run folder"""
    overwrite: bool = False
    """replace a dataset, file or run that is there"""
    detector: Detector = Detector()


class InspectCommand(Section, frozen=True):
    """check a dataset's integrity and show what is in it"""

    dataset: Annotated[Positional[str], arg(metavar="DATASET")]
    """dataset folder"""
    plots: PlotMode = "save"
    """figure of the distributions"""
    plot_file: str = ""
    """where to save it; empty: runs/inspect-NAME.png"""


class EvaluateCommand(Section, frozen=True):
    """evaluate a run on events that it has not seen, and print the result as JSON"""

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """run folder"""
    data: str | None = None
    """dataset of patterns; None: the one the run was trained on"""
    split: Literal["auto", "train", "validation", "test", "all"] = "auto"
    """which of its events; auto: the test events of the run's own dataset, all events of any other"""
    signal: int | tuple[int, int] | None = None
    """signal hits kept per event, a number or a range; None: as in training"""
    noise: int | tuple[int, int] | None = None
    """noise hits added per event, a number or a range; None: as in training"""
    smear_t_ns: WidthOrRange | None = None
    """Gaussian smearing of signal times, in ns, a number or a range; None: as in training"""
    seed: Seed = 0
    """seed of the degradation"""
    keep: Literal["f1", "efficiency", "purity"] | None = None
    """choose which hits are kept for the best F1, or for an efficiency or purity wanted, by the validation events"""
    wanted: Share | None = None
    """the least efficiency or purity, where --keep asks for one"""
    score_threshold: Share | None = None
    """keep hits of a higher score; None: as the run has chosen"""
    precision: PrecisionName | None = None
    """dtypes of the network; None: as in training"""
    save_hits: str | None = None
    """write all hits with is_signal, score and kept to this file (.npz, .csv, .root, .parquet, .arrow, .h5)"""
    overwrite: bool = False
    """replace that file if it is there"""

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        for name in ("signal", "noise"):
            if (value := getattr(self, name)) is not None:
                check_range(name, value)
        if self.smear_t_ns is not None:
            check_range("smear_t_ns", self.smear_t_ns, most=WIDEST)


class ReportCommand(Section, frozen=True):
    """tell about a run, or compare several, in one HTML file that opens offline; no dataset is needed"""

    runs: Annotated[Positional[tuple[str, ...]], arg(metavar="RUN")]
    """run folders, or folders of runs"""
    out: str | None = None
    """HTML file; None: RUN/report.html, or comparison.html beside several runs"""
    pdf: str | None = None
    """also write the figures and settings to this PDF file"""
    png: str | None = None
    """also write every figure to this folder"""
    csv: str | None = None
    """also write the metrics to this CSV file, a row per run"""
    history_csv: str | None = None
    """also write the numbers of all epochs to this CSV file, a row per epoch"""
    xlsx: str | None = None
    """also write both to this spreadsheet, with coloured scales"""
    plots: PlotMode = "save"
    """save: figures in the files; show: in windows, and no files but tables; both; none: text and tables only"""
    overwrite: bool = False
    """replace files that are there (RUN/report.html and comparison.html always are)"""


class LineageCommand(Section, frozen=True):
    """show which run started from which, with training time and metrics along each line"""

    runs: Annotated[Positional[tuple[str, ...]], arg(metavar="RUNS")] = ("runs",)
    """run folders, or folders of runs"""
    metric: str = "masked.f1"
    """number of the test events to show, e.g. loss or direct.ssim"""


class DenoiseCommand(SourceOptions, frozen=True, kw_only=True):
    """denoise measured events into a file of hits with columns event, x, y, t, those of the input, and score"""

    places: Annotated[Positional[tuple[str, ...]], arg(metavar="RUN INPUT OUTPUT")]
    """run folder, not with --model; dataset folder, or any file that convert reads; file to write: .npz, .csv, .root,
    .parquet, .arrow or .h5"""
    model: Literal["lhcb_torch", "lhcb_torch_tracks"] | None = None
    """in place of a run, a model that comes with this program: for hits of an LHCb TORCH module among uniform noise"""
    tracks: str | None = None
    """the events' tracks, for a model that is given them, where INPUT has none: a dataset folder, or a table of event,
    x_mm, y_mm, slope_x, slope_y, momentum_gev and, where INPUT has none, window_start_ns, a row per track (.csv, .npz,
    .root, .parquet, .arrow, .h5)"""
    all_hits: bool = False
    """write all hits, with a column kept, instead of the kept ones"""
    keep: Literal["f1", "efficiency", "purity"] | None = None
    """choose which hits are kept for the best F1, or for an efficiency or purity wanted, by the validation events"""
    wanted: Share | None = None
    """the least efficiency or purity, where --keep asks for one"""
    score_threshold: Share | None = None
    """keep hits of a higher score; None: as the run has chosen"""
    tof_tolerance_ns: NonNegative | None = None
    """keep a hit only where the direct output's ToF agrees within this, in ns; None: as the run has chosen"""
    precision: PrecisionName | None = None
    """dtypes of the network; None: as in training"""
    overwrite: bool = False
    """replace the output if it is there"""

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        wanted = ("RUN", "INPUT", "OUTPUT") if self.model is None else ("INPUT", "OUTPUT")
        if len(self.places) != len(wanted):
            with_model = "" if self.model is None else f" with --model {self.model}"
            raise ValueError(f"expected {' '.join(wanted)}{with_model}, got {len(self.places)} of these")
