"""The predecessor's autoencoder weights as variables of ours. Only arrays and names are used, no code.

There: `[out, in, y, x]` kernels, `[batch, channel, y, x]` images (so the flattened vector runs channel first), and
names by position in a sequence. Here: `[y, x, in, out]` kernels, `[batch, y, x, channel]` images, names by meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from tofae_jax.models.autoencoder import CHANNELS, layer_sizes

# ours: (predecessor's layer, its batch normalisation or None), each relative to `enc.encoder_` or `dec.decoder_`
_CONVOLUTIONS = {
    "down_0": ("enc.encoder_cnn.0", "enc.encoder_cnn.1"),
    "down_1": ("enc.encoder_cnn.3", "enc.encoder_cnn.4"),
    "down_2": ("enc.encoder_cnn.6", "enc.encoder_cnn.7"),
    "up_0": ("dec.decoder_cnn.0", "dec.decoder_cnn.1"),
    "up_1": ("dec.decoder_cnn.3", "dec.decoder_cnn.4"),
    "up_2": ("dec.decoder_cnn.6", None),
}
_DENSE = {
    "encode_0": ("enc.encoder_lin.0", "enc.encoder_lin.1", "BatchNorm_0"),
    "encode_1": ("enc.encoder_lin.3", "enc.encoder_lin.4", "BatchNorm_1"),
    "latent": ("enc.encoder_lin.6", None, None),
    "decode_0": ("dec.decoder_lin.0", "dec.decoder_lin.1", "BatchNorm_2"),
    "decode_1": ("dec.decoder_lin.3", "dec.decoder_lin.4", "BatchNorm_3"),
    "decode_2": ("dec.decoder_lin.6", "dec.decoder_lin.7", "BatchNorm_4"),
}


_NORMALISATION = ("weight", "bias", "running_mean", "running_var")


def predecessor_shapes(*, n_y: int, n_x: int, latent: int, fc: int) -> dict[str, tuple[int, ...]]:
    """Shape of every array that `variables_from_predecessor` needs, by the predecessor's name.

    Args:
        n_y: pixel rows of the detector.
        n_x: pixel columns of the detector.
        latent: length of the latent vector.
        fc: length of the dense layers around it.
    """
    along = (1, *CHANNELS, *CHANNELS[-2::-1], 1)
    channels = dict(zip(_CONVOLUTIONS, pairwise(along), strict=True))
    flat = layer_sizes(n_y, n_x).flat
    dense = dict(zip(_DENSE, [(flat, fc), (fc, fc), (fc, latent), (latent, fc), (fc, fc), (fc, flat)], strict=True))
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (layer, norm) in _CONVOLUTIONS.items():
        n_in, n_out = channels[name]
        shapes[f"{layer}.weight"] = (*((n_out, n_in) if name.startswith("down") else (n_in, n_out)), 3, 3)
        shapes |= {f"{norm}.{part}": (n_out,) for part in _NORMALISATION} if norm else {f"{layer}.bias": (n_out,)}
    for name, (layer, norm, _) in _DENSE.items():
        n_in, n_out = dense[name]
        shapes |= {f"{layer}.weight": (n_out, n_in), f"{layer}.bias": (n_out,)}
        shapes |= {f"{norm}.{part}": (n_out,) for part in _NORMALISATION} if norm else {}
    return shapes


def _flat_order(n_y: int, n_x: int) -> np.ndarray:
    """For each place of our flattened vector (y, x, channel), its place in the predecessor's (channel, y, x)."""
    rows, columns = layer_sizes(n_y, n_x).encoder[-1]
    return np.arange(CHANNELS[-1] * rows * columns).reshape(CHANNELS[-1], rows, columns).transpose(1, 2, 0).reshape(-1)


def _normalisation(weights: Mapping[str, np.ndarray], layer: str, order: Any = slice(None)) -> tuple[dict, dict]:
    params = {"scale": weights[f"{layer}.weight"][order], "bias": weights[f"{layer}.bias"][order]}
    stats = {"mean": weights[f"{layer}.running_mean"][order], "var": weights[f"{layer}.running_var"][order]}
    return params, stats


def variables_from_predecessor(weights: Mapping[str, np.ndarray], *, n_y: int, n_x: int) -> dict[str, Any]:
    """`{"params": …, "batch_stats": …}` of `Autoencoder` from arrays by the predecessor's names.

    Args:
        weights: `enc.encoder_cnn.0.weight` and so on; `num_batches_tracked` is not used.
        n_y: pixel rows of the detector.
        n_x: pixel columns of the detector.

    Raises:
        ValueError: a weight is missing; the message names it.
    """
    try:
        return _variables(weights, _flat_order(n_y, n_x))
    except KeyError as error:
        raise ValueError(f"predecessor's weights lack {error.args[0]!r}") from None


def _variables(weights: Mapping[str, np.ndarray], order: np.ndarray) -> dict[str, Any]:
    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    for name, (layer, norm) in _CONVOLUTIONS.items():
        kernel = weights[f"{layer}.weight"]
        # a convolution stores [out, in, y, x], a transposed one [in, out, y, x]
        axes = (2, 3, 1, 0) if name.startswith("down") else (2, 3, 0, 1)
        params[name] = {"kernel": kernel.transpose(axes)}
        if norm is None:
            params[name]["bias"] = weights[f"{layer}.bias"]
        else:
            params[name]["BatchNorm_0"], batch_stats = _normalisation(weights, norm)
            stats[name] = {"BatchNorm_0": batch_stats}
    for name, (layer, norm, norm_name) in _DENSE.items():
        kernel, bias = weights[f"{layer}.weight"].T, weights[f"{layer}.bias"]
        if name == "encode_0":
            kernel = kernel[order]
        is_flat = name == "decode_2"
        params[name] = {"kernel": kernel[:, order] if is_flat else kernel, "bias": bias[order] if is_flat else bias}
        if norm is not None and norm_name is not None:
            params[norm_name], stats[norm_name] = _normalisation(weights, norm, order if is_flat else slice(None))
    return {"params": params, "batch_stats": stats}
