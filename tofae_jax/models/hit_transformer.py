"""A set transformer on hit lists: each hit against all others by way of a few latent queries.

Full attention compares all pairs of hits: at 230 hits its small matrix products are slow everywhere, and its memory
grows with the square. Here each layer lets learned queries attend to the hits (multihead attention by inducing points;
Lee et al., Set Transformer, ICML 2019; Jaegle et al., Perceiver, ICML 2021), a wide network of the event makes of what
they found a description of it, and that modulates what is computed of every hit, by scale and shift (FiLM; Perez et
al., AAAI 2018). All of it is large matrix products, and cost grows with the number of hits. The wide part is computed
once per event, not per hit.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tofae_jax.core.detector import NO_HIT
from tofae_jax.core.precision import at_least_float32
from tofae_jax.core.sincos import sincos
from tofae_jax.models.interface import HitInput, Output

EPSILON = 1e-5
LARGE = 1e9
LOG_MANY = 5.0
"""logarithm of a usual number of hits, to bring it to order 1"""


def rms_norm(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """`x / sqrt(mean(x²) + ε)` over the last axis; the mean is taken in at least float32."""
    mean = jnp.mean(jnp.square(at_least_float32(x)), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(mean + EPSILON).astype(x.dtype)


def _wave_vectors(shape_xyt: tuple[int, int, int], finest: float) -> Any:
    """Initialiser of wave vectors `[3, n]` in rad per half length of the detector.

    Directions are random; magnitudes are spread evenly in their logarithm, from 1 to where a wave along the axis with
    most cells is `finest` cells long. Other units than these would let the optimiser's steps, which know no units, turn
    the phases of far hits about at random.
    """

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        key_direction, key_length = jax.random.split(key)
        share = jax.random.uniform(key_length, shape[1:], dtype)
        largest = max(math.pi * max(shape_xyt) / finest, 1.0)
        return jax.random.normal(key_direction, shape, dtype) * largest**share

    return init


class _Layer(nn.Module):
    """One exchange between hits and event."""

    hidden: int
    queries: int
    value_width: int
    dtype: Any
    param_dtype: Any

    def _dense(self, features: int, name: str, scale: float = 1.0, *, bias: bool = True) -> nn.Dense:
        return nn.Dense(
            features,
            use_bias=bias,
            kernel_init=nn.initializers.variance_scaling(scale, "fan_in", "normal"),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    @nn.compact
    def __call__(
        self, hits: Float[Array, "b k d"], event: Float[Array, "b e"], is_hit: Bool[Array, "b k"]
    ) -> tuple[Float[Array, "b k d"], Float[Array, "b e"]]:
        y = rms_norm(hits)
        found = self._attend(y, is_hit)
        known = jnp.concatenate([found, rms_norm(event)], axis=-1)
        thought = nn.relu(self._dense(event.shape[-1], "event_in", 2.0)(known))
        event = event + self._dense(event.shape[-1], "event_out")(thought)
        normed = rms_norm(event)
        scale = 1 + self._dense(self.hidden, "scale", 0.1)(normed)
        shift = self._dense(self.hidden, "shift", 0.1)(normed)
        z = self._dense(self.hidden, "hit_in", 2.0, bias=False)(y)
        z = nn.relu(z * scale[:, None] + shift[:, None])
        return hits + self._dense(hits.shape[-1], "hit_out", bias=False)(z), event

    def _attend(self, y: Float[Array, "b k d"], is_hit: Bool[Array, "b k"]) -> Float[Array, "b n"]:
        """What the queries find: means of values, and how much there was to find."""
        logits = at_least_float32(self._dense(self.queries, "keys", bias=False)(y))
        values = self._dense(self.value_width, "values", bias=False)(y)
        logits = jnp.where(is_hit[..., None], logits, -LARGE)
        highest = jax.lax.stop_gradient(jnp.max(logits, axis=1, keepdims=True))
        weights = jnp.where(is_hit[..., None], jnp.exp(logits - highest), 0)
        # an event without hits has no weight at all; its values are 0
        total = jnp.maximum(jnp.sum(weights, axis=1, keepdims=True), EPSILON)
        means = jnp.einsum("bkm,bkd->bmd", (weights / total).astype(y.dtype), values)
        n_hits = jnp.sum(is_hit, axis=1, keepdims=True, dtype=logits.dtype)
        # means do not tell how many hits there are, nor how many of them a query likes
        amount = jnp.where(n_hits > 0, jnp.log(total[:, 0]) + highest[:, 0] - jnp.log(jnp.maximum(n_hits, 1)), 0)
        amount = jnp.concatenate([amount, jnp.log1p(n_hits) / LOG_MANY], axis=-1)
        return jnp.concatenate([rms_norm(means.reshape(len(y), -1)), amount.astype(y.dtype)], axis=-1)


class HitTransformer(nn.Module, kw_only=True):
    """Hit lists `[b, k, 3]` to a logit per hit: whether it is signal. Order and empty slots change nothing."""

    shape_xyt: tuple[int, int, int]
    width: int
    hidden: int
    layers: int
    queries: int
    value_width: int
    event_width: int
    frequencies: int
    finest: float
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    output_dtype: Any = jnp.float32

    @nn.nowrap
    def _dense(self, features: int, name: str, scale: float = 1.0) -> nn.Dense:
        init = nn.initializers.variance_scaling(scale, "fan_in", "normal")
        return nn.Dense(features, kernel_init=init, dtype=self.dtype, param_dtype=self.param_dtype, name=name)

    def __call__(self, x: HitInput, train: bool = False) -> Output:
        """Score the hits; training and inference compute the same."""
        logits, _ = self.scored(x)
        return Output(hit_logits=logits.astype(self.output_dtype))

    @nn.compact
    def scored(self, x: HitInput) -> tuple[Float[Array, "b k"], Float[Array, "b e"]]:
        """Logit of every hit, and a description of the event."""
        hits, event = self._described(x)
        y = nn.relu(self._dense(self.width, "score_in", 2.0)(rms_norm(hits)))
        return self._dense(1, "score_out", 0.1)(y)[..., 0], event

    def _described(self, x: HitInput) -> tuple[Float[Array, "b k d"], Float[Array, "b e"]]:
        """Descriptions of every hit and of the event, after all layers."""
        is_hit = x.hits[..., 2] != NO_HIT
        event = self.param("event", nn.initializers.zeros, (self.event_width,), self.param_dtype)
        # where the wavelength is a few pixels, half precision does not hold the phase
        hits = self._dense(self.width, "embed")(self._features(x.hits).astype(self.dtype))
        event = jnp.broadcast_to(event.astype(self.dtype), (len(hits), self.event_width))
        for i in range(self.layers):
            layer = _Layer(
                self.hidden,
                self.queries,
                self.value_width,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=f"layer_{i}",
            )
            hits, event = layer(hits, event, is_hit)
        return hits, event

    def _features(self, hits: Int[Array, "b k 3"]) -> Float[Array, "b k f"]:
        """Places in -1..1, and sines and cosines of learned waves, in at least float32."""
        init = _wave_vectors(self.shape_xyt, self.finest)
        waves = at_least_float32(self.param("waves", init, (3, self.frequencies), self.param_dtype))
        half = jnp.asarray([n / 2 for n in self.shape_xyt], waves.dtype)
        places = hits.astype(waves.dtype) / half - 1
        phase = jnp.dot(places, waves, precision="highest")
        return jnp.concatenate([places, *sincos(phase)], axis=-1)
