"""Names of array shapes. Axes: `batch` events, `k` hit slots of an event, `y` pixel rows, `x` pixel columns.

A hit is `(x, y, t)`: pixel column, pixel row, time bin. Time bins count from 1, so `t = 0` marks an empty slot in a
hit list and an unlit pixel in an image, everywhere in this package.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num, Real

NO_HIT = 0

Hits = Int[Array, "*batch k 3"]
HitFlags = Bool[Array, "*batch k"]
HitScores = Float[Array, "*batch k"]
Image = Float[Array, "*batch y x"]
Counts = Int[Array, "*batch"]
Scalar = Real[Array, ""]
Number = int | float | np.generic | Array  # a plain number, or a traced one
PRNGKey = Key[Array, ""]

__all__ = ["NO_HIT", "Array", "Bool", "Counts", "Float", "HitFlags", "HitScores", "Hits", "Image", "Int", "Key", "Num", "Number",
           "PRNGKey", "Real", "Scalar"]
