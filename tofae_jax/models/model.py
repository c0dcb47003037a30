"""A model ready for use: a Flax module with its kind, detector and precision; also of one's own module."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from tofae_jax.core.precision import Policy, cast_floats, cast_variables, check_available, policy_by_name
from tofae_jax.models.autoencoder import LATENT
from tofae_jax.models.interface import HitInput, Inputs, Output, as_output, empty_input

Variables = dict[str, Any]
OutputKind = Literal["image", "hits"]
NOT_SIZES = {"parent", "name", "shape_xyt", "bin_ns", "module", "dtype", "param_dtype", "output_dtype"}
"""fields of modules that flax or `build_model` fills in"""


class ModelKind(NamedTuple):
    """Everything that the rest of the package needs to know of a model, except its sizes."""

    module: type[nn.Module]
    """its fields are its sizes, which have no defaults here but in the model's section of `config.models`, and those of
    `shape_xyt`, `bin_ns`, `module`, `dtype`, `param_dtype`, `output_dtype` that it uses: `build_model` fills them in"""
    inputs: Inputs
    """`image`: normalised embedded-ToF image [b, y, x]; `hits`, `hits_and_tracks`: `HitInput`"""
    outputs: tuple[OutputKind, ...]
    """`image`: normalised image [b, y, x] in [0, 1]; `hits`: logits of the hits, or of the pixels"""
    has_latent: bool = False
    """whether everything about an image passes through one vector, see `Model.encode` and `Model.decode`"""
    of_module: bool = False
    """whether it is built for an LHCb TORCH module: for its settings `module` and time bins of `bin_ns`"""
    learns_tracks: bool = False
    """whether it is trained to find tracks, so that training needs the true ones"""
    needs_normalised_images: bool = False
    """whether its input images must be normalised"""
    bounded_images: bool = False
    """whether its output images lie in [0, 1] whatever its weights, so that time bins are out of their reach"""
    works_untrained: bool = False
    """whether its fresh weights are good ones, so that it comes with the package without a weights file"""

    @property
    def takes_tracks(self) -> bool:
        """Whether its input contains tracks."""
        return self.inputs == "hits_and_tracks"

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of its sizes: the fields of numbers and words that `build_model` does not fill in itself."""
        fields = [field for field in dataclasses.fields(self.module) if field.name not in NOT_SIZES]
        return tuple(field.name for field in fields if _is_plain(field.default))


def _is_plain(default: Any) -> bool:
    """Whether a field with this default can be a setting: a number, a word, or a tuple of them, or none is given."""
    if isinstance(default, tuple | list):
        return all(map(_is_plain, default))
    return default is dataclasses.MISSING or isinstance(default, bool | int | float | str)


class Model(NamedTuple):
    """A model ready for use: `init` and `apply` are pure and may be traced.

    `build_model` makes one of the package's models, `model_from_module` one of any Flax module.
    """

    name: str
    """name in messages"""
    kind: ModelKind
    """what it takes and gives"""
    module: nn.Module
    """the network"""
    shape_xyt: tuple[int, int, int]
    """columns, rows and time bins of the detector"""
    policy: Policy
    """dtypes of parameters, computation and outputs"""
    matmul: str | None = None
    """precision of its matrix products, as for `jax.default_matmul_precision`; None: the device's default"""

    def init(self, key: Array) -> Variables:
        """Draw initial `{"params": …, "batch_stats": …}`; all policies draw the same numbers and round them.

        Raises:
            ValueError: the module has variables of other collections, which training would lose.
        """
        in_float32: dict[str, Any] = {"param_dtype": jnp.float32} if hasattr(self.module, "param_dtype") else {}
        module = self.module.clone(**in_float32)
        drawn = module.init(key, empty_input(self.inputs, self.shape_xyt), **_mode(module, train=False))
        variables = {"params": {}, "batch_stats": {}, **drawn}
        variables.pop("intermediates", None)
        if others := sorted(variables.keys() - {"params", "batch_stats"}):
            raise ValueError(f"model {self.name}: has variables {', '.join(others)}; allowed: params and batch_stats")
        return cast_variables(variables, self.policy)

    @property
    def n_x(self) -> int:
        """Columns of the detector."""
        return self.shape_xyt[0]

    @property
    def n_y(self) -> int:
        """Rows of the detector."""
        return self.shape_xyt[1]

    def apply(self, variables: Variables, x: Any) -> Output:
        """Compute the output for inference, with running batch statistics. `x` is an input of kind `inputs`."""
        variables, given = self._cast(variables, x)
        with jax.default_matmul_precision(self.matmul):
            output = self.module.apply(variables, given, **_mode(self.module, train=False))
        return self._output(output, x)

    def apply_train(self, variables: Variables, x: Any, key: Array | None = None) -> tuple[Output, Any]:
        """Compute the output for training, with the batch's own statistics, and the new running statistics.

        Args:
            variables: `{"params": …, "batch_stats": …}`.
            x: input of kind `inputs`.
            key: of the module's own draws (`dropout`); None: it makes none.
        """
        cast, given = self._cast(variables, x)
        with jax.default_matmul_precision(self.matmul):
            output, updated = self.module.apply(
                cast,
                given,
                **_mode(self.module, train=True),
                mutable=["batch_stats"],
                rngs=None if key is None else {"dropout": key},
            )
        statistics = jax.tree.map(
            lambda new, old: new.astype(old.dtype), updated.get("batch_stats", {}), variables["batch_stats"]
        )
        return self._output(output, x), statistics

    @property
    def _follows_policy(self) -> bool:
        """Whether the module casts by itself, in its field `dtype`."""
        return any(field.name == "dtype" for field in dataclasses.fields(self.module))

    def _cast(self, variables: Variables, x: Any) -> tuple[Variables, Any]:
        """Cast parameters and images to the policy's dtype of computation for a module that does not do so itself."""
        if self._follows_policy:
            return variables, x
        compute = jnp.dtype(self.policy.compute)
        params = cast_floats(variables["params"], compute)
        return {**variables, "params": params}, cast_floats(x, compute) if self.inputs == "image" else x

    def _output(self, given: Any, x: Any) -> Output:
        """Wrap what the module returns, in the policy's dtype; ValueError where it is not what the kind declares."""
        if not isinstance(given, Output | jax.Array):
            raise ValueError(f"model {self.name}: returns a {type(given).__name__}, expected an array or an Output")
        output = cast_floats(as_output(given, self.inputs, self.outputs), jnp.dtype(self.policy.output))
        shape = jnp.shape(x.hits)[:-1] if isinstance(x, HitInput) else jnp.shape(x)
        places = {"image": ("image",), "hits": ("hit_logits",) if isinstance(x, HitInput) else ("pixel_logits",)}
        for declared in self.outputs:
            for name in places[declared]:
                found = getattr(output, name)
                if found is None:
                    raise ValueError(f"model {self.name}: gives no {name}, but outputs says {declared}")
                if jnp.shape(found) != shape:
                    raise ValueError(
                        f"model {self.name}: gives {name} of shape {list(jnp.shape(found))}, expected {list(shape)}"
                    )
        return output

    @property
    def inputs(self) -> Inputs:
        """Kind of its input: `image`, `hits` or `hits_and_tracks`."""
        return self.kind.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """What it outputs: `image`, `hits` or both."""
        return self.kind.outputs

    @property
    def takes_tracks(self) -> bool:
        """Whether its input contains tracks."""
        return self.kind.takes_tracks

    @property
    def learns_tracks(self) -> bool:
        """Whether training needs true tracks."""
        return self.kind.learns_tracks

    @property
    def has_latent(self) -> bool:
        """Whether it has `encode` and `decode`."""
        return self.kind.has_latent

    def encode(self, variables: Variables, x: Array) -> Array:
        """Return the latent vectors [b, n] of normalised images [b, y, x]."""
        with jax.default_matmul_precision(self.matmul):
            _, found = self.module.apply(variables, x, **_mode(self.module, train=False), mutable=["intermediates"])
        latent: Any = found["intermediates"][LATENT][0]
        return latent

    def decode(self, variables: Variables, latent: Array) -> Array:
        """Return the images [b, y, x] of latent vectors [b, n]."""
        nothing = jnp.zeros((len(latent), self.n_y, self.n_x), jnp.float32)
        with jax.default_matmul_precision(self.matmul):
            output = self.module.apply(variables, nothing, **_mode(self.module, train=False), latent=latent)
        assert isinstance(output, jax.Array)
        return output


TRAINS = {"train": True, "training": True, "is_training": True, "deterministic": False, "use_running_average": False}
"""keywords by which modules are told whether they train, and their value in training"""


def _mode(module: nn.Module, *, train: bool) -> dict[str, Any]:
    """Return the keyword that tells a module whether it trains; none for modules that take none."""
    parameters = inspect.signature(type(module).__call__).parameters
    return {name: value == train for name, value in TRAINS.items() if name in parameters}


def model_from_module(
    module: nn.Module,
    *,
    shape_xyt: tuple[int, int, int],
    inputs: Inputs = "image",
    outputs: OutputKind | tuple[OutputKind, ...] = "image",
    policy: Policy | str = "float32",
    matmul: str | None = None,
    name: str = "",
) -> Model:
    """Wrap a Flax (Linen) module as a model for the steps, evaluation, checkpoints and denoising.

    Args:
        module: the network. It is called with the input, and with the keyword `train` (or `training`, `is_training`,
            `deterministic`, `use_running_average`) if it has one, and returns an array (or an `Output`). Its variables
            may be `params` and `batch_stats`; in training it may draw `dropout`. A field `dtype` is filled in by the
            policy, as are `param_dtype` and `output_dtype`; for a module without `dtype`, parameters and images are
            cast to the policy's dtype before it is called.
        shape_xyt: columns, rows and time bins of the detector.
        inputs: `image`: normalised images float[batch, y, x]; `hits` or `hits_and_tracks`: a `HitInput`.
        outputs: `image`: a normalised image float[batch, y, x] in [0, 1]; `hits`: the logit of each hit float[batch, k]
            or, for images, of each pixel float[batch, y, x]. A module of both returns an `Output`.
        policy: its dtypes, see `policy_by_name`. `train_step` scales the losses of those that compute in float16.
        matmul: precision of matrix products, as for `jax.default_matmul_precision`; None: the device's default.
        name: name in messages; empty: the name of the module's class.

    Returns:
        The model: `init(key)` draws its variables, `apply(variables, x)` computes its `Output`.

    Raises:
        ValueError: the output has another shape than the input asks for; the module has variables of other collections,
            or batch statistics and no keyword for training; it computes in float16 although the policy, which decides
            whether losses are scaled, does not.
    """
    policy = policy_by_name(policy) if isinstance(policy, str) else policy
    check_available(policy)
    if not isinstance(module, nn.Module):
        raise ValueError(f"module must be a Flax (Linen) module, made: Net(), not Net; got {module!r}")
    shape_xyt = check_detector_shape(shape_xyt)
    fields = {field.name for field in dataclasses.fields(module)}
    dtypes = {"dtype": policy.compute, "param_dtype": policy.param, "output_dtype": policy.output}
    used: dict[str, Any] = {field: jnp.dtype(dtype) for field, dtype in dtypes.items() if field in fields}
    module = module.clone(**used)
    kinds = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    check_kinds(inputs, kinds)
    model = Model(
        name or type(module).__name__, ModelKind(type(module), inputs, kinds), module, shape_xyt, policy, matmul
    )
    check_program(model)
    return model


def check_detector_shape(shape_xyt: Any) -> tuple[int, int, int]:
    """Return a detector's shape as a tuple; ValueError where it is none."""
    shape = tuple(shape_xyt) if isinstance(shape_xyt, Sequence) else ()
    if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(f"shape_xyt must be three whole numbers above 0: columns, rows, time bins; got {shape_xyt!r}")
    return shape


def check_kinds(inputs: str, outputs: tuple[str, ...]) -> None:
    """Check the kinds of a model's input and outputs.

    Raises:
        ValueError: one is not known, or there is no output.
    """
    for value, known in ((inputs, get_args(Inputs)), *((kind, get_args(OutputKind)) for kind in outputs)):
        if value not in known:
            raise ValueError(f"{value!r} is no kind of input or output; known: {', '.join(known)}")
    if not outputs:
        raise ValueError("outputs must name one at least: image, hits")


def check_program(model: Model) -> None:
    """Trace a model once: its output's shape, its mode of training, and float16 that its policy does not say."""

    def once(key: Array) -> Any:
        variables = model.init(key)
        if jax.tree.leaves(variables["batch_stats"]) and not _mode(model.module, train=True):
            raise ValueError(
                f"model {model.name}: has batch statistics, but takes no keyword that says whether it trains: "
                f"{', '.join(TRAINS)}"
            )
        given = empty_input(model.inputs, model.shape_xyt)
        return model.apply(variables, given), model.apply_train(variables, given, key)

    program = str(jax.make_jaxpr(once)(jax.random.key(0)))
    if not model.policy.scales_loss and re.search(r"\bf16\[", program):
        raise ValueError(
            f"model {model.name}: computes in float16, whose gradients vanish unless the loss is scaled; "
            f"say so with policy='mixed_float16' or 'float16', got {model.policy.name!r}"
        )
