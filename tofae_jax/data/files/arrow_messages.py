"""How much memory the batches of an Arrow IPC file or stream take, found without unpacking them.

A compressed batch is unpacked as a whole, and pyarrow reserves what each of its buffers declares. Its functions do not
tell, so the few fields are read here: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from tofae_jax.data.events import DataError
from tofae_jax.data.files.limits import Limits

MAGIC = b"ARROW1"
"""begins and ends a file; without it, the content may be a stream of the same messages"""
_CONTINUATION = 0xFFFFFFFF
_FOOTER_END = 4 + len(MAGIC)  # length of the footer, and the magic bytes
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3


class _Table:
    """A table of the FlatBuffers encoding: fields by number, each at a place of its own."""

    def __init__(self, content: mmap.mmap, place: int) -> None:
        self._content, self.place = content, place
        self._fields = place - self.number("<i", place)
        self._n_bytes = self.number("<H", self._fields)

    def number(self, kind: str, place: int) -> int:
        return struct.unpack_from(kind, self._content, place)[0]

    def field(self, number: int) -> int | None:
        """Return the place of a field; None where it has its default."""
        if 4 + 2 * number >= self._n_bytes:
            return None
        offset = self.number("<H", self._fields + 4 + 2 * number)
        return self.place + offset if offset else None

    def inner(self, number: int) -> _Table | None:
        place = self.field(number)
        return None if place is None else _Table(self._content, place + self.number("<I", place))

    def structs(self, number: int, kind: str) -> Iterator[tuple[int, ...]]:
        """Yield the elements of a list of fixed size each."""
        place = self.field(number)
        if place is not None:
            start = place + self.number("<I", place)
            size = struct.calcsize(kind)
            for index in range(self.number("<I", start)):
                yield struct.unpack_from(kind, self._content, start + 4 + index * size)


def check_arrow_batches(path: Path, limits: Limits) -> None:
    """Raise `DataError` where a compressed batch takes more memory than is allowed."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        is_file = content[: len(MAGIC)] == MAGIC
        for place in _blocks(content) if is_file else _messages(content):
            limits.check_bytes(_unpacked_bytes(content, place), "a batch, which is compressed,")


def _blocks(content: mmap.mmap) -> Iterator[int]:
    """Yield the places of the batches that the footer of a file lists."""
    (n_footer,) = struct.unpack_from("<i", content, len(content) - _FOOTER_END)
    start = len(content) - _FOOTER_END - n_footer
    if n_footer < 0 or start < 0:
        raise DataError("cut, damaged or not an Arrow file: its footer does not lie in the file")
    footer = _Table(content, start + struct.unpack_from("<I", content, start)[0])
    for number in (_DICTIONARY_BATCH, _RECORD_BATCH):
        yield from (place for place, _, _ in footer.structs(number, "<qixxxxq"))


def _messages(content: mmap.mmap) -> Iterator[int]:
    """Yield the places of the messages of a stream."""
    place = 0
    while place + 4 <= len(content):
        start, n_metadata = _start(content, place)
        if n_metadata == 0:
            return
        yield place
        message = _Table(content, start + struct.unpack_from("<I", content, start)[0])
        body = message.field(3)
        place = start + n_metadata + (message.number("<q", body) if body is not None else 0)


def _start(content: mmap.mmap, place: int) -> tuple[int, int]:
    """Return where the metadata of a message begin, and how many bytes they and what fills them up have."""
    (word,) = struct.unpack_from("<I", content, place)
    if word != _CONTINUATION:  # before Arrow 0.15
        return place + 4, word
    return place + 8, struct.unpack_from("<I", content, place + 4)[0]


def _unpacked_bytes(content: mmap.mmap, place: int) -> int:
    """Return how many bytes the buffers of a message have that are unpacked; 0 for one without compression."""
    start, n_metadata = _start(content, place)
    message = _Table(content, start + struct.unpack_from("<I", content, start)[0])
    kind = message.field(1)
    batch = message.inner(2)
    kind = 0 if kind is None else message.number("<B", kind)
    if kind == _DICTIONARY_BATCH and batch is not None:
        batch = batch.inner(1)
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH) or batch is None or batch.field(3) is None:
        return 0
    body = start + n_metadata
    sizes = [
        max(0, struct.unpack_from("<q", content, body + offset)[0])
        for offset, length in batch.structs(2, "<qq")
        if length >= 8
    ]
    return sum(sizes)
