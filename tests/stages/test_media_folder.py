"""The media folder of a run: set once, replaced when the media move."""

import shutil

import pytest

from p2r.errors import UserError
from p2r.files.jsonlines import to_line
from p2r.records import Question
from p2r.runs import open_run, write_json
from p2r.stages.media_folder import claim_data_root, find_data_root, move_data_root

ASKED = [
    Question(id=str(n), problem="What?", problem_type="free-form", path=f"a/{n}.mp4")
    for n in range(4)
]


@pytest.fixture
def old(tmp_path):
    for question in ASKED:
        file = tmp_path / "old" / question.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"video")
    return tmp_path / "old"


@pytest.fixture
def run(tmp_path, old):
    run = open_run(tmp_path / "run")
    assert claim_data_root(run, old, tmp_path, ASKED) == old
    return run


def test_moved_media_are_accepted_if_the_old_folder_is_gone(run, old, tmp_path):
    new = old.rename(tmp_path / "new")
    with pytest.raises(UserError, match=r"old of run .* is gone: give its new place"):
        claim_data_root(run, None, tmp_path, ASKED)
    assert claim_data_root(run, new, tmp_path, ASKED) == new
    assert find_data_root(run) == new.resolve()
    assert claim_data_root(run, None, tmp_path, ASKED) == new, "later stages need no option"


def test_an_empty_mount_point_counts_as_gone(run, old, tmp_path):
    new = old.rename(tmp_path / "new")
    old.mkdir()
    assert claim_data_root(run, new, tmp_path, ASKED) == new


def test_a_folder_without_the_files_is_refused_and_changes_nothing(run, old, tmp_path):
    new = old.rename(tmp_path / "new")
    with pytest.raises(UserError, match=r"4 of 4 media files are not in .*for example a/0.mp4"):
        claim_data_root(run, tmp_path, tmp_path, ASKED)
    with pytest.raises(UserError, match="nowhere is not a folder"):
        claim_data_root(run, tmp_path / "nowhere", tmp_path, ASKED)
    for n in range(3):
        (new / "a" / f"{n}.mp4").unlink()
    with pytest.raises(UserError, match="3 of 4 media files"):
        claim_data_root(run, new, tmp_path, ASKED)
    assert find_data_root(run) == old.resolve()


def test_a_second_folder_is_refused_while_the_first_exists(run, old, tmp_path):
    new = shutil.copytree(old, tmp_path / "new")
    with pytest.raises(UserError, match=r"in .*old, not in .*new: .*--move-data-root"):
        claim_data_root(run, new, tmp_path, ASKED)


def test_the_flag_replaces_a_folder_that_still_exists(run, old, tmp_path):
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(to_line(q.model_dump(mode="json")) for q in ASKED))
    write_json(run.path("sources.json"), {"generate": str(questions)})
    new = shutil.copytree(old, tmp_path / "new")
    (new / "a" / "0.mp4").unlink()
    move_data_root(run, new)
    assert find_data_root(run) == new.resolve()
    with pytest.raises(UserError, match="4 of 4 media files"):
        move_data_root(run, tmp_path)
    with pytest.raises(UserError, match="pass --data-root"):
        move_data_root(run, None)


def test_a_folder_inside_the_run_moves_with_the_run(run, old, tmp_path):
    (run.folder / "data_root").unlink()
    claim_data_root(run, old.rename(run.folder / "media"), tmp_path, ASKED)
    assert (run.folder / "data_root").read_text() == "media\n"
