import multiprocessing

import pytest

from tofae_jax.runs import folder
from tofae_jax.runs import record as runs


def make_folder(parent):
    return str(folder.create_run_folder(parent, "same").folder)


@pytest.mark.backlog("B22", "B02")
def test_write_record_paths_are_inside_the_run(tmp_path):
    paths = folder.create_run_folder(tmp_path / "runs", "name")
    assert paths.folder.name.startswith("name-")
    for name, path in vars(paths).items():
        assert path == paths.folder or paths.folder in path.parents, name
    record = runs.RunRecord(run_id=paths.folder.name)
    assert runs.write_record(paths, record) == paths.record
    assert paths.record.is_file()
    assert runs.read_record(paths.folder)[1] == record


def test_create_run_folder_together_ids_are_unique(tmp_path):
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        folders = pool.map(make_folder, [str(tmp_path)] * 16)
    assert len(set(folders)) == 16


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not a run folder"),
        ("{", "damaged"),
        ("{}", "damaged"),
        ('{"run_id": "x", "schema_version": 99}', "newer than this package"),
    ],
)
def test_read_record_bad_run_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(folder.RunError, match=message):
        runs.read_record(tmp_path)
    with pytest.raises(folder.RunError, match="no such run"):
        runs.read_record(tmp_path / "nothing")


def test_create_run_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(folder.RunError, match="cannot make a run folder"):
        folder.create_run_folder(tmp_path / "file" / "runs")
