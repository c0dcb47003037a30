"""A file for the HDF5 library to write to that keeps errors of the disk away from it.

The library cannot close a file that it could not write: it reports the error at every attempt, and crashes the process
in the end (h5py issue 914). So it writes to a Python file object here, which never fails: the first error is kept and
raised by `check`, and what could not be written is held in memory, where the library may read it again, until the file
is closed. Call `check` after every call of the library, so that this is never more than what the library buffers.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Hdf5Output(io.RawIOBase):
    """Binary file for the driver `fileobj` of `h5py.File`; a context manager."""

    def __init__(self, path: Path) -> None:
        """Create the file, in place of one that is there."""
        super().__init__()
        self._file = io.FileIO(path, "w+")
        self._position = 0
        self._error: OSError | None = None
        self._unwritten: list[tuple[int, bytes]] = []
        """position and bytes of everything that came after the first error, in order"""

    def __exit__(self, kind: object, *_: object) -> None:
        self.close()
        if kind is None:
            self.check()

    def close(self) -> None:
        """Close the file; an error is left to `check`."""
        self._attempt(self._file.close)
        super().close()

    def check(self) -> None:
        """Raise the first error of the disk, if there was one."""
        if self._error is not None:
            raise self._error

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position; the end is that of the bytes written, on the disk or in memory."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence)
        self._position = position + (self._size() if start is None else start)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def write(self, content: Any) -> int:
        """Write bytes, on the disk if all before went there."""
        view = memoryview(content).cast("B")
        begin, self._position = self._position, self._position + len(view)
        if self._error is None:
            self._attempt(lambda: self._write_through(begin, view))
        if self._error is not None:
            self._unwritten.append((begin, bytes(view)))
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Read what was written."""
        view = memoryview(buffer).cast("B")
        begin, end = self._position, min(self._position + len(view), self._size())
        view[:] = bytes(len(view))
        self._attempt(lambda: self._read_through(begin, view))
        for start, content in self._unwritten:
            first, last = max(begin, start), min(begin + len(view), start + len(content))
            if first < last:
                view[first - begin : last - begin] = content[first - start : last - start]
        self._position = max(begin, end)
        return self._position - begin

    def truncate(self, size: int | None = None) -> int:
        """Set the length of the file."""
        size = self._position if size is None else size
        if self._error is None:
            self._attempt(lambda: self._file.truncate(size))
        return size

    def _attempt(self, action: Callable[[], object]) -> None:
        """Carry out an action; its error is kept, as none may reach the library."""
        try:
            action()
        except OSError as error:
            self._error = self._error or error

    def _write_through(self, begin: int, view: memoryview) -> None:
        self._file.seek(begin)
        while view:
            view = view[self._file.write(view) or 0 :]

    def _read_through(self, begin: int, view: memoryview) -> None:
        self._file.seek(begin)
        while view and (n := self._file.readinto(view)):
            view = view[n:]

    def _size(self) -> int:
        on_disk = 0 if self._file.closed else self._file.seek(0, io.SEEK_END)
        return max([on_disk, *(start + len(content) for start, content in self._unwritten)])
