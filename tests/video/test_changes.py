"""Changed frames and adaptive sampling: what changes, what stays, equal results every time."""

from __future__ import annotations

import numpy as np
import pytest
from clips import write_clip
from small import VIDEO

from p2r import data
from p2r.errors import UserError
from p2r.records import Question
from p2r.runs.recipe import load_recipe
from p2r.video import FrameCache, Frames
from p2r.video.changes import GREY, change_frames
from p2r.video.sampling import adaptive_indices


def make_frames(count: int = 8, path: str = "a/clip.mp4") -> Frames:
    pixels = np.random.default_rng(3).integers(0, 255, (count, 20, 40, 3), dtype=np.uint8)
    times = [place / 2 for place in range(count)]
    return Frames(pixels, times, list(range(count)), 2.0, 4.0, count, "test", path)


def test_every_change_keeps_the_given_frames_and_is_the_same_every_time():
    given = make_frames()
    before = given.frames.copy()
    for spec in ("occlude:0.25", "blur:2", "noise:0.1", "drop:0.5", "shuffle", "blur:1+drop:0.2"):
        changed = change_frames(given, spec)
        assert np.array_equal(given.frames, before), spec
        assert np.array_equal(change_frames(make_frames(path="b/clip.mp4"), spec), changed), spec
        assert not np.array_equal(changed.frames, before), spec
        assert changed.frames.dtype == np.uint8 and len(changed) == len(changed.timestamps)
        assert changed.note.startswith("changed: ")
    assert change_frames(given, "") is given


def test_what_each_change_does():
    given = make_frames()
    covered = change_frames(given, "occlude:0.25").frames == GREY
    assert covered.all(axis=(0, 3)).sum() == 10 * 20  # a quarter, in every frame
    assert np.array_equal(change_frames(given, "blur:0"), given)
    assert change_frames(given, "blur:3").frames.std() < given.frames.std() / 2
    noisy = change_frames(given, "noise:0.02").frames.astype(float) - given.frames
    assert 3 < noisy.std() < 6  # 0.02 of 255
    left = change_frames(given, "drop:0.75")
    assert left.timestamps == sorted(left.timestamps) and len(left) == 2
    assert all(np.array_equal(left.frames[i], given.frames[left.indices[i]]) for i in range(2))
    assert len(change_frames(given, "drop:1")) == 1
    mixed = change_frames(given, "shuffle")
    assert mixed.timestamps == given.timestamps
    assert sorted(f.sum() for f in mixed.frames) == sorted(f.sum() for f in given.frames)
    other = change_frames(make_frames(path="other.mp4"), "shuffle")
    assert not np.array_equal(mixed.frames, other.frames)


@pytest.mark.parametrize("spec", ["blur", "shuffle:1", "noise:2", "drop:x", "fog:0.1", "fog"])
def test_a_wrong_change_is_an_error_that_lists_the_changes(spec):
    with pytest.raises(UserError, match=r"no change of frames|fog"):
        data.eval_settings(load_recipe("tiny", [f"video.eval_change={spec}"]).video)


def test_a_function_of_the_user_changes_frames(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import replace\n"
        "def dark(frames):\n    return replace(frames, frames=frames.frames // 2)\n"
    )
    changed = change_frames(make_frames(), f"{file}:dark+shuffle")
    assert changed.frames.max() < 128


def test_adaptive_sampling_chooses_more_frames_where_much_changes():
    frames = np.zeros((32, 4, 4, 3), dtype=np.uint8)
    frames[20:26] = (np.arange(6)[:, None, None, None] * 40).astype(np.uint8)  # changes here
    chosen = adaptive_indices(frames, 8)
    assert chosen == sorted(set(chosen)) and len(chosen) == 8
    assert chosen[0] == 0 and chosen[-1] == 31
    assert sum(19 <= place <= 26 for place in chosen) >= 5
    still = adaptive_indices(np.zeros((16, 2, 2, 3), dtype=np.uint8), 4)
    assert still == [0, 5, 10, 15]
    assert adaptive_indices(frames[:4], 8) == [0, 1, 2, 3]
    assert adaptive_indices(frames, 1) == [0]


def test_evaluation_reads_changed_and_adaptive_frames(tmp_path):
    write_clip(tmp_path / "clip.mp4")
    question = Question(id="q", problem="?", problem_type="OCR", path="clip.mp4")
    how = {"root": tmp_path, "cache": FrameCache(None), **VIDEO, "max_frames": 4}
    plain = data.read_frames(question, **how)
    adaptive = data.read_frames(question, sampling="adaptive", **how)
    assert len(plain) == len(adaptive) == 4 and adaptive.max_frames == 4
    assert adaptive.indices[0] == 0
    assert len(data.read_frames(question, change="drop:0.5", **how)) == 2
    recipe = load_recipe("tiny", ["video.eval_change=blur:2", "video.sampling=adaptive"])
    assert data.eval_settings(recipe.video)["change"] == "blur:2"
    assert "change" not in data.train_settings(recipe.video)
    assert data.train_settings(recipe.video)["sampling"] == "adaptive"
