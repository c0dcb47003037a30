"""Names of array shapes. Axes: `batch` events, `k` hit slots of an event, `y` pixel rows, `x` pixel columns.

A hit is `(x, y, t)`: pixel column, pixel row, time bin.
"""

from __future__ import annotations

from jaxtyping import Array

Number = int | float | Array
"""A plain number, or a traced one."""
