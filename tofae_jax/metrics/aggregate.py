"""All metrics of an evaluation: sums of a batch, merged sums, numbers for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Bool

from tofae_jax.metrics.confusion import Confusion, EventCounts, compute_confusion, event_sum
from tofae_jax.metrics.hit_scores import ScoreSums, compute_scores, no_scores
from tofae_jax.metrics.image_sums import ImageSums, compute_images, joint_times
from tofae_jax.metrics.output_histogram import OutputSums, compute_outputs

TIMELESS = ("true_positives_xy", "true_positive_xy_percent")  # of an image's metrics, those that read no times


class OutputMetrics(NamedTuple):
    """All that is summed for one kind of output."""

    confusion: Confusion
    image: ImageSums


class Metrics(NamedTuple):
    """Sums of the metrics of one evaluation; of single events, each leaf is `[batch, …]`, without joint histograms."""

    events: EventCounts
    """counts of the degraded events and their hits"""
    loss: Any
    """sum over events of the loss of each"""
    outputs: OutputSums | None
    """histogram of the network's raw outputs; None of single events"""
    scores: ScoreSums | None
    """hits counted by score and time error; None of single events"""
    input: OutputMetrics
    """of the degraded input, against the signal hits"""
    direct: OutputMetrics
    """of the direct output, against the target image"""
    masked: OutputMetrics
    """of the masked output, against the signal hits"""


def batch_metrics(
    per_event: Metrics,
    is_event: Bool[Array, " batch"],
    *,
    outputs: OutputSums,
    scores: ScoreSums,
    cells: Mapping[str, Array],
    n_pixels: int,
) -> Metrics:
    """Sums of a batch from the metrics of its events, with what is not known of single events.

    Args:
        per_event: metrics of single events.
        is_event: False for filling.
        outputs: raw outputs of the network.
        scores: scores of the hits.
        cells: of `input`, `direct` and `masked`, as `PerEventImage` has them.
        n_pixels: of an image.
    """
    sums = event_sum(per_event, is_event)

    def with_joint(output: OutputMetrics, cells: Array) -> OutputMetrics:
        joint = joint_times(cells, is_event, n_pixels=n_pixels)
        return output._replace(image=output.image._replace(joint=joint))

    joined = {name: with_joint(getattr(sums, name), of) for name, of in cells.items()}
    return sums._replace(outputs=outputs, scores=scores, **joined)


@runtime_checkable
class HasMetrics(Protocol):
    """What an evaluation step returns."""

    @property
    def metrics(self) -> Metrics:
        """Sums of a batch."""
        ...


def update(sums: Metrics | None, evaluated: HasMetrics) -> Metrics:
    """Add the metrics of a batch to running sums on the host, wide enough for any number of events.

    Args:
        sums: of the batches before; None: this is the first.
        evaluated: output of `eval_step`, from the device or the host; its `metrics` are fetched.

    Returns:
        The sums of all batches, NumPy int64 and float64.
    """
    batch = to_host(jax.device_get(evaluated.metrics))
    return batch if sums is None else merge(sums, batch)


def merge(first: Any, second: Any) -> Any:
    """Add two sums, on the device or on the host.

    Counts on a device are int32: fetch them before 2^31 pixels have been counted (`to_host`, or `update`).

    Args:
        first: sums of some events: `Metrics`, or a part of them such as a `Confusion`.
        second: sums of others, of the same kind.

    Returns:
        The sums of both, the same as if they had been one batch; sums of floats up to rounding.
    """
    return jax.tree.map(lambda a, b: a + b, first, second)


def to_host(metrics: Any) -> Any:
    """The same sums as NumPy int64 and float64 values, wide enough to merge any number of batches."""

    def widen(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        wide = leaf.astype(np.int64 if np.issubdtype(leaf.dtype, np.integer) else np.float64)
        return wide[()]  # a scalar where it is one

    return jax.tree.map(widen, metrics)


def metric_names() -> list[str]:
    """Dotted names of all numbers that `compute` gives, e.g. `masked.f1`."""
    image = ImageSums(0, 0, 0, 0, np.zeros(5), np.zeros(3), 0, 0, 0, 0, ssim=0.0, joint=np.zeros((1, 1)))
    output = OutputMetrics(Confusion(*[0] * 5), image)
    untouched = output._replace(image=image._replace(ssim=None))
    nothing = Metrics(
        EventCounts(*[0] * 8),
        0.0,
        OutputSums(np.zeros(1), 0, 0, 0),
        no_scores(),
        untouched,
        direct=output,
        masked=output,
    )

    def names(tree: dict[str, Any], prefix: str) -> list[str]:
        found = []
        for key, value in tree.items():
            if isinstance(value, dict):
                found += names(value, f"{prefix}{key}.")
            elif isinstance(value, int | float):
                found.append(f"{prefix}{key}")
        return found

    return names(compute(nothing, threshold=0.0), "")


def compute(metrics: Metrics, *, threshold: float, direct_has_time: bool = True) -> dict[str, Any]:
    """Numbers for people, from merged sums.

    Returns `{"events", "loss", "counts", "outputs", "scores", "input", "direct", "masked"}`; `outputs` is
    `compute_outputs`, `scores` `compute_scores`, the last three hold efficiency, purity, F1, noise rejection and counts
    (`compute_confusion`) and what `compute_images` gives, in units of the full time range (`mse` in (t/T)²). The input
    has no SSIM. Without events all of it is 0 or, for shares and nmi, 1 (percentages: 100). What the sums lack
    (`outputs`, `scores`, joint histograms) the result lacks.

    Args:
        metrics: sums of all batches.
        threshold: of the network's outputs, for the record.
        direct_has_time: False where the direct output is only lit or not: what compares times then is None.
    """
    n_events = int(metrics.events.n_events)
    counts = metrics.events._asdict()
    del counts["n_events"]
    result: dict[str, Any] = {
        "events": n_events,
        "loss": float(metrics.loss) / max(n_events, 1),
        "counts": {name.removeprefix("n_"): int(n) for name, n in counts.items()},
    }
    if metrics.outputs is not None:
        result["outputs"] = compute_outputs(metrics.outputs, threshold)
    if metrics.scores is not None:
        result["scores"] = compute_scores(metrics.scores)
    for name in ("input", "direct", "masked"):
        output: OutputMetrics = getattr(metrics, name)
        images: dict[str, Any] = compute_images(output.image, n_events)
        if name == "direct" and not direct_has_time:
            images = {key: value if key in TIMELESS else None for key, value in images.items()}
        result[name] = compute_confusion(output.confusion, n_events) | images
    return result
