"""Replace loss weights that are `auto` by the ratio of class sizes in the training events."""

from __future__ import annotations

import msgspec
import numpy as np

from tofae_jax.config import AUTO, Config, as_range, selected_settings, with_selected
from tofae_jax.data.class_sizes import class_ratio, class_sizes
from tofae_jax.data.event_store import EventStore
from tofae_jax.engine.build import losses_in_use, target_of_run
from tofae_jax.losses import loss_by_name


def resolved_losses(config: Config, dataset: EventStore, events: np.ndarray) -> tuple[Config, dict[str, float]]:
    """Replace the `auto` weights of the losses in use by numbers; returns the new settings and the numbers by key.

    The weight of a class is the size of the opposite class per size of its own, over the given (training) events;
    which class a weight belongs to, `losses.Loss.auto` declares.

    Raises:
        DataError: a class is empty, so that its weight would be 0 or infinite.
    """
    found: dict[str, float] = {}
    automatic = {
        key: [name for name, value in selected_settings(section).items() if value == AUTO]
        for key, section in losses_in_use(config).items()
    }
    if not any(automatic.values()):
        return config, found
    sizes = class_sizes(
        dataset,
        events,
        target=target_of_run(config, loss_by_name(config.loss.name)),
        n_signal=as_range(config.degradation.n_signal),
        n_noise=as_range(config.degradation.n_noise),
        max_hits=config.data.max_hits,
    )
    for key, names in automatic.items():
        section = getattr(config, key)
        ratios = loss_by_name(section.name).auto
        numbers = {name: class_ratio(sizes, *ratios[name]) for name in names}
        found |= {f"{key}.{section.name}.{name}": number for name, number in numbers.items()}
        config = msgspec.structs.replace(config, **{key: with_selected(section, **numbers)})
    return config, found
