"""Settings of a run: frozen typed structs.

Units are in the names. The docstring under each field is its help on the command line. No array library here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from tyro.conf import Suppress

from tofae_jax.config.base import BelowOne, Count, NonNegative, Positive, PositiveCount, Section, Seed, Share
from tofae_jax.config.losses import EvaluationLossConfig, LossConfig
from tofae_jax.config.models import ModelConfig
from tofae_jax.config.running import (
    CheckpointsConfig,
    InstrumentsConfig,
    RunsConfig,
    StartConfig,
    TrackingConfig,
    TrainConfig,
)
from tofae_jax.config.schedules import ScheduleConfig
from tofae_jax.config.simulation import LhcbTorchConfig
from tofae_jax.core.detector import Detector

MOST_HITS = 100_000  # per event; images hold a tenth of it, and a batch of more would fill any memory
MOST_TRACKS = 1000
WIDEST = 1e12
N = TypeVar("N", int, float)
WidthOrRange = float | tuple[float, float]
CountOrRange = int | tuple[int, int]  # both checked by check_range: msgspec misreads limits inside such a union


def as_range(value: N | tuple[N, N]) -> tuple[N, N]:
    """A number as the range that holds only it."""
    return value if isinstance(value, tuple) else (value, value)


def check_range(name: str, value: N | tuple[N, N], *, least: float = 0, most: float = MOST_HITS) -> None:
    """ValueError unless the value is a number or a range low <= high within the limits."""
    low, high = as_range(value)
    if not least <= low <= high <= most:
        allowed = f"a number from {least} to {most:.7g}, or a range low <= high of them"
        raise ValueError(f"{name} must be {allowed}, got {value}")


def parse_mixture(text: str) -> dict[str, float]:
    """Weights by name from `name` or `name=weight,name=weight`; names are checked by whoever knows them."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = (piece.strip() for piece in part.partition("="))
        try:
            value = float(weight) if weight else 1.0
        except ValueError:
            value = -1.0
        if not name or not 0 <= value < float("inf") or name in weights:
            raise ValueError(f"pattern must be a name or name=weight,name=weight with weights >= 0, got {text!r}")
        weights[name] = value
    if sum(weights.values()) <= 0:
        raise ValueError(f"pattern needs a weight above 0, got {text!r}")
    return weights


LHCB_TORCH = "lhcb_torch"
"""the pattern that is no toy; it mixes with no other"""


class SimulateConfig(Section, frozen=True):
    """how to make the events where there is no dataset"""

    pattern: str = "v"
    """pattern name, a weighted mixture such as v=2,parabola=1, or lhcb_torch"""
    events: PositiveCount = 20_000
    """number of events"""
    tracks: CountOrRange = 1
    """tracks per event, a number or a range"""
    seed: Seed = 0
    """seed of the simulation"""
    lhcb_torch: LhcbTorchConfig = LhcbTorchConfig()

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        if LHCB_TORCH in (names := parse_mixture(self.pattern)) and len(names) > 1:
            raise ValueError(f"pattern: {LHCB_TORCH} mixes with no other, got {self.pattern!r}")
        check_range("tracks", self.tracks, least=1, most=MOST_TRACKS)


class DataConfig(Section, frozen=True):
    """the dataset, its splits and its input pipeline"""

    source: Literal["dataset", "simulate"] = "dataset"
    """events of the dataset at data.path, or simulated as data.simulate says, new ones in every epoch, none kept"""
    path: str = "data/v"
    """dataset folder; where there is none, it is simulated and kept"""
    simulate: SimulateConfig = SimulateConfig()
    train_share: Share = 0.8
    """share of the events to train on"""
    validation_share: Share = 0.1
    """share of the events to validate on after each epoch"""
    test_share: Share = 0.1
    """share of the events for the final evaluation, never seen before it"""
    split_seed: Seed = 0
    """seed of the split"""
    max_hits: PositiveCount = 512
    """hit slots of a pattern; events with more are thinned out at random, and the loss is counted"""
    max_background: PositiveCount = 512
    """slots of background hits that events bring along, where degradation.noise.data asks for them"""
    max_tracks: PositiveCount = 4
    """slots of an event's tracks, for models that are given tracks or learn to find them"""
    threads: Count = 1
    """threads that read ahead; any number gives the same data"""
    prefetch_batches: PositiveCount = 4
    """batches held ready"""

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        total = self.train_share + self.validation_share + self.test_share
        if self.train_share == 0 or total > 1 + 1e-9:
            raise ValueError(
                "train_share must be above 0, and train_share + validation_share + test_share at most 1, "
                f"got {self.train_share}, {self.validation_share}, {self.test_share}"
            )


class NoiseConfig(Section, frozen=True):
    """shares of the noise profiles, in any unit, and their sizes"""

    uniform: NonNegative = 1.0
    """share of noise that is uniform in x, y and t"""
    hot_pixels: NonNegative = 0.0
    """share of noise on a few pixels that fire too often"""
    clusters: NonNegative = 0.0
    """share of noise in Gaussian clusters"""
    gradient_x: NonNegative = 0.0
    """share of noise whose density rises with x"""
    gradient_y: NonNegative = 0.0
    """share of noise whose density rises with y"""
    time_bursts: NonNegative = 0.0
    """share of noise in short bursts"""
    data: NonNegative = 0.0
    """share of noise that is background of the events themselves: hits whose column origin is not 0"""
    n_hot_pixels: Annotated[int, msgspec.Meta(ge=1, le=64)] = 10
    """number of hot pixels"""
    hot_pixel_seed: Seed = 0
    """which pixels are hot"""
    n_clusters: Annotated[int, msgspec.Meta(ge=1, le=8)] = 3
    """clusters per event"""
    cluster_sigma_pixels: Positive = 3.0
    """width of a cluster in x and y, in pixels"""
    cluster_sigma_ns: Positive = 0.5
    """width of a cluster in time, in ns"""
    n_bursts: Annotated[int, msgspec.Meta(ge=1, le=8)] = 2
    """time bursts per event"""
    burst_sigma_ns: Positive = 0.125
    """width of a burst, in ns"""

    @property
    def shares(self) -> dict[str, float]:
        """Share of each profile by name."""
        names = ("uniform", "hot_pixels", "clusters", "gradient_x", "gradient_y", "time_bursts", "data")
        return {name: getattr(self, name) for name in names}

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        if sum(self.shares.values()) <= 0:
            raise ValueError(f"at least one of {', '.join(self.shares)} must be above 0")


class DegradationConfig(Section, frozen=True):
    """from a dense pattern to what a detector sees"""

    n_signal: CountOrRange = 30
    """signal hits kept per event, a number or a range"""
    selection: Literal["random", "even"] = "random"
    """which signal hits are kept: drawn at random, or evenly spaced along the pattern"""
    smear_x_mm: WidthOrRange = 0.0
    """Gaussian smearing in x, in mm; of a range each event has its own width"""
    smear_y_mm: WidthOrRange = 0.0
    """Gaussian smearing in y, in mm, likewise"""
    smear_t_ns: WidthOrRange = 0.0
    """Gaussian smearing in time, in ns, likewise"""
    overflow: Literal["drop", "clamp"] = "drop"
    """hits smeared out of the detector or window are dropped, or clamped to its edge"""
    n_noise: CountOrRange = 200
    """noise hits added per event, a number or a range"""
    noise: NoiseConfig = NoiseConfig()

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        check_range("n_signal", self.n_signal)
        check_range("n_noise", self.n_noise)
        for name in ("smear_x_mm", "smear_y_mm", "smear_t_ns"):
            check_range(name, getattr(self, name), most=WIDEST)


class NormalisationConfig(Section, frozen=True):
    """how images enter and leave the network"""

    name: Literal["gapped", "binary", "none"] = "gapped"
    """gapped: r + (1 - r) t/T; binary: lit or not; none: time bins as they are"""
    threshold: BelowOne = 0.5
    """r: outputs up to it are no hits"""


class MaskConfig(Section, frozen=True):
    """masked output"""

    tof_tolerance_ns: NonNegative | None = None
    """keep a hit only where the direct output's ToF agrees within this, in ns; None: any ToF"""
    score_threshold: Share | None = None
    """keep hits of a higher score; None: 0.5 for scores of hits, the normalisation's threshold for images"""
    choose: Literal["none", "f1", "efficiency", "purity"] = "none"
    """choose both of the above on the validation events: for the best F1, or for an efficiency or purity wanted"""
    wanted: Share | None = None
    """the least efficiency or purity, where mask.choose asks for one"""

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        if self.choose in ("efficiency", "purity") and not self.wanted:
            raise ValueError(f"wanted must be above 0 where choose is {self.choose}, got {self.wanted}")
        if self.choose in ("none", "f1") and self.wanted is not None:
            raise ValueError(f"wanted is {self.wanted}, but choose is {self.choose}: it means nothing there")


class OptimiserConfig(Section, frozen=True):
    """AdamW"""

    learning_rate: Positive = 1e-3
    """step size, the largest of the run"""
    schedule: Literal["constant", "cosine"] = "constant"
    """constant, or falling along half a cosine to 0 at the end of the run"""
    warmup_steps: Count = 0
    """steps over which the learning rate rises linearly from 0"""
    weight_decay: NonNegative = 1e-4
    """decoupled weight decay"""
    clip_norm: Positive | None = None
    """gradients of a larger norm are shortened to this; None: none are"""


PrecisionName = Literal["float32", "bfloat16", "float16", "float64", "mixed_bfloat16", "mixed_float16"]


Steps = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class PrecisionConfig(Section, frozen=True):
    """dtypes of the network; losses, metrics and statistics are never below float32"""

    policy: PrecisionName = "float32"
    """dtype of parameters, computation and outputs; mixed: parameters and outputs are float32"""
    matmul: Literal["default", "high", "highest"] = "default"
    """matrix products of float32 on accelerators: default is the quickest (TF32, bfloat16), highest is full float32"""
    fallback: Literal["bfloat16", "float32"] = "bfloat16"
    """what to go on with where float16 fails for good"""
    initial_loss_scale: Annotated[float, msgspec.Meta(ge=1, le=2**24)] = 2.0**15
    """float16: first factor of the loss"""
    scale_growth_steps: Steps = 1000
    """float16: good steps in a row after which the factor is doubled"""
    fallback_after: Steps = 10
    """float16: steps skipped in a row at the smallest factor (1) after which to fall back, at the next look"""


class MetricsConfig(Section, frozen=True):
    """what the metrics count as right"""

    tof_tolerance_ns: NonNegative = 0.25
    """true positives near in time: ToF within this, in ns"""


class Config(Section, frozen=True):
    """one training run"""

    seed: Seed = 0
    """seed of the weights and of every draw"""
    detector: Detector = Detector()
    data: DataConfig = DataConfig()
    degradation: DegradationConfig = DegradationConfig()
    normalisation: NormalisationConfig = NormalisationConfig()
    mask: MaskConfig = MaskConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    evaluation_loss: EvaluationLossConfig = EvaluationLossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    precision: PrecisionConfig = PrecisionConfig()
    metrics: MetricsConfig = MetricsConfig()
    train: TrainConfig = TrainConfig()
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    tracking: TrackingConfig = TrackingConfig()
    instruments: InstrumentsConfig = InstrumentsConfig()
    start: StartConfig = StartConfig()
    runs: RunsConfig = RunsConfig()
    schedules: Annotated[dict[str, ScheduleConfig], Suppress] = {}
    """settings of the training that change from epoch to epoch, by key; in recipes only"""

    def __post_init__(self) -> None:
        """Refuse choices that do not fit each other."""
        if self.normalisation.name == "binary" and self.mask.tof_tolerance_ns is not None:
            raise ValueError("mask.tof_tolerance_ns needs times, which normalisation.name binary does not keep")
        if self.normalisation.name == "none" and self.loss.name == "bce":
            raise ValueError("loss.name bce needs targets in [0, 1], which normalisation.name none does not give")


def chosen(section: ModelConfig | LossConfig | EvaluationLossConfig) -> dict[str, Any]:
    """The settings of the model or loss that a section chooses by name, and of no other."""
    return msgspec.structs.asdict(getattr(section, section.name))
