"""Trained runs as methods of the benchmark."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from quality_benchmark import SMALL, comparison, event_set, events, output, random_events, runs, scoring, sources


def test_run_columns_stand_at_hits_and_own_seed_raises():
    event = random_events()

    def denoiser(parts):
        for part in parts:
            columns = {"score": part.hits[:, 0] / 10, "kept": part.hits[:, 1] > 2, "visible": part.hits[:, 2] > 5}
            yield part._replace(hit_columns=columns)

    run = object.__new__(runs.Run)
    run.name, run._denoiser, run._latest = "fake", denoiser, None
    x, y, t = np.moveaxis(event.hits, -1, 0)
    np.testing.assert_array_equal(run.kept(event), (y > 2) & event.filled)
    np.testing.assert_allclose(run.score(event), np.where((t > 5) & event.filled, x / 10, -np.inf))
    assert run._columns(event) is run._columns(event)
    again = replace(event)  # timed anew
    assert run._columns(again) is not run._columns(event)
    config = SimpleNamespace(data=SimpleNamespace(simulate=SimpleNamespace(seed=0)))
    record = SimpleNamespace(data={"provenance": {"seed": sources.HELD_OUT_SEED + 4}})
    run.run = SimpleNamespace(setup=SimpleNamespace(config=config), record=record)
    run.check_held_out(3)
    with pytest.raises(ValueError, match="fake was trained on events of seed"):
        run.check_held_out(4)


def image_run(images, *, has_time):
    """A run that has learnt images, and gives these."""
    run = object.__new__(runs.Run)
    run.name = "fake"
    run._normalisation = SimpleNamespace(has_time=has_time)
    run._model_images = lambda variables, filled: images[: len(filled)]
    config = SimpleNamespace(train=SimpleNamespace(batch=64))
    options = SimpleNamespace(scores_hits=False, target="signal")
    run.run = SimpleNamespace(setup=SimpleNamespace(config=config, options=options), variables={})
    return run


def test_run_image_with_times_masks_by_light_and_time():
    event = event_set([[[0, 0, 5], [1, 0, 7], [2, 0, 9], [2, 0, 12]]], [[True, True, True, False]])
    images = np.zeros((1, 5, 6), np.float32)
    images[0, 0, :3] = (5, 17, 12)
    found = {method.name: method for method in image_run(images, has_time=True).methods()}
    assert set(found) == {"fake", "fake masked", "fake ToF-masked", "fake direct"}
    assert found["fake masked"].score(event).tolist() == [[1, 1, 0, 1]]  # the third hit is occluded
    bin_ns = SMALL.bin_ns
    np.testing.assert_allclose(found["fake ToF-masked"].score(event), [[0, -10 * bin_ns, -np.inf, 0]], atol=1e-6)
    direct = found["fake direct"]
    counts = direct.counts(event, direct.output(event))
    assert (counts.true_positives[0], counts.false_positives[0], counts.pixels_in_time[0]) == (3, 0, 1)


def test_run_image_without_times_is_not_compared_by_them(tmp_path):
    event = random_events()
    run = image_run((event.signal_image > 0).astype(np.float32), has_time=False)
    *_, direct = run.methods()
    assert [method.name for method in run.methods()] == ["fake", "fake masked", "fake direct"]
    np.testing.assert_array_equal(run.target(event), event.signal_image > 0)
    plan = comparison.Plan(n_events=4, n_validation=4, seed=0, repeats=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "_drawn", lambda *_: event)
        (found,) = comparison._rows("v", events.Conditions(), {"direct": direct}, plan)
    assert found.qualities["f1"].value == 1
    assert not set(scoring.OF_TIMES) & set(found.qualities)
    paths = output.write_all(str(tmp_path / "x"), [found], {}, is_robustness=False)
    assert json.loads(paths[1].read_text())["rows"][0]["ssim"] is None
    assert "| – | – |" in paths[2].read_text()
