"""A U-Net on embedded-ToF images that works on patches: per-pixel scores, and a ToF image.

A plain U-Net (Ronneberger et al., MICCAI 2015) spends nearly all its time on convolutions at full resolution, where
98 of 100 pixels are dark. Here the finest level is one of 4x4 patches with all their pixels as channels, as in vision
transformers (Dosovitskiy et al., ICLR 2021); each level below joins 2x2 places and has twice the channels. On each
level blocks take part of their channels from the neighbours by shifting them (Wu et al., Shift, CVPR 2018), so all
that is learnt is large matrix products. Normalisation is by each place's own root mean square: no batch statistics,
events do not see each other.

What tells signal from noise is whether hits near in the image are near in time, and a network takes thousands of
events to find that out. So it is handed to it: with `z_f = exp(2πi 2^f v)` the waves of the value v, the sum over a
window W around pixel p, `Re(conj z_f(p) Σ_W z_f) = Σ_W cos(2π 2^f (v_p - v_q))`, counts the hits of W at a time like
its own, which is a kernel density in time whose kernel the weights of the waves shape. It costs one product per wave
and pixel, and has no gradient to pass on, as it depends on the image only.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tofae_jax.core.precision import at_least_float32
from tofae_jax.core.sincos import sincos
from tofae_jax.models.hit_transformer import rms_norm
from tofae_jax.models.interface import Output

PATCH = 4
FOLD = 2
"""places of a level that one place of the next joins, along y and x"""
REACHES = (1, 2)
"""of the windows in which hits are compared, in patches: 3x3 and 5x5 patches, 12 and 20 pixels wide"""
WINDOW_WEIGHTS = (1.0, 0.1, 0.001)
"""of hits in the nearer window, the wider one and the whole image, where a pixel looks for a ToF"""
MAX_LOGIT = 8.0
"""logit beyond which a hit's weight there grows no further"""
TOF_MARGIN = 1e-3
"""a ToF is at least this far from 0 and 1 before it is corrected, where its logit would be infinite"""
OFFSETS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
"""from where blocks take their channels, a ninth from each"""
WIDENING = 2
"""hidden channels of a block for each of its channels, and channels of a level for each of the level above"""
BLOCKS_TOP, BLOCKS_BELOW = 1, 2
"""blocks of a level, on the way down and again on the way up; the top has sixteen times the places of the third"""


def level_sizes(n_y: int, n_x: int, depth: int) -> tuple[tuple[int, int], ...]:
    """Places `(y, x)` of each level, finest first: as many as cover the level above, never less than one."""
    sizes = [(-(-n_y // PATCH), -(-n_x // PATCH))]
    for _ in range(depth - 1):
        y, x = sizes[-1]
        sizes.append((-(-y // FOLD), -(-x // FOLD)))
    return tuple(sizes)


def _to_size(x: Float[Array, "b _y _x c"], size_yx: tuple[int, int]) -> Float[Array, "b _m _n c"]:
    """Rows and columns of zeros added at the end, or cut off there."""
    beyond_y, beyond_x = (max(0, size - have) for size, have in zip(size_yx, x.shape[1:3], strict=True))
    return jnp.pad(x, ((0, 0), (0, beyond_y), (0, beyond_x), (0, 0)))[:, : size_yx[0], : size_yx[1]]


def join(x: Float[Array, "b _y _x _c"], fold: int) -> Float[Array, "b _m _n _d"]:
    """Blocks of `fold` x `fold` places to channels, with zeros beyond the end: `[b, ⌈y/f⌉, ⌈x/f⌉, f f c]`."""
    y, x_ = (-(-n // fold) for n in x.shape[1:3])
    x = _to_size(x, (y * fold, x_ * fold))
    x = x.reshape(len(x), y, fold, x_, fold, x.shape[-1]).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(len(x), y, x_, -1)


def part(x: Float[Array, "b _y _x _c"], fold: int, size_yx: tuple[int, int]) -> Float[Array, "b _m _n _d"]:
    """The way back from `join`, to `size_yx`, which cuts off what it added."""
    b, y, x_, c = x.shape
    x = x.reshape(b, y, x_, fold, fold, c // fold**2).transpose(0, 1, 3, 2, 4, 5)
    return _to_size(x.reshape(b, y * fold, x_ * fold, c // fold**2), size_yx)


class Pixels(NamedTuple):
    """What is known of each pixel, in at least float32; dark pixels have 0 everywhere."""

    is_lit: Array
    """float[b, y, x, p]"""
    value: Array
    """float[b, y, x, p]"""
    sine: Array
    """float[b, y, x, f, p]: of 2π 2^f value"""
    cosine: Array
    """float[b, y, x, f, p]"""


def fourier(patches: Float[Array, "b y x p"], n_fourier: int) -> Pixels:
    """Mask, value and Fourier features of the pixels of each patch."""
    value = at_least_float32(patches)
    is_lit = value > 0
    turns = jnp.where(is_lit, value, 0)[..., None, :] * jnp.exp2(jnp.arange(n_fourier, dtype=value.dtype))[:, None]
    sine, cosine = sincos(2 * math.pi * (turns - jnp.round(turns)))  # whole turns taken off, which is exact
    lit = is_lit.astype(value.dtype)
    return Pixels(lit, value * lit, sine, cosine * lit[..., None, :])


def _window_sum(x: Float[Array, "b y x c"], reach: int) -> Float[Array, "b y x c"]:
    """Sum over all places at most `reach` away along y and x."""
    _, n_y, n_x, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    rows = sum((padded[:, i : i + n_y] for i in range(1, 2 * reach + 1)), padded[:, :n_y])
    return sum((rows[:, :, j : j + n_x] for j in range(1, 2 * reach + 1)), rows[:, :, :n_x])


def agreement(seen: Pixels) -> Float[Array, "b y x f p"]:
    """For each pixel, window and wave: `Σ cos(2π 2^f (v_p - v_q)) / sqrt(1 + n)` over the n other hits q of the window.

    Hits at any time add up to about `sqrt(n)`, so that the numbers stay near 1 whatever the noise. 0 at dark pixels.
    """
    n_fourier = seen.sine.shape[3]
    in_patch = jnp.concatenate([jnp.sum(wave, axis=-1) for wave in (seen.sine, seen.cosine)], axis=-1)
    in_patch = jnp.concatenate([in_patch, jnp.sum(seen.is_lit, axis=-1, keepdims=True)], axis=-1)
    found = []
    for reach in REACHES:
        # kept: else all its terms would be summed again for each pixel and wave
        window = jax.lax.optimization_barrier(_window_sum(in_patch, reach))[..., None]
        sine, cosine, count = window[..., :n_fourier, :], window[..., n_fourier:-1, :], window[..., -1:, :]
        own = seen.is_lit[..., None, :]  # each hit agrees with itself
        found.append((sine * seen.sine + cosine * seen.cosine - own) * jax.lax.rsqrt(1 + count))
    return jnp.concatenate(found, axis=3)


def nearby_time(seen: Pixels, logits: Float[Array, "b y x p"]) -> Float[Array, "b y x 1"]:
    """Mean value of the hits near each patch, each weighted by its odds to be signal; 1/2 where there are none.

    The patch's nearer window counts most; where that holds no likely signal, the wider one and then the image decide.
    """
    weight = seen.is_lit * jnp.exp(jnp.clip(logits, -MAX_LOGIT, MAX_LOGIT))
    sums = jnp.stack([jnp.sum(weight, axis=-1), jnp.sum(weight * seen.value, axis=-1)], axis=-1)
    total, weighted = jnp.split(
        sum(trust * _window_sum(sums, reach) for trust, reach in zip(WINDOW_WEIGHTS[:-1], REACHES, strict=True))
        + WINDOW_WEIGHTS[-1] * jnp.sum(sums, axis=(1, 2), keepdims=True),
        2,
        axis=-1,
    )
    least = WINDOW_WEIGHTS[-1] * TOF_MARGIN
    return (weighted + least / 2) / (total + least)


def shift(x: Float[Array, "b y x c"]) -> Float[Array, "b y x c"]:
    """A ninth of the channels from each neighbour and from the place itself; 0 from beyond the border."""
    _, n_y, n_x, c = x.shape
    edges = [round(i * c / len(OFFSETS)) for i in range(len(OFFSETS) + 1)]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    groups = [
        padded[:, 1 + dy : 1 + dy + n_y, 1 + dx : 1 + dx + n_x, edges[i] : edges[i + 1]]
        for i, (dy, dx) in enumerate(OFFSETS)
    ]
    return jnp.concatenate(groups, axis=-1)


class UNet(nn.Module, kw_only=True):
    """Normalised image `[b, y, x]` to `Output(image, pixel_logits)`, both `[b, y, x]`. Any detector shape.

    `pixel_logits`: the logit of the chance that the hit in a lit pixel is signal, or that a pixel is on the pattern.
    Loss `hit_bce` or `hit_focal` trains it as a classifier of the lit pixels; what dark pixels then get means nothing,
    and so does `image`.

    `image`: `sigmoid(pixel_logits) · sigmoid(ToF)`, in [0, 1]: a gate times a value, so that a pixel can be dark
    whatever its ToF. The ToF is a channel of its own, counted from `nearby_time`: without that, it was still at chance
    when the gate had learnt most. An image loss such as `acb_mse` trains it to reconstruct the full pattern; then
    the logits are those of the gate. Without `regress_tof` the image is `sigmoid(pixel_logits)` alone, which suits
    normalisation `binary`.

    The input is to be in [0, 1] as `gapped` and `binary` give it: the waves have periods `2^-f`, f < n_fourier, of
    which those of time bins as they are (`none`) show nothing. With 8 of them, T = 1000 and a threshold of 0.5 the
    finest has 16 time bins. An empty image gives finite numbers, as any other.
    """

    width: int
    depth: int
    n_fourier: int
    coincidences: int
    regress_tof: bool
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    output_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        for name in ("width", "depth", "n_fourier", "coincidences"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        super().__post_init__()

    @nn.nowrap
    def _dense(self, features: int, name: str, scale: float, *, bias: bool = False) -> nn.Dense:
        return nn.Dense(
            features,
            use_bias=bias,
            kernel_init=nn.initializers.variance_scaling(scale, "fan_in", "normal"),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def _blocks(self, x: Float[Array, "b y x c"], way: str, level: int) -> Float[Array, "b y x c"]:
        """The blocks of a level, `x + W relu(V shift(norm x))` each."""
        for i in range(BLOCKS_BELOW if level else BLOCKS_TOP):
            name = f"{way}_{level}_{i}"
            y = self._dense(WIDENING * x.shape[-1], f"{name}_in", 2.0, bias=True)(shift(rms_norm(x)))
            x = x + self._dense(x.shape[-1], f"{name}_out", 0.5)(nn.relu(y))
        return x

    def _embed(self, seen: Pixels) -> Float[Array, "b y x c"]:
        """What is known of the pixels of each patch, in `width` channels."""
        shape = (len(REACHES) * self.n_fourier, self.coincidences)
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        kernels = jnp.asarray(self.param("kernels", init, shape, self.param_dtype)).astype(self.dtype)
        agreed = nn.relu(jnp.einsum("byxfp,fk->byxkp", agreement(seen).astype(self.dtype), kernels))
        b, y, x, _ = seen.value.shape
        parts = [seen.is_lit, seen.value, seen.sine.reshape(b, y, x, -1), seen.cosine.reshape(b, y, x, -1)]
        described = jnp.concatenate([known.astype(self.dtype) for known in parts], axis=-1)
        # most patches hold one hit at most: what is known of a single pixel is to come out at a size of about 1
        embedded = self._dense(self.width, "embed", PATCH**2, bias=True)(described)
        # apart from the others, as these alone have a gradient to pass on
        return embedded + self._dense(self.width, "embed_agreed", PATCH**2)(agreed.reshape(b, y, x, -1))

    @nn.compact
    def __call__(self, image: Float[Array, "b y x"], train: bool = False) -> Output:
        """Score the pixels; training and inference compute the same."""
        sizes = level_sizes(image.shape[1], image.shape[2], self.depth)
        seen = fourier(join(image[..., None], PATCH), self.n_fourier)
        x = self._blocks(self._embed(seen), "down", 0)
        skips = []
        for level in range(1, self.depth):
            skips.append(x)
            x = self._dense(WIDENING * x.shape[-1], f"join_{level}", 1.0)(join(x, FOLD))
            x = self._blocks(x, "down", level)
        for level in reversed(range(self.depth - 1)):
            finer = self._dense(FOLD**2 * skips[level].shape[-1], f"part_{level}", 0.5)(rms_norm(x))
            x = self._blocks(skips[level] + part(finer, FOLD, sizes[level]), "up", level)
        channels = 2 if self.regress_tof else 1
        pixels = self._dense(channels * PATCH**2, "head", 0.1, bias=True)(rms_norm(x))
        read = self._read(seen, at_least_float32(pixels).reshape(*seen.value.shape, channels))
        read = part(read, PATCH, (image.shape[1], image.shape[2])).astype(self.output_dtype)
        return Output(image=read[..., 0], pixel_logits=read[..., 1])

    @nn.nowrap
    def _read(self, seen: Pixels, pixels: Float[Array, "b y x p c"]) -> Float[Array, "b y x q"]:
        """Image and logit of each pixel, one after the other."""
        logits = pixels[..., 0]
        shown = nn.sigmoid(logits)
        if self.regress_tof:
            time = jnp.clip(nearby_time(seen, logits), TOF_MARGIN, 1 - TOF_MARGIN)
            shown = shown * nn.sigmoid(pixels[..., 1] + jnp.log(time) - jnp.log1p(-time))
        return jnp.stack([shown, logits], axis=-1).reshape(*pixels.shape[:3], -1)
