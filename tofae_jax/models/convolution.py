"""3x3 convolutions with stride 2, down and up, whose gradients are quick on CPU too.

The two are each other's adjoint, so each one's input gradient is the other's forward pass. XLA on CPU runs the
gradients of such convolutions several times slower than the same sums written as matrix products; on GPU and TPU its
own are the quick ones. Which form runs is chosen when the program is lowered for a platform; the values agree.
Kernels are `[3, 3, in, out]`, images `[batch, y, x, channel]`. Reverse-mode differentiation only.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

KERNEL = 3
STRIDE = 2
_LAYOUT = ("NHWC", "HWIO", "NHWC")

Images = Float[Array, "batch _y _x _channel"]  # lengths differ between arguments and results
Kernel = Float[Array, "3 3 _in _out"]


def down_size(n: int) -> int:
    """Length after `downsample`: every second place where the kernel fits."""
    return (n - KERNEL) // STRIDE + 1


def up_size(n: int) -> int:
    """Length after `upsample` without extra rows: the shortest that `down_size` maps back to `n`."""
    return (n - 1) * STRIDE + KERNEL


def _patches(x: Images, n_y: int, n_x: int) -> Float[Array, "batch _y _x _patch"]:
    """The 3x3 neighbourhood of each output place, [batch, n_y, n_x, 9 * channel], tap by tap."""
    return jnp.concatenate(
        [
            x[:, i : i + STRIDE * n_y - 1 : STRIDE, j : j + STRIDE * n_x - 1 : STRIDE]
            for i in range(KERNEL)
            for j in range(KERNEL)
        ],
        axis=-1,
    )


def _kernel_gradient(large: Images, small: Images) -> Kernel:
    """Sum over places of (3x3 neighbourhood in `large`) x (value in `small`), as one matrix product."""
    patches = _patches(large, small.shape[1], small.shape[2])
    wide = jnp.promote_types(large.dtype, jnp.float32)  # a sum over hundreds of thousands of places
    product = jax.lax.dot_general(patches, small, (((0, 1, 2), (0, 1, 2)), ((), ())), preferred_element_type=wide)
    return product.reshape(KERNEL, KERNEL, large.shape[-1], small.shape[-1]).astype(large.dtype)


def _down_by_convolution(x: Images, kernel: Kernel) -> Images:
    return jax.lax.conv_general_dilated(x, kernel, (STRIDE, STRIDE), "VALID", dimension_numbers=_LAYOUT)


def _up_by_convolution(x: Images, kernel: Kernel, size_yx: tuple[int, int]) -> Images:
    extra_y, extra_x = size_yx[0] - up_size(x.shape[1]), size_yx[1] - up_size(x.shape[2])
    padding = ((KERNEL - 1, KERNEL - 1 + extra_y), (KERNEL - 1, KERNEL - 1 + extra_x))
    flipped = kernel[::-1, ::-1]
    return jax.lax.conv_transpose(x, flipped, (STRIDE, STRIDE), padding, dimension_numbers=_LAYOUT)


def _by_parity(taps: Array) -> Array:
    """Kernel taps of one axis by (input before or at, output parity): even outputs take taps 2 and 0, odd ones 1."""
    nothing = jnp.zeros_like(taps[0])
    return jnp.stack([jnp.stack([taps[2], nothing]), jnp.stack([taps[0], taps[1]])])


def _up_by_matrix_product(x: Images, kernel: Kernel, size_yx: tuple[int, int]) -> Images:
    """Each 2x2 block of outputs depends on 2x2 inputs: one matrix product, then blocks to rows and columns."""
    batch, n_y, n_x, n_in = x.shape
    n_out = kernel.shape[-1]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    columns = jnp.concatenate([padded[:, i : i + n_y + 1, j : j + n_x + 1] for i in (0, 1) for j in (0, 1)], axis=-1)
    blocks = _by_parity(jnp.moveaxis(_by_parity(kernel), 2, 0))  # [x before/at, x parity, y before/at, y parity, ...]
    blocks = blocks.transpose(2, 0, 4, 3, 1, 5).reshape(4 * n_in, 4 * n_out)
    out = (columns @ blocks).reshape(batch, n_y + 1, n_x + 1, 2, 2, n_out).transpose(0, 1, 3, 2, 4, 5)
    out = out.reshape(batch, 2 * n_y + 2, 2 * n_x + 2, n_out)
    beyond_y, beyond_x = (max(0, size - have) for size, have in zip(size_yx, out.shape[1:3], strict=True))
    return jnp.pad(out, ((0, 0), (0, beyond_y), (0, beyond_x), (0, 0)))[:, : size_yx[0], : size_yx[1]]


def _up(x: Images, kernel: Kernel, size_yx: tuple[int, int]) -> Images:
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=partial(_up_by_matrix_product, size_yx=size_yx),
        default=partial(_up_by_convolution, size_yx=size_yx),
    )


def _adjoint(kernel: Kernel) -> Kernel:
    return kernel.transpose(0, 1, 3, 2)


def _kernel_gradient_by_convolution(large: Images, small: Images) -> Kernel:
    zeros = jnp.zeros((KERNEL, KERNEL, large.shape[-1], small.shape[-1]), large.dtype)
    return jax.linear_transpose(partial(_down_by_convolution, large), zeros)(small)[0]


def _kernel_gradient_on_platform(large: Images, small: Images) -> Kernel:
    return jax.lax.platform_dependent(large, small, cpu=_kernel_gradient, default=_kernel_gradient_by_convolution)


@jax.custom_vjp
def downsample(x: Images, kernel: Kernel) -> Images:
    """Correlate with a 3x3 kernel at every second place, no padding: `[b, y, x, in]` to `[b, y', x', out]`."""
    return _down_by_convolution(x, kernel)


def _downsample_forward(x: Images, kernel: Kernel) -> tuple[Images, tuple[Images, Kernel]]:
    return _down_by_convolution(x, kernel), (x, kernel)


def _downsample_backward(saved: tuple[Images, Kernel], gradient: Images) -> tuple[Images, Kernel]:
    x, kernel = saved
    return _up(gradient, _adjoint(kernel), (x.shape[1], x.shape[2])), _kernel_gradient_on_platform(x, gradient)


downsample.defvjp(_downsample_forward, _downsample_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def upsample(x: Images, kernel: Kernel, size_yx: tuple[int, int]) -> Images:
    """The adjoint of `downsample` from size `size_yx`: each input adds its 3x3 kernel at every second place.

    `size_yx` is `up_size` of the input's, or up to one more: a further row or column that the last tap reaches.
    """
    return _up(x, kernel, size_yx)


def _upsample_forward(x: Images, kernel: Kernel, size_yx: tuple[int, int]) -> tuple[Images, tuple[Images, Kernel]]:
    return _up(x, kernel, size_yx), (x, kernel)


def _upsample_backward(
    size_yx: tuple[int, int], saved: tuple[Images, Kernel], gradient: Images
) -> tuple[Images, Kernel]:
    del size_yx
    x, kernel = saved
    return _down_by_convolution(gradient, _adjoint(kernel)), _adjoint(_kernel_gradient_on_platform(gradient, x))


upsample.defvjp(_upsample_forward, _upsample_backward)
