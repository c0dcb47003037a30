"""Tensors from PyTorch's zip files, read without PyTorch and without running anything that a file asks for.

Such a file is a zip of plain bytes (`*/data/N`) and of a pickle (`*/data.pkl`), a small program that assembles them.
Python's own `pickle` is not used for it: even with `find_class` overridden, a hostile file can make it reserve memory
without bound (a memo index of 2^31) or overflow the C stack (a deeply nested key). As PyTorch's own `weights_only`
reader does, `pickletools` decodes the program, and an interpreter of data and the few functions below runs it.
"""

from __future__ import annotations

import math
import pickletools
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.file_errors import naming_file
from tofae_jax.data.files.format import Format, ReadRequest
from tofae_jax.data.files.images import array_events
from tofae_jax.data.files.pt_errors import (
    old_form,
    quoted,
    refused_instruction,
    refused_object,
    refused_type,
    unexpected,
)
from tofae_jax.data.files.zip_members import zip_members

MAX_FILE_BYTES = 4 * 2**30
"""largest file read by default: all of it is held in memory"""
_MAX_PICKLE_BYTES = 16 * 2**20  # a thousand times that of a small network: ten thousand tensors take about 2 MiB
_MAX_PARTS = 1_000_000
_MAX_DEPTH = 100
_MAX_DIMENSIONS = 32
_MAX_NUMBER = 2**40


class _Function(NamedTuple):
    """A function of this module, which stands for the PyTorch function of that name."""

    call: Callable[..., object]


class _StorageType(NamedTuple):
    """A PyTorch storage class: the type of its numbers in the file, except for the byte order."""

    name: str
    dtype: np.dtype


class _NumberType(str):
    """The name of a PyTorch dtype, which is text for whoever reads the file."""


class _Storage(NamedTuple):
    """Numbers that tensors are views of."""

    values: np.ndarray
    is_big_endian: bool = False
    """byte order in the file; of storages without a type, which are still bytes"""


def _tensor(storage: object, offset: object, size: object, stride: object, *_ignored: object) -> np.ndarray:
    """Stand for `torch._utils._rebuild_tensor_v2`: return a read-only view of a storage, checked to lie inside.

    A view never has more elements than its storage, so that no small file becomes a huge array.
    """
    if not isinstance(storage, _Storage):
        raise unexpected("a tensor has no data")
    sizes, strides = _numbers(size), _numbers(stride)
    (first,) = _numbers((offset,))
    if len(sizes) != len(strides):
        raise unexpected(f"a tensor has {len(sizes)} dimensions, but {len(strides)} strides")
    values = storage.values
    n_elements = math.prod(sizes)
    if n_elements == 0:
        return np.zeros(sizes, values.dtype)
    last = first + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    if last >= len(values) or n_elements > len(values):
        raise unexpected(
            f"a tensor of size {sizes} and stride {strides} begins at number {first} of its {len(values)}, and does "
            "not lie within them"
        )
    steps = [step * values.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(values[first:], sizes, steps, writeable=False)


def _typed_tensor(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    _grad: object,
    _hooks: object,
    kind: object,
    *_ignored: object,
) -> np.ndarray:
    """Stand for `torch._utils._rebuild_tensor_v3`, of types that have no storage class, such as uint16."""
    if not isinstance(kind, _NumberType) or kind not in _NUMBERS:
        raise refused_type(kind if isinstance(kind, _NumberType) else type(kind).__name__)
    if not isinstance(storage, _Storage) or storage.values.dtype != np.uint8:
        raise unexpected("a tensor has no data")
    dtype = np.dtype(_NUMBERS[kind])
    if len(storage.values) % dtype.itemsize:
        raise unexpected(f"{len(storage.values)} bytes of data are no whole number of {dtype}")
    values = storage.values.view(dtype.newbyteorder(">" if storage.is_big_endian else "<"))
    return _tensor(_Storage(values.astype(dtype, copy=False)), offset, size, stride)


def _numbers(value: object) -> tuple[int, ...]:
    """Return the sizes, strides or offsets in `value`, a tuple or list; stands for `torch.Size` too."""
    # A value of a file is put into a message only if it is known to be small: a tree that shares its branches is short
    # in the file and endless in print.
    if not isinstance(value, tuple | list) or not all(type(number) is int for number in value):
        raise unexpected("the offset, size or stride of a tensor is not made of whole numbers")
    if len(value) > _MAX_DIMENSIONS or not all(0 <= number <= _MAX_NUMBER for number in value):
        raise unexpected(
            f"a tensor has more than {_MAX_DIMENSIONS} dimensions, or a size, stride or offset outside 0..{_MAX_NUMBER}"
        )
    return tuple(value)


def _parameter(data: object, *_ignored: object) -> object:
    """Stand for `torch._utils._rebuild_parameter`: return the tensor."""
    return data


def _ordered_dict() -> dict:
    """Stand for `collections.OrderedDict`: return a plain dict, which later opcodes fill.

    A list of pairs is not accepted: a small file that makes many copies of a long list would fill the memory.
    """
    return {}


def _device(kind: object, number: object = 0) -> str:
    """Stand for `torch.device`: return text such as `cuda:0`."""
    if not isinstance(kind, str) or not isinstance(number, int):
        raise unexpected("a device is described otherwise than by its kind and number")
    return f"{kind}:{number}"


_STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",  # the upper half of a float32, widened when read
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_NUMBERS = {"uint16": "u2", "uint32": "u4", "uint64": "u8", "uint8": "u1", "int8": "i1", "int16": "i2", "int32": "i4"}
_NUMBERS |= {"int64": "i8", "float16": "f2", "float32": "f4", "float64": "f8", "bool": "?"}
_OTHER_NUMBERS = ("bfloat16", "complex32", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2")
_FUNCTIONS: dict[str, Callable[..., object]] = {
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_tensor_v3": _typed_tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "collections OrderedDict": _ordered_dict,
    "torch Size": _numbers,
    "torch device": _device,
}
_GLOBALS: dict[str, _Function | _StorageType | _NumberType] = {
    **{name: _Function(function) for name, function in _FUNCTIONS.items()},
    **{f"torch {name}": _StorageType(name, np.dtype(code)) for name, code in _STORAGES.items()},
    **{f"torch {name}": _NumberType(name) for name in (*_NUMBERS, *_OTHER_NUMBERS)},
    "torch.storage UntypedStorage": _StorageType("UntypedStorage", np.dtype(np.uint8)),
}


class _Archive:
    """The zip file: its pickle, and its storages, read on demand."""

    def __init__(self, zip_file: zipfile.ZipFile, n_file_bytes: int) -> None:
        self._zip = zip_file
        self._members = zip_members(zip_file)
        self._storages: dict[tuple[str, str], _Storage] = {}
        for info in self._members.values():
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise unexpected(f"its part {quoted(info.filename)} is compressed or encrypted")
        # Stored members that together exceed the file overlap: the way to blow up a zip without compression.
        if (n_declared := sum(info.file_size for info in self._members.values())) > n_file_bytes:
            raise unexpected(f"its parts have {n_declared} bytes together, the file only {n_file_bytes}")
        pickles = [name for name in self._members if name.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise unexpected(f"the zip file has {len(pickles)} parts named data.pkl, not one")
        if (n_pickle := self._members[pickles[0]].file_size) > _MAX_PICKLE_BYTES:
            raise DataError(f"describes its content in {n_pickle} bytes; at most {_MAX_PICKLE_BYTES} allowed")
        self._root = pickles[0].removesuffix("data.pkl")
        self.pickle = zip_file.read(pickles[0])
        order = self._read("byteorder") if f"{self._root}byteorder" in self._members else b"little"
        if order not in (b"little", b"big"):
            raise unexpected(f"byte order {quoted(order)}; little or big allowed")
        self._is_big_endian = order == b"big"

    def _read(self, name: str) -> bytes:
        if f"{self._root}{name}" not in self._members:
            raise unexpected(f"its part {quoted(self._root + name)} is missing")
        return self._zip.read(f"{self._root}{name}")

    def storage(self, identity: object) -> _Storage:
        """Return the storage of a BINPERSID opcode: ("storage", type, key, device, count)."""
        match identity:
            case ("storage", _StorageType(name=name, dtype=dtype), str(key), str(), int(count)) if count >= 0:
                pass
            case _:
                raise unexpected("data are described otherwise than by type, name, device and count")
        if (key, name) not in self._storages:
            content = self._read(f"data/{key}")
            if len(content) % dtype.itemsize:
                raise unexpected(f"{len(content)} bytes of data {quoted(key)}; a multiple of {dtype.itemsize} expected")
            in_file = dtype.newbyteorder(">" if self._is_big_endian else "<")
            values = np.frombuffer(content, in_file).astype(dtype, copy=False)
            if name == "BFloat16Storage":
                values = (values.astype(np.uint32) << 16).view(np.float32)
            self._storages[key, name] = _Storage(values, self._is_big_endian)
        stored = self._storages[key, name].values
        if count > len(stored):
            raise unexpected(f"{len(stored)} numbers of data {quoted(key)}; {count} expected")
        return _Storage(stored[:count], self._is_big_endian)


class _Interpreter:
    """Run the opcodes of a pickle that build plain values and tensors; reject all others."""

    def __init__(self, archive: _Archive) -> None:
        self._archive = archive
        self._stack: list = []
        self._stacks_below: list[list] = []  # one for each MARK that is open
        self._memo: dict = {}

    def run(self) -> object:
        """Return the value of the pickle."""
        for opcode, argument, _ in pickletools.genops(self._archive.pickle):
            self._step(opcode.name, argument)
        if len(self._stack) != 1 or self._stacks_below:
            raise unexpected("it holds no value, or several")
        return self._stack[0]

    def _step(self, opcode: str, argument: object) -> None:
        stack = self._stack
        match opcode:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4" | "FLOAT" | "BINFLOAT":
                stack.append(argument)
            case "UNICODE" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                stack.append(argument)
            case "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_TUPLE":
                stack.append({"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}[opcode]())
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "MARK":
                self._stacks_below.append(stack)
                self._stack = []
            case "LIST" | "TUPLE" | "DICT":
                values = self._since_mark()
                self._stack.append({"LIST": list, "TUPLE": tuple, "DICT": _pairs}[opcode](values))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                values = [stack.pop() for _ in range(int(opcode[-1]))]
                stack.append(tuple(reversed(values)))
            case "APPEND" | "APPENDS":
                values = [stack.pop()] if opcode == "APPEND" else self._since_mark()
                self._top(list).extend(values)
            case "SETITEM" | "SETITEMS":
                values = [stack.pop(-2), stack.pop()] if opcode == "SETITEM" else self._since_mark()
                self._top(dict).update(_pairs(values))
            case "GLOBAL":
                stack.append(_known(str(argument)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_known(f"{module} {name}" if type(name) is type(module) is str else "?"))
            case "BINPERSID":
                stack.append(self._archive.storage(stack.pop()))
            case "REDUCE":
                arguments = stack.pop()
                function = self._top(_Function)
                stack[-1] = function.call(*arguments)
            case "BUILD":  # attributes: the weights of a module have `_metadata`, which does not affect their values
                stack.pop()
                self._top(dict)
            case "INST":
                raise refused_object(str(argument).replace(" ", "."))
            case _:
                raise refused_instruction(opcode)

    def _since_mark(self) -> list:
        values, self._stack = self._stack, self._stacks_below.pop()
        return values

    def _top(self, kind: type) -> Any:
        """Return the topmost value, which must be of exactly this type."""
        value = self._stack[-1]
        if type(value) is not kind:
            found, expected = (name.__name__.lstrip("_").lower() for name in (type(value), kind))
            raise unexpected(f"there is a {found} where a {expected} belongs")
        return value


def _pairs(values: list) -> dict:
    """Return the dictionary of alternating keys and values."""
    for key in values[::2]:
        if not isinstance(key, str | int):  # the hash of others could recurse without end
            raise DataError(
                f"holds a dictionary with keys of type {type(key).__name__}; text or whole numbers are read"
            )
    return dict(zip(values[::2], values[1::2], strict=True))


def _known(name: str) -> _Function | _StorageType | _NumberType:
    """Return what stands for the global "module name"; nothing is imported."""
    if name not in _GLOBALS:
        raise refused_object(name.replace(" ", "."))
    return _GLOBALS[name]


def _check_plain(tree: object) -> None:
    """Raise `DataError` unless `tree` is a finite tree of plain values.

    Shared parts count each time that they are reached: nested lists of the same list would otherwise be a small file
    and an endless walk. A list within itself is infinitely deep.
    """
    waiting = [(tree, 0)]
    n_parts = 0
    while waiting:
        part, depth = waiting.pop()
        n_parts += 1
        children = list(part.values()) if isinstance(part, dict) else part if isinstance(part, list | tuple) else []
        if isinstance(part, _Function | _StorageType | _Storage):
            raise refused_object(type(part).__name__.strip("_").lower())
        if depth > _MAX_DEPTH or n_parts + len(waiting) + len(children) > _MAX_PARTS:
            raise DataError(f"is nested more than {_MAX_DEPTH} deep, or has more than {_MAX_PARTS} parts")
        waiting.extend((child, depth + 1) for child in children)


def load_tensors(path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> object:
    """Load what `torch.save` wrote to `path`: tensors, text, numbers, None, and lists, tuples and dicts of them.

    A tensor becomes a read-only array of its own type and shape (bfloat16: of float32). Text stays text. Objects may
    be shared, as they are in the file. Nothing that the file holds is run, and memory stays within a small multiple
    of its size.

    Raises `DataError` for a file that is cut, hostile, larger than `max_bytes`, or written by PyTorch before 1.6.
    """
    with naming_file(path, damage=()):
        return _load(path, max_bytes)


def _load(path: Path, max_bytes: int) -> object:
    try:
        if (n_bytes := path.stat().st_size) > max_bytes:
            raise DataError(f"has {n_bytes} bytes; at most {max_bytes} allowed")
        with zipfile.ZipFile(path) as zip_file:
            tree = _Interpreter(_Archive(zip_file, n_bytes)).run()
        _check_plain(tree)
    except DataError:
        raise
    except zipfile.BadZipFile as error:
        raise old_form(error) from None
    except Exception as error:  # a damaged pickle can fail anywhere
        raise unexpected(one_line(f"{type(error).__name__}: {error}")) from None
    return tree


def _read(request: ReadRequest) -> Iterator[Events]:
    path, _, _, chunk_hits, rules, limits = request
    limits.check_bytes(path.stat().st_size, "the file, which is read as a whole,")
    tensors = list(_tensors(_load(path, limits.n_bytes)))
    if len(tensors) != 1:
        raise DataError(f"holds {len(tensors)} tensors; one tensor of images is read: torch.save(images, PATH)")
    yield from array_events(tensors[0], detector=rules.detector, chunk_hits=chunk_hits, limits=limits)


def _tensors(tree: object) -> Iterator[np.ndarray]:
    """Yield all arrays in nested lists and dictionaries."""
    if isinstance(tree, np.ndarray):
        yield tree
    elif isinstance(tree, dict | list | tuple):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensors(part)


FORMAT = Format((".pt",), "images as one PyTorch tensor, held in memory", read=_read, holds=("images",))
