"""The figures that a run has."""

import numpy as np
import pytest
from made_runs import make_run

from tofae_jax.losses import LOSSES
from tofae_jax.runs.figures import detail_drawings
from tofae_jax.runs.saved_run import read_saved


@pytest.mark.parametrize("name", [*LOSSES, "of another version", None])
def test_detail_drawings_scores_are_of_hit_losses_alone(tmp_path, name):
    run = read_saved(make_run(tmp_path / "run", config__loss={"name": name}).folder)
    assert "scores" not in {drawing.name for drawing in detail_drawings(run)}  # the run has none
    scored = run._replace(scores={"signal": np.zeros((3, 2)), "noise": np.zeros((3, 2)), "n_signal": np.zeros(())})
    takes_hits = name in LOSSES and LOSSES[name].takes == "hits"
    assert ("scores" in {drawing.name for drawing in detail_drawings(scored)}) == takes_hits
