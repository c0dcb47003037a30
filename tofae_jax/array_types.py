"""Names of array shapes. Axes: `batch` events, `k` hit slots of an event, `y` pixel rows, `x` pixel columns.

A hit is `(x, y, t)`: pixel column, pixel row, time bin. Time bins count from 1, so `t = 0` marks an empty slot in a
hit list and an unlit pixel in an image, everywhere in this package.
"""

from __future__ import annotations

from jaxtyping import Array

NO_HIT = 0

Number = int | float | Array
"""A plain number, or a traced one."""
