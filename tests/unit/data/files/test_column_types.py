"""Columns that can be written."""

import numpy as np
from hit_files import some_events

from tofae_jax.data.files.column_types import only_writable


def test_only_writable_drops_other_columns():
    events = some_events()
    n = events.n_hits
    odd = {
        "text": np.array(["a"] * n),
        "pair": np.zeros((n, 2)),
        "x": np.zeros(n),
        "a/b": np.zeros(n),
        "c": np.zeros(n),
    }
    kept = only_writable(events._replace(hit_columns=odd, event_columns={"event": np.arange(3), "z": np.zeros((3, 2))}))
    assert list(kept.hit_columns) == ["c"]
    assert list(kept.event_columns) == ["event"]
