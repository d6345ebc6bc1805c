"""Clips of a benchmark among the clips of a training file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from p2r.cli import run_cli
from p2r.datasets.contamination import check_contamination, find_overlaps, hash_frames
from p2r.errors import UserError


def scene(seed: int, size: int = 64) -> np.ndarray:
    """A picture of soft blobs, as uint8 RGB."""
    noise = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC))


def clip(*seeds: int, size: int = 64) -> np.ndarray:
    return np.stack([scene(seed, size) for seed in seeds])


def test_a_scaled_brighter_compressed_copy_is_found(tmp_path):
    original = clip(1, 2, 3)
    copies = []
    for frame in clip(1, 2, 3, size=96):
        Image.fromarray(np.clip(frame * 0.9 + 20, 0, 255).astype(np.uint8)).save(
            tmp_path / "f.jpg", quality=40
        )
        copies.append(np.asarray(Image.open(tmp_path / "f.jpg")))
    training = [("original", hash_frames(original))]
    for frames, share in ((np.stack(copies), 1.0), (clip(4, 5, 6), 0.0)):
        (found,) = find_overlaps(training, [("clip", hash_frames(frames))], share=0.0)
        assert found.share == share


def test_a_cut_copy_is_found_and_the_best_training_clip_is_named():
    training = [("a", hash_frames(clip(1, 2, 3, 4))), ("b", hash_frames(clip(5, 6, 7, 8)))]
    benchmark = [
        ("cut", hash_frames(clip(6, 7))),
        ("half", hash_frames(clip(1, 20))),
        ("quarter", hash_frames(clip(1, 20, 21, 22))),
        ("new", hash_frames(clip(30, 31))),
    ]
    found = find_overlaps(training, benchmark)
    assert [(o.benchmark, o.training, o.share) for o in found] == [
        ("cut", "b", 1.0), ("half", "a", 0.5)
    ]  # fmt: skip


def test_flat_frames_say_nothing():
    black = np.zeros((3, 32, 32, 3), dtype=np.uint8)
    assert len(hash_frames(black)) == 0
    assert find_overlaps([("a", hash_frames(black))], [("b", hash_frames(black))]) == []


@pytest.fixture
def files(tmp_path):
    """A training file and a benchmark file that share one picture."""
    for name, seeds in (("train", (1, 2)), ("bench", (2, 3))):
        (tmp_path / name).mkdir()
        rows = []
        for seed in seeds:
            Image.fromarray(scene(seed)).save(tmp_path / name / f"{name}{seed}.png")
            rows.append({"question": "How many?", "answer": "2", "image": f"{name}{seed}.png"})
        rows.append({"question": "How many?", "answer": "2", "image": "lost.png"})
        (tmp_path / name / "q.json").write_text(json.dumps(rows))
    return tmp_path / "train" / "q.json", tmp_path / "bench" / "q.json"


def test_the_command_names_the_shared_clips(files, capsys):
    assert run_cli(["data", "contamination", *map(str, files), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["overlaps"] == [
        {"benchmark": "bench2.png", "training": "train2.png", "share": 1.0}
    ]
    assert found["unreadable"].keys() == {"lost.png"}
    assert run_cli(["data", "contamination", *map(str, files)]) == 1
    assert "bench2.png" in capsys.readouterr().out


def test_a_data_set_may_be_a_folder(files, capsys):
    assert run_cli(["data", "contamination", *(str(file.parent) for file in files), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [overlap["benchmark"] for overlap in found["overlaps"]] == ["bench2.png"]
    assert found["unreadable"].keys() == {"lost.png"}


def test_without_a_readable_clip_nothing_is_called_clean(files, tmp_path):
    training, benchmark = files
    for roots in ((tmp_path, None), (None, tmp_path)):
        with pytest.raises(UserError, match=r"no clip of .*q\.json can be read"):
            check_contamination(training, benchmark, *roots)
    benchmark.write_text(json.dumps([{"question": "How many?", "answer": "2"}]))
    with pytest.raises(UserError, match="can be read"):
        check_contamination(training, benchmark)
