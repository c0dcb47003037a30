"""What this package reads of the free parts of a run's record: settings, data, results. More may be there, and less."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from tofae_jax.config.types import Fraction, NonNegative
from tofae_jax.core.detector import Detector

Count = Annotated[int, msgspec.Meta(ge=0)]
_Limits = Annotated[list[float | None], msgspec.Meta(min_length=2, max_length=2)]


class OperatingPointRecord(msgspec.Struct, frozen=True):
    """Thresholds that were chosen on the validation events."""

    score_threshold: Fraction | None
    tof_tolerance_ns: NonNegative | None


class _Test(msgspec.Struct):
    events: Count = 0
    loss: float | None = None
    counts: dict[str, int] = {}
    outputs: dict[str, Any] = {}
    input: dict[str, float | None] = {}
    direct: dict[str, float | None] = {}
    masked: dict[str, float | None] = {}
    intervals: dict[str, _Limits | dict[str, _Limits]] = {}


class _Results(msgspec.Struct):
    test: _Test | None = None
    training_s: NonNegative = 0.0
    epochs: Count = 0
    best_epoch: Count | None = None
    steps: Count = 0
    parameters: Count | None = None
    precision: str | None = None
    operating_point: OperatingPointRecord | None = None


class _Data(msgspec.Struct):
    path: str | None = None
    fingerprint: str | None = None
    splits: dict[str, Count] = {}


class _System(msgspec.Struct):
    devices: list[str] = []


class _Settings(msgspec.Struct):
    detector: Detector = Detector()
    model: dict[str, Any] = {}
    loss: dict[str, Any] = {}
    evaluation_loss: dict[str, Any] = {}


class Contents(msgspec.Struct):
    """Of a record, what commands and reports read."""

    config: _Settings = msgspec.field(default_factory=_Settings)
    results: _Results = msgspec.field(default_factory=_Results)
    data: _Data = msgspec.field(default_factory=_Data)
    system: _System = msgspec.field(default_factory=_System)


class _Train(msgspec.Struct):
    loss: float | None = None
    gradient_norm: float | None = None
    parameter_norm: float | None = None
    relative_update: float | None = None


class EpochContents(msgspec.Struct):
    """Of the record of an epoch, what commands and reports read."""

    epoch: Annotated[int, msgspec.Meta(ge=1)]
    step: Count = 0
    learning_rate: float | None = None
    train: _Train = msgspec.field(default_factory=_Train)
    validation: dict[str, Any] | None = None
    hits_dropped: Count = 0
    time: dict[str, float | None] = {}


def contents_of(record: Any) -> Contents:
    """Check the free parts of a record.

    Raises:
        msgspec.ValidationError: one is not what it should be; the message names it.
    """
    return msgspec.convert(record, Contents)
