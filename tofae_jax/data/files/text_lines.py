"""Open text files of any common form: compressed or not, in UTF-8, UTF-16 or Latin-1, with comments and blank lines."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import lzma
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError
from tofae_jax.data.files.limits import Limits

BLOCK_BYTES = 2**22
MOST_LINE_BYTES = 2**20
"""longest line; a file without line ends must not fill the memory"""
DELIMITERS = (",", ";", "\t", "|")
_MOST_LINES_BEFORE = 100_000
"""lines up to the header"""
_LESS_PACKED = 12
"""how many times less than numbers text of hits is compressed at most"""
_LIMITS = Limits()
BLANKS = " "
"""delimiter of columns that any number of spaces and tabs separate"""
_COMPRESSIONS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_ZSTD = b"\x28\xb5\x2f\xfd"
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class Header(NamedTuple):
    """Header of a table in text."""

    names: tuple[str, ...]
    """of the columns; empty for a column without a name"""
    delimiter: str
    """character between columns, or `BLANKS`"""
    n_lines: int
    """lines up to and with the header, comments and blank lines included"""


def read_header(path: Path, limits: Limits = _LIMITS) -> Header:
    """Find the header and the delimiter of a table.

    The header is the first line that is neither blank nor a comment (`#`), or, where this holds numbers, the comment
    before it, as `numpy.savetxt` writes it. A line `sep=;`, as Excel writes it, gives the delimiter.

    Raises:
        DataError: there is no header.
    """
    comment, delimiter = "", None
    for number, line in enumerate(text_lines(path, limits), start=1):
        if number > _MOST_LINES_BEFORE:
            break
        if not line.strip():
            continue
        if line.startswith("#"):
            comment = line.lstrip("# ").rstrip()
            continue
        if (said := re.fullmatch(r"sep=(.)\s*", line)) is not None:
            delimiter = said.group(1)
            continue
        delimiter = delimiter or _delimiter(line)
        names = split_line(line, delimiter)
        if not all(map(_is_number, names)):
            if not all(map(str.isprintable, names)):
                raise DataError(f"line {number}: not text, or a name of a column that cannot be printed")
            return Header(names, delimiter, number)
        of_comment = split_line(comment, delimiter if delimiter in comment else _delimiter(comment))
        if len(of_comment) == len(names) and not all(map(_is_number, of_comment)):
            return Header(of_comment, delimiter, number - 1)
        break
    raise DataError("no header; a first line with the names of the columns expected, among them event, x, y, t")


def split_line(line: str, delimiter: str) -> tuple[str, ...]:
    """Divide a line into its values, without quotes and surrounding blanks."""
    if delimiter == BLANKS:
        return tuple(line.split())
    fields = next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter, skipinitialspace=True), [])
    return tuple(field.strip() for field in fields)


def rows_with_lines(path: Path, header: Header) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the line number and the values of each row; slow, for messages about a row."""
    for number, line in enumerate(text_lines(path), start=1):
        if number > header.n_lines and line.strip() and not line.startswith("#"):
            yield number, split_line(line, header.delimiter)


def text_lines(path: Path, limits: Limits = _LIMITS) -> Iterator[str]:
    """Yield the lines of a text file."""
    for block in _line_blocks(path, limits):
        yield from block.decode("utf-8", errors="replace").splitlines(keepends=True)


def _delimiter(line: str) -> str:
    counts = {delimiter: line.count(delimiter) for delimiter in DELIMITERS}
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] or len(line.split()) < 2 else BLANKS


def _is_number(field: str) -> bool:
    with suppress(ValueError):
        float(field.replace(",", "."))
        return True
    return False


def row_blocks(path: Path, header: Header, limits: Limits = _LIMITS) -> Iterator[bytes]:
    """Yield the rows of a table as blocks of whole lines in UTF-8, without header, comments and lines of blanks."""
    n_skipped = header.n_lines
    for block in _line_blocks(path, limits):
        start = 0
        while n_skipped and start < len(block):
            start = block.find(b"\n", start) + 1 or len(block)
            n_skipped -= 1
        block = block[start:]
        if block.startswith(b"#") or b"\n#" in block:
            block = re.sub(rb"(?m)^#.*\n?", b"", block)
        if header.delimiter == BLANKS:
            block = re.sub(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)", b"", block)
            block = re.sub(rb"[ \t]+", b" ", block)
        elif block[:1] in (b" ", b"\t") or b"\n " in block or b"\n\t" in block:
            block = re.sub(rb"(?m)^[ \t]+\r?$\n?", b"", block)
        if block.strip():
            yield block


def _line_blocks(path: Path, limits: Limits) -> Iterator[bytes]:
    """Yield blocks of whole lines in UTF-8."""
    rest = b""
    old_mac = None
    for chunk in _chunks(path, limits):
        if old_mac is None:  # lines that end in carriage returns alone
            old_mac = b"\r" in chunk and b"\n" not in chunk
        block = rest + (chunk.replace(b"\r", b"\n") if old_mac else chunk)
        cut = block.rfind(b"\n") + 1
        if not cut and len(block) > MOST_LINE_BYTES:
            raise DataError(f"a line has more than {MOST_LINE_BYTES} bytes")
        rest = block[cut:]
        if cut:
            yield block[:cut]
    if rest:
        yield rest


def _chunks(path: Path, limits: Limits) -> Iterator[bytes]:
    """Yield the content in UTF-8, piece by piece."""
    with _opened(path) as raw:
        chunk = raw.read(BLOCK_BYTES)
        n_stored, n_read = path.stat().st_size, 0
        of_text = limits._replace(expansion=limits.expansion / _LESS_PACKED)
        encoding = _encoding(chunk)
        decoder: Any = codecs.getincrementaldecoder(encoding)() if encoding else None
        while chunk:
            try:
                yield chunk if decoder is None else decoder.decode(chunk).encode()
            except UnicodeDecodeError as error:
                raise DataError(f"not text in {encoding} ({one_line(error)})") from None
            n_read += len(chunk)
            of_text.check_expansion(n_read, n_stored, "the unpacked text")
            chunk = raw.read(BLOCK_BYTES)


def _encoding(start: bytes) -> str | None:
    """Return the encoding of text that begins so; None for UTF-8 without a byte order mark."""
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            return encoding
    for encoding, high in (("utf-16-le", start[1:64:2]), ("utf-16-be", start[0:64:2])):
        if 2 * high.count(0) > len(high):  # most letters are of ASCII
            return encoding
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return "latin-1"
    return None


def _opened(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(8)
    for magic, opener in _COMPRESSIONS.items():
        if start.startswith(magic):
            return opener(path, "rb")
    if start.startswith(_ZSTD):
        import pyarrow

        return pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
    return path.open("rb")
