"""Register models and losses of other packages by name, for recipes and the command line."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Literal, get_args

import flax.linen as nn

from tofae_jax.config.losses import LOSS_NAMES, SAME
from tofae_jax.config.models import MODEL_NAMES
from tofae_jax.config.plugins import REQUIRED, Registered, register
from tofae_jax.losses import LOSSES, Loss
from tofae_jax.losses.registry import ClassRatios
from tofae_jax.models import MODELS, ModelKind
from tofae_jax.models.interface import Inputs
from tofae_jax.models.model import OutputKind, check_kinds

NOT_SETTINGS = ("reduce", "event_axes", "threshold")
"""keywords of a loss that the steps give it"""


def register_model(
    name: str,
    module: type[nn.Module],
    *,
    inputs: Inputs = "image",
    outputs: OutputKind | tuple[OutputKind, ...] = "image",
    has_latent: bool = False,
    needs_normalised_images: bool = False,
) -> None:
    """Register a Flax (Linen) module as a model for recipes and the command line.

    `[model] name = "my_net"` then chooses it, and `[model.plugin]` sets its sizes. The module that makes this call is
    the plugin: it is imported by `--plugin`, by `plugins` of a recipe, or as an entry point of the group
    `tofae_jax.models`, and is recorded with every run that uses the model.

    Args:
        name: name of the model.
        module: class of the network. Its fields with numbers and words are its sizes, with their defaults; its fields
            `shape_xyt`, `bin_ns`, `module`, `dtype`, `param_dtype` and `output_dtype` are filled in.
        inputs: kind of its input, as for `model_from_module`.
        outputs: kinds of its outputs, likewise.
        has_latent: whether everything about an image passes through one vector, see `Model.encode`.
        needs_normalised_images: whether it cannot do with normalisation `none`.

    Raises:
        ValueError: the name is no word, or is taken; an unknown kind of input or output; `module` is no module
            class.
    """
    kinds = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    check_kinds(inputs, kinds)
    if not (isinstance(module, type) and issubclass(module, nn.Module)):
        raise ValueError(
            f"model {name!r}: module must be a class of Flax (Linen) modules: Net, not Net(); got {module!r}"
        )
    kind = ModelKind(module, inputs, kinds, has_latent=has_latent, needs_normalised_images=needs_normalised_images)
    fields = {field.name: field for field in dataclasses.fields(module)}
    settings = {size: _default(fields[size]) for size in kind.sizes}
    register("model", name, Registered(_caller(), settings), built_in=MODEL_NAMES)
    MODELS[name] = kind


def register_loss(
    name: str,
    function: Callable[..., Any],
    *,
    takes: Literal["image", "hits"] = "image",
    auto: ClassRatios | None = None,
    reads_time: bool = False,
    needs_unit_targets: bool = False,
) -> None:
    """Register a function as a loss for recipes and the command line.

    `[loss] name = "my_loss"` then chooses it, and `[loss.plugin]` sets its keywords. The module that makes this call is
    the plugin, as for `register_model`; its group of entry points is `tofae_jax.losses`.

    Args:
        name: name of the loss.
        function: as for `step_options`. Its keywords are its settings, with their defaults: those whose default is a
            float are traced and may be scheduled, others are static.
        takes: what it compares: `image` or `hits`.
        auto: settings that may be `auto`, see `losses.Loss.auto`.
        reads_time: whether it is given the keyword `threshold` of normalisation `gapped`.
        needs_unit_targets: whether its targets must lie in [0, 1].

    Raises:
        ValueError: the name is no word, or is taken; `takes` is not known; a keyword of `auto` is none of the
            function's.
    """
    if takes not in get_args(OutputKind):
        raise ValueError(f"loss {name!r}: takes must be one of {', '.join(get_args(OutputKind))}, got {takes!r}")
    n_arrays = 2 if takes == "image" else 3
    keywords = list(inspect.signature(function).parameters.values())[n_arrays:]
    settings = {
        keyword.name: REQUIRED if keyword.default is keyword.empty else keyword.default
        for keyword in keywords
        if keyword.name not in NOT_SETTINGS and keyword.kind not in (keyword.VAR_KEYWORD, keyword.VAR_POSITIONAL)
    }
    if unknown := sorted((auto or {}).keys() - settings.keys()):
        raise ValueError(f"loss {name!r}: auto names {unknown[0]}, which is no keyword of the function")
    weights = tuple(key for key, value in settings.items() if isinstance(value, float))
    choices = tuple(key for key in settings if key not in weights)
    register("loss", name, Registered(_caller(), settings, tuple(auto or ())), built_in=(SAME, *LOSS_NAMES))
    LOSSES[name] = Loss(function, weights, choices, takes, reads_time, auto or {}, needs_unit_targets)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else REQUIRED


def _caller() -> str:
    """Return the name of the module that registers; empty for a script, which cannot be imported."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("tofae_jax", "jaxtyping"):
        frame = frame.f_back  # type checks of a test run stand between
    name = frame.f_globals.get("__name__", "") if frame is not None else ""
    return "" if name == "__main__" else name
