"""Replace loss weights that are `auto` by the ratio of class sizes in the training events."""

from __future__ import annotations

import msgspec
import numpy as np

from tofae_jax.config import AUTO, Config, as_range, selected_settings, with_selected
from tofae_jax.data.class_sizes import class_ratio, class_sizes
from tofae_jax.data.event_store import EventStore
from tofae_jax.data.events import DataError
from tofae_jax.engine.build import losses_in_use, target_of_run
from tofae_jax.losses import loss_by_name


def check_automatic_weights(config: Config) -> None:
    """Check that no `auto` weight of a loss needs a class of which the settings leave nothing.

    Raises:
        DataError: a weight does; the message names it and the setting.
    """
    kept, added = (as_range(getattr(config.degradation, name))[1] for name in ("n_signal", "n_noise"))
    target = target_of_run(config, loss_by_name(config.loss.name))
    empty = {"noise": "degradation.n_noise"} if not added else {}
    empty |= dict.fromkeys(("signal", *["hit"] * (target == "signal")), "degradation.n_signal") if not kept else {}
    for key, names in _automatic(config).items():
        section = getattr(config, key)
        for name in names:
            for of_class in loss_by_name(section.name).auto[name]:
                if of_class in empty:
                    raise DataError(
                        f"{key}.{section.name}.{name} = auto needs the number of {of_class} "
                        f"{'pixels' if of_class == 'hit' else 'hits'}, and {empty[of_class]} is 0; give a number"
                    )


def _automatic(config: Config) -> dict[str, list[str]]:
    """Names of the weights that are `auto`, by section of the losses in use."""
    return {
        key: [name for name, value in selected_settings(section).items() if value == AUTO]
        for key, section in losses_in_use(config).items()
    }


def resolved_losses(config: Config, dataset: EventStore, events: np.ndarray) -> tuple[Config, dict[str, float]]:
    """Replace the `auto` weights of the losses in use by numbers; returns the new settings and the numbers by key.

    The weight of a class is the size of the opposite class per size of its own, over the given (training) events;
    which class a weight belongs to, `losses.Loss.auto` declares.

    Raises:
        DataError: a class is empty, so that its weight would be 0 or infinite.
    """
    found: dict[str, float] = {}
    automatic = _automatic(config)
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
