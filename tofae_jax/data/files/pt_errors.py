"""Say what a PyTorch file holds that is not read, and how to save it so that it can be read."""

from __future__ import annotations

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError

READABLE = "only tensors, text, numbers, lists and dictionaries are read"
NOT_SAVED = "damaged, or not written by torch.save"
_TENSORS = "save the tensors alone, e.g. torch.save(images, PATH), or of a model torch.save(model.state_dict(), PATH)"
_KINDS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("__torch__", "torch.jit"),
        "a TorchScript program",
        "load it with torch.jit.load and save its weights with torch.save(model.state_dict(), PATH)",
    ),
    (
        ("torch.ComplexFloatStorage", "torch.ComplexDoubleStorage", "torch.ComplexHalfStorage"),
        "complex numbers",
        "save their real and imaginary parts, e.g. torch.save(tensor.real.clone(), PATH)",
    ),
    (
        ("torch._utils._rebuild_qtensor", "torch.QInt", "torch.QUInt"),
        "a quantised tensor",
        "save torch.save(tensor.dequantize(), PATH)",
    ),
    (("torch._utils._rebuild_sparse",), "a sparse tensor", "save torch.save(tensor.to_dense(), PATH)"),
    (("torch._utils._rebuild_nested",), "a nested tensor", "save torch.save(tensor.to_padded_tensor(0), PATH)"),
    (("torch._utils._rebuild_meta",), "a tensor without numbers", "save one that is on a device other than meta"),
    (
        ("torch._tensor._rebuild_from_type", "torch._utils._rebuild_wrapper"),
        "a tensor of a class of its own",
        "save torch.save(tensor.as_subclass(torch.Tensor), PATH)",
    ),
    (
        ("numpy", "_codecs.encode"),
        "a NumPy array or number, or bytes",
        "save torch.save(torch.from_numpy(array), PATH), or a .npy file with numpy.save",
    ),
    (("builtins.set", "builtins.frozenset", "__builtin__.set", "__builtin__.frozenset"), "a set", "save a list"),
)
"""beginnings of the names of what is in a file, what that is, and how to save it otherwise"""


def refused_object(name: str) -> DataError:
    """Return the error for a file that holds an object of a class, or calls a function, of this name."""
    for beginnings, what, advice in _KINDS:
        if name.startswith(beginnings):
            return DataError(f"holds {what} ({quoted(name)}); {READABLE}: {advice}")
    return DataError(f"holds an object of a program ({quoted(name)}), which is not run; {READABLE}: {_TENSORS}")


def refused_instruction(opcode: str) -> DataError:
    """Return the error for a file that is written with an instruction that plain values do not need."""
    if opcode in ("EMPTY_SET", "ADDITEMS", "FROZENSET"):
        return DataError(f"holds a set; {READABLE}: save a list")
    if opcode in ("BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER"):
        return DataError(f"holds bytes outside of its tensors ({quoted(opcode)}); {READABLE}: save a tensor")
    return DataError(f"holds an object that only its program can make ({quoted(opcode)}); {READABLE}: {_TENSORS}")


def refused_type(name: str) -> DataError:
    """Return the error for a tensor of numbers of a type that is not read."""
    return DataError(
        f"holds a tensor of the type {quoted(name)}, which is not read: save torch.save(tensor.float(), PATH)"
    )


def old_form(error: Exception) -> DataError:
    """Return the error for a file that is no zip file, as those of PyTorch before 1.6 are none."""
    return DataError(
        "cut or damaged, or in the form of PyTorch before 1.6: load it with torch.load and save it again with "
        f"torch.save ({one_line(error)})"
    )


def unexpected(detail: str) -> DataError:
    """Return the error for a file that torch.save does not write so."""
    return DataError(f"{NOT_SAVED}: {detail}")


def quoted(name: object) -> str:
    """Write a name of a file for a message: on one line, of bounded length."""
    return one_line(repr(name))
