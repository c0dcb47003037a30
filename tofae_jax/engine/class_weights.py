"""What follows from the losses that a run chooses, and whether they fit the rest of it."""

from __future__ import annotations

import msgspec
import numpy as np

from tofae_jax.config import AUTO, Config, as_range, selected_settings
from tofae_jax.data.class_sizes import class_ratio, class_sizes
from tofae_jax.data.event_store import EventStore
from tofae_jax.engine.build import _chosen_losses, target_of_run

OPPOSITE_AND_CLASS = {
    "zero_weight": ("hit", "zero"),
    "hit_weight": ("zero", "hit"),
    "true_negative_weight": ("hit", "zero"),
    "false_positive_weight": ("hit", "zero"),
    "true_positive_weight": ("zero", "hit"),
    "false_negative_weight": ("zero", "hit"),
    "signal_weight": ("noise", "signal"),
    "noise_weight": ("signal", "noise"),
}  # of each weight that may be auto


def resolved_losses(config: Config, dataset: EventStore, events: np.ndarray) -> tuple[Config, dict[str, float]]:
    """The settings with numbers for the weights that are `auto` in the losses in use, and these numbers by key.

    The weight of a class is the size of its opposite per size of its own, over the given (training) events.
    """
    found: dict[str, float] = {}
    automatic = {
        key: [n for n, value in selected_settings(s).items() if value == AUTO]
        for key, s in _chosen_losses(config).items()
    }
    if not any(automatic.values()):
        return config, found
    sizes = class_sizes(
        dataset,
        events,
        target=target_of_run(config),
        n_signal=as_range(config.degradation.n_signal),
        n_noise=as_range(config.degradation.n_noise),
        max_hits=config.data.max_hits,
    )
    for key, names in automatic.items():
        section = getattr(config, key)
        numbers = {name: class_ratio(sizes, *OPPOSITE_AND_CLASS[name]) for name in names}
        found |= {f"{key}.{section.name}.{name}": number for name, number in numbers.items()}
        own = msgspec.structs.replace(getattr(section, section.name), **numbers)
        config = msgspec.structs.replace(config, **{key: msgspec.structs.replace(section, **{section.name: own})})
    return config, found
