"""Hypothesis strategies for events."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 40))


@st.composite
def hit_lists(draw, shape_xyt=(7, 5, 9), slots=12):
    """`int32[slots, 3]` with hits and empty slots anywhere."""
    n_x, n_y, n_t = shape_xyt
    columns = [
        draw(hnp.arrays(np.int32, slots, elements=st.integers(low, high)))
        for low, high in ((0, n_x - 1), (0, n_y - 1), (1, n_t))
    ]
    filled = draw(hnp.arrays(bool, slots))
    return np.stack(columns, axis=-1) * filled[:, None]
