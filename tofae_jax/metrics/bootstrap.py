"""How far the numbers of an evaluation depend on which events it had."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from tofae_jax.metrics.aggregate import Metrics, compute, to_host

N_RESAMPLES = 1000
_MOST_GROUPS = 5000


def intervals(
    per_event: Metrics, *, level: float = 0.95, seed: int = 0, threshold: float, direct_has_time: bool = True
) -> dict[str, Any]:
    """Confidence intervals `[low, high]` of what `compute` gives: percentiles of a bootstrap over the events.

    They tell how far other events of the same kind would have given other numbers; not how far another training would.

    Args:
        per_event: metrics of single events, NumPy arrays `[n, …]`. Beyond 5000 events, sums of neighbours are drawn.
        level: share of the resamples within the interval.
        seed: of the 1000 resamples.
        threshold: as for `compute`.
        direct_has_time: as for `compute`.

    Returns:
        A dict like that of `compute`, of the numbers that are means, shares or correlations: no counts, and no `nmi`,
        which is not known of single events. Empty with fewer than two events, of which nothing can be said.
    """
    n_events = len(per_event.loss)
    if n_events < 2:
        return {}
    starts = np.unique(np.linspace(0, n_events, min(n_events, _MOST_GROUPS), endpoint=False).astype(int))
    groups = jax.tree.map(lambda leaf: np.add.reduceat(to_host(leaf), starts, axis=0), per_event)
    drawn = np.random.default_rng(seed).multinomial(len(starts), [1 / len(starts)] * len(starts), size=N_RESAMPLES)
    resampled = jax.tree.map(lambda leaf: np.tensordot(drawn.astype(leaf.dtype), leaf, axes=1), groups)
    results = [
        compute(jax.tree.map(lambda leaf: leaf[i], resampled), threshold=threshold, direct_has_time=direct_has_time)  # noqa: B023
        for i in range(N_RESAMPLES)
    ]
    outside = 100 * (1 - level) / 2

    def limits(results: list[Any]) -> Any:
        if isinstance(results[0], dict):
            found = {name: limits([result[name] for result in results]) for name in results[0]}
            return {name: limit for name, limit in found.items() if limit}
        if not isinstance(results[0], float):  # a count depends on how many events there are, or is not known
            return None
        return [float(limit) for limit in np.percentile(results, [outside, 100 - outside])]

    return limits(results)
