"""How much a file of another program may ask for: memory, hits of one event, expansion of what is compressed.

A small file can declare any size. Readers compare what a file declares with these limits before they reserve memory.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from tofae_jax.data.events import DataError

GB = 10**9
FREE_BYTES = 2**26
"""no expansion of less than this is refused"""
COPIES = 4
"""of the values of a column that exist at the same time while hits are checked and put together, about"""


class Limits(NamedTuple):
    """What a file may ask for; more is refused with the name of the option that allows it."""

    memory_gb: float = 0.5
    """memory that reading takes at once, in GB"""
    event_hits: int = 2_000_000
    """hits of one event"""
    expansion: float = 1200.0
    """bytes of content for each byte that is stored; deflate, the compression of most formats, reaches 1032"""

    @property
    def n_bytes(self) -> int:
        """Memory in bytes."""
        return int(self.memory_gb * GB)

    def check(self) -> None:
        """Raise `ValueError` for a limit that is no positive number."""
        for name, value in self._asdict().items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"limits.{name} = {value}; more than 0 allowed")

    def check_bytes(self, n_bytes: float, what: str) -> None:
        """Raise `DataError` if this many bytes at once are more than allowed."""
        if n_bytes > self.n_bytes:
            raise DataError(
                f"{what} asks for {n_bytes / GB:.3g} GB of memory at once; at most {self.memory_gb:g} allowed "
                "(--limits.memory-gb allows more)"
            )

    def check_hits(self, n_hits: int, what: str = "an event") -> None:
        """Raise `DataError` if an event has more hits than allowed."""
        if n_hits > self.event_hits:
            raise DataError(
                f"{what} has {n_hits} hits or more; at most {self.event_hits} in one event allowed "
                "(--limits.event-hits allows more)"
            )

    def check_expansion(self, n_bytes: float, n_stored: int, what: str) -> None:
        """Raise `DataError` if `n_stored` bytes of a file become more bytes than allowed."""
        if n_bytes > FREE_BYTES and n_bytes > self.expansion * n_stored:
            raise DataError(
                f"{what} asks for {n_bytes / GB:.3g} GB from {n_stored} bytes that are stored; at most "
                f"{self.expansion:g} for each allowed (--limits.expansion allows more)"
            )

    def rows_at_once(self, most: int, bytes_per_row: float, what: str) -> int:
        """Return how many rows fit, at most `most`; `DataError` if not even one does."""
        self.check_bytes(bytes_per_row, f"one row of {what}")
        return max(1, min(most, int(self.n_bytes / COPIES / max(1, bytes_per_row))))
