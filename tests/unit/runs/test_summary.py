"""The summary of a run."""

from made_runs import epoch_record, made_up_result, make_run

from tofae_jax.runs.record import read_record
from tofae_jax.runs.summary import ParameterRow, outputs_table, write_summary

RESULTS = {"best_epoch": 2, "steps": 24, "hits_dropped": 3, "precision": "float32", "test": made_up_result()}
ROWS = [ParameterRow("down_0/kernel", (3, 4), 12, "float32"), ParameterRow("scale", (), 1, "bfloat16")]


def summary(tmp_path, **results):
    _, record = read_record(make_run(tmp_path / "run", with_plots=False).folder)
    paths, _ = read_record(tmp_path / "run")
    path = write_summary(paths, record, RESULTS | results, [epoch_record(1), epoch_record(2)], parameters=ROWS)
    assert path == paths.summary
    return path.read_text()


def test_write_summary_lists_parameters_and_their_total(tmp_path):
    lines = [line.split() for line in summary(tmp_path).splitlines()]
    start = lines.index(["parameters"])
    assert lines[start + 1 : start + 4] == [
        ["down_0/kernel", "3x4", "12", "float32"],
        ["scale", "1", "bfloat16"],
        ["total", "13"],
    ]


def test_write_summary_of_a_run_has_its_numbers(tmp_path):
    text = summary(tmp_path, steps_skipped=4, fallback="float32 from step 9")
    for line in ("run run", "epochs = 2", "best_epoch = 2", "time_s = 4.0, per epoch 2.00", "model.name = autoencoder"):
        assert line in text
    assert "steps_skipped = 4" in text and "fallback = float32 from step 9" in text
    assert "seed = 0" in text and "| masked |" in text


def test_write_summary_without_test_has_no_table(tmp_path):
    assert "| masked |" not in summary(tmp_path, test=None)


def test_outputs_table_missing_metric_is_a_dash():
    result = made_up_result(0.5)
    result["direct"]["f1"] = None
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in outputs_table(result).splitlines()[1:]}
    assert rows["direct"][2].strip() == "-"
    assert rows["masked"][2].strip() == "0.5"
