"""The convolutional autoencoder: an image through a narrow latent vector and back.

Pad; three 3x3 convolutions with stride 2 (8, 16, 32 channels), each with batch normalisation and ReLU; dense fc, fc,
latent; the mirror image of that; sigmoid; crop. All sizes follow from the detector's shape by calculation. With the
default detector, latent 24 and fc 128 it has 1,510,985 parameters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from tofae_jax.models.convolution import STRIDE, down_size, downsample, upsample

PAD = 4
CHANNELS = (8, 16, 32)
LATENT = "latent_vector"
"""name of the latent vectors among the intermediates"""


class LayerSizes(NamedTuple):
    """Sizes along the autoencoder, each `(y, x)`."""

    pad: tuple[tuple[int, int], tuple[int, int]]
    """rows before and after, columns before and after"""
    encoder: tuple[tuple[int, int], ...]
    """padded input, then the output of each convolution"""
    decoder: tuple[tuple[int, int], ...]
    """innermost image, then the output of each transposed convolution, the last as large as the padded input"""
    flat: int
    """length of the flattened innermost image"""


def layer_sizes(n_y: int, n_x: int) -> LayerSizes:
    """Sizes of every layer for a detector of `n_y` rows and `n_x` columns.

    The padding is at least 4 on each side and makes both lengths a multiple of 8, at least 16: then three
    convolutions halve them to whole numbers n, and the way back (2n + 2, twice that, four times that) meets them.
    """
    fold = STRIDE ** len(CHANNELS)
    pads = []
    for n in (n_y, n_x):
        padded = max(2, -(-(n + 2 * PAD) // fold)) * fold
        pads.append(((padded - n) // 2, padded - n - (padded - n) // 2))
    encoder = [(n_y + sum(pads[0]), n_x + sum(pads[1]))]
    for _ in CHANNELS:
        y, x = encoder[-1]
        encoder.append((down_size(y), down_size(x)))
    y, x = encoder[-1]
    decoder = [(y, x), *((s * (2 * y + 2), s * (2 * x + 2)) for s in (1, 2, 4))]
    return LayerSizes((pads[0], pads[1]), tuple(encoder), tuple(decoder), y * x * CHANNELS[-1])


class _Block(nn.Module):
    """One strided convolution, down, or up to `size_yx`, with batch normalisation and ReLU unless it is the last."""

    features: int
    size_yx: tuple[int, int] | None = None
    last: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"], train: bool) -> Float[Array, "b m n d"]:
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, self.param_dtype)
        x, kernel = x.astype(self.dtype), jnp.asarray(kernel).astype(self.dtype)
        if self.size_yx is None:
            x = downsample(x, kernel)
        else:
            # the first layer up keeps its whole reach (2n + 2); the later ones give up one pixel on each side (2n)
            trim = 1 if self.size_yx[0] == 2 * x.shape[1] else 0
            x = upsample(x, kernel, (self.size_yx[0] + 2 * trim, self.size_yx[1] + 2 * trim))
            x = x[:, trim : x.shape[1] - trim, trim : x.shape[2] - trim]
        if self.last:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
            return x + jnp.asarray(bias).astype(self.dtype)
        return nn.relu(_batch_norm(self, train)(x))


def _batch_norm(module: Any, train: bool) -> nn.BatchNorm:
    # the fast variance E[x²] - E[x]² cancels catastrophically when the mean is large against the spread
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        use_fast_variance=False,
        dtype=module.dtype,
        param_dtype=module.param_dtype,
    )


class Autoencoder(nn.Module, kw_only=True):
    """Normalised image `[b, y, x]` to an image in [0, 1] of the same shape."""

    latent: int
    fc: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    output_dtype: Any = jnp.float32

    @nn.nowrap
    def _dense(self, features: int, name: str) -> nn.Dense:
        return nn.Dense(features, dtype=self.dtype, param_dtype=self.param_dtype, name=name)

    @nn.compact
    def __call__(
        self, image: Float[Array, "b y x"], train: bool = False, *, latent: Float[Array, "b n"] | None = None
    ) -> Float[Array, "b y x"]:
        """Reconstruct; `train` normalises by the batch's own statistics and updates the running ones.

        With `latent`, these vectors are decoded in place of the images' own.
        """
        sizes = layer_sizes(*image.shape[1:])
        precision = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = jnp.pad(image, ((0, 0), *sizes.pad))[..., None].astype(self.dtype)
        for i, features in enumerate(CHANNELS):
            x = _Block(features, name=f"down_{i}", **precision)(x, train)
        x = x.reshape(x.shape[0], sizes.flat)
        for i in range(2):
            x = nn.relu(_batch_norm(self, train)(self._dense(self.fc, f"encode_{i}")(x)))
        encoded = self._dense(self.latent, "latent")(x)
        self.sow("intermediates", LATENT, encoded)
        x = encoded if latent is None else latent.astype(encoded.dtype)
        for i, features in enumerate((self.fc, self.fc, sizes.flat)):
            x = nn.relu(_batch_norm(self, train)(self._dense(features, f"decode_{i}")(x)))
        x = x.reshape(x.shape[0], *sizes.decoder[0], CHANNELS[-1])
        for i, features in enumerate((*CHANNELS[-2::-1], 1)):
            last = i == len(CHANNELS) - 1
            x = _Block(features, sizes.decoder[i + 1], last, name=f"up_{i}", **precision)(x, train)
        (top, bottom), (left, right) = sizes.pad
        return nn.sigmoid(x[:, top : x.shape[1] - bottom, left : x.shape[2] - right, 0].astype(self.output_dtype))
