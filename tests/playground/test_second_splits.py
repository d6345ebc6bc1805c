"""The splits of the second world: what is in them, their videos, and evaluations of them."""

import json
from collections import Counter

import numpy as np
import pytest

from p2r.errors import UserError
from p2r.evaluation.run import METRICS, score_answers, summarise, tags_of
from p2r.playground.second.chapters import render_any, scene_from_dict, times_of
from p2r.playground.second.language import Notes
from p2r.playground.second.questions import KINDS
from p2r.playground.second.splits import AMBIGUOUS, LONG
from p2r.playground.splits import make_question, splits_of, write_split, write_video
from p2r.playground.truth import missing_facts, truth_metrics
from p2r.playground.world import FPS
from p2r.records import Case, Question, Trace, Verdict
from p2r.runs.ownership import PLAYGROUND_SPLITS
from p2r.runs.recipe import load_recipe
from p2r.video import sample_frames


def test_every_split_has_its_kinds_equally_often():
    kinds = {"ambiguous": {kind for kind, _ in AMBIGUOUS}, "long": set(LONG)}
    for split in splits_of(2):
        expected = kinds.get(split, set(KINDS))
        block = {"ambiguous": len(AMBIGUOUS), "long": len(LONG)}.get(split, len(KINDS))
        questions = [make_question(split, index, 2) for index in range(block)]
        counts = Counter(question.meta["kind"] for question in questions)
        assert set(counts) == expected and len(set(counts.values())) == 1
        assert questions[3] == make_question(split, 3, 2) != questions[2]
        assert Question(**json.loads(questions[3].model_dump_json())).meta["scene"]


def test_only_the_second_generation_has_the_other_splits():
    assert splits_of(2) == PLAYGROUND_SPLITS
    with pytest.raises(UserError, match="generation 1 has no split 'long': choose one of train"):
        make_question("long", 0)
    settings = load_recipe("tiny1", ["playground.generation=2", "playground.long=3"]).playground
    assert settings.generation == 2
    assert settings.sizes() == {"train": 800, "validation": 100, "test": 300, "long": 3}


def test_a_long_clip_shows_its_chapters_one_after_the_other(tmp_path):
    question = make_question("long", 0, 2)
    scene = scene_from_dict(question.meta["scene"])
    names = [fact.name for fact in Notes.of(scene).objects]
    assert len(scene.chapters) == 8 and len(set(names)) == len(names)
    place = question.meta["chapter"]
    assert set(question.meta["needs"]) <= {obj.name for obj in scene.chapters[place].objects}
    shown = render_any(scene, [4.0 * place + 1.0], side=56)
    assert (shown == render_any(scene.chapters[place], [1.0], side=56)).all()

    write_split(tmp_path, "long", 1, generation=2)
    frames = sample_frames(tmp_path / question.path, max_frames=64, max_pixels=56 * 56, factor=14)
    assert frames.shape == (64, 56, 56, 3) and frames.sampled_fps == 2.0
    drawn = render_any(scene, list(frames.timestamps), side=56)
    assert np.abs(frames.frames.astype(int) - drawn.astype(int)).mean() < 8


def test_the_same_frames_always_give_the_same_video(tmp_path):
    """The encoder must not depend on the old content of memory, so each try fills memory first."""
    rng = np.random.default_rng(0)
    for index in (6, 8, 18, 19, 48):  # clips that once had 6 to 12 encodings in 30 tries
        scene = scene_from_dict(make_question("train", index, 2).meta["scene"])
        frames = render_any(scene, times_of(scene))
        found = set()
        for _ in range(12):
            dirt = [rng.integers(0, 255, rng.integers(1000, 200_000), "uint8") for _ in range(30)]
            write_video(tmp_path / "clip.mp4", frames, FPS)
            found.add((tmp_path / "clip.mp4").read_bytes())
            del dirt
        assert len(found) == 1, index


def test_a_covered_object_leaves_no_trace_in_the_picture():
    """The patch of a covered object is the same, however the object looks and moves."""
    question = next(
        q for i in range(9) if (q := make_question("ambiguous", i, 2)).meta["evidence"] == "covered"
    )
    scene = scene_from_dict(question.meta["scene"])
    (name,) = scene.hidden
    assert scene.named(name) is not None and Notes.of(scene).named(name) is None
    frames = render_any(scene, [0.0, 1.0, 2.0, 3.0], side=56)
    x, y = map(int, scene.place_of(name))
    assert len({frame[y, x].tobytes() for frame in frames}) == 1


def test_evaluations_report_truth_and_exact_matches():
    question = make_question("test", 0, 2)
    needed = " ".join(missing_facts(question, ""))
    false = f"{needed} The teal moon is big."
    cases = [
        Case(
            question=question,
            trace=Trace(question_id="1", text="", observation=seen, answer=question.answer),
            verdict=Verdict(sufficient=True),
        )
        for seen in (needed, false)
    ]
    metrics = (*METRICS, *truth_metrics([question]))
    found = summarise(score_answers(cases), metrics)["metrics"]
    means = {name: found[name]["mean"] for name in ("accuracy", "exact", "faithful")}
    assert means == {"accuracy": 1.0, "exact": 1.0, "faithful": 0.75}
    assert found["sufficient and true"]["mean"] == 0.5
    assert [tags_of(case) for case in cases] == [[], ["false sentence"]]
