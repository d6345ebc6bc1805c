"""The playground: scenes, questions, the oracle judge, splits and the shipped tiny models."""

import json
import random
from collections import Counter

import numpy as np
import pytest

from p2r.data import PLAYGROUND_MODELS, eval_settings, load_model, load_processor
from p2r.errors import UserError
from p2r.playground.language import (
    COMPLETE,
    TARGETED,
    Facts,
    Habit,
    ask,
    describe,
    observe,
    read_facts,
    tell,
)
from p2r.playground.oracle import OracleJudge, faithful_share
from p2r.playground.splits import SPLITS, make_question, write_split
from p2r.playground.world import EVENTS, Scene, render, sample_scene, ticks
from p2r.records import PROBLEM_TYPES, Question
from p2r.runs.recipe import load_recipe
from p2r.scoring import accuracy
from p2r.video import sample_frames

pytestmark = pytest.mark.slow
SEEDS = range(600)


def question_of(seed):
    scene = sample_scene(seed)
    asked = ask(scene, random.Random(seed))
    question = Question(
        id=str(seed),
        problem=asked.problem,
        options=asked.options,
        problem_type=asked.problem_type,
        answer=asked.answer,
    )
    return scene, asked, question


def judge(question, observation):
    (verdict,) = OracleJudge().judge([question], [observation])
    return verdict.sufficient


# ---- scenes


def test_a_scene_is_a_pure_function_of_its_seed():
    assert sample_scene(7) == sample_scene(7)
    assert sample_scene(7) != sample_scene(8)
    assert Scene.from_dict(json.loads(json.dumps(sample_scene(7).to_dict()))) == sample_scene(7)


def test_scenes_hold_every_event_and_signs():
    scenes = [sample_scene(seed) for seed in SEEDS]
    events = {obj.event for scene in scenes for obj in scene.objects}
    assert events == {None, *EVENTS}
    assert 0.15 < np.mean([scene.sign is not None for scene in scenes]) < 0.45


def test_events_change_the_picture_from_their_time_on():
    for seed in SEEDS:
        scene = sample_scene(seed)
        for obj in scene.objects:
            if obj.event in ("appears", "vanishes", "turns"):
                still = Scene([obj])
                before, after = render(still, [obj.time - 0.1, obj.time], side=56).astype(int)
                assert np.abs(before - after).max() > 50


# ---- questions and judge


def test_all_five_problem_types_are_asked():
    kinds = Counter(question_of(seed)[2].problem_type for seed in SEEDS)
    assert set(kinds) == set(PROBLEM_TYPES)
    assert min(kinds.values()) > 0.02 * len(SEEDS)


def test_every_reference_answer_scores_one():
    for seed in SEEDS:
        _, _, question = question_of(seed)
        options = question.options or None
        assert accuracy(question.problem_type, question.answer, question.answer, options) == 1.0


def test_sentences_read_back_as_the_scene():
    for seed in SEEDS:
        scene = sample_scene(seed)
        assert read_facts(describe(scene, random.Random(0), COMPLETE, frozenset())) == Facts.of(
            scene
        )


def test_the_judge_agrees_with_the_truth_of_the_scene():
    """Told all, or just what is needed: sufficient. Told just the rest: not sufficient."""
    for seed in SEEDS:
        scene, asked, question = question_of(seed)
        rng = random.Random(seed)
        assert judge(question, observe(scene, asked, rng, COMPLETE)) is True
        if asked.needs:
            assert judge(question, observe(scene, asked, rng, TARGETED)) is True
            if len(asked.needs) < len(scene.objects) + bool(scene.sign):
                needless = observe(scene, asked, rng, Habit(needed=0.0, needless=1.0))
                assert judge(question, needless) is False


def test_the_judge_rejects_false_and_contradicting_facts():
    question = Question(
        id="1", problem="How many objects move?", problem_type="numerical", answer="1"
    )
    one = "A big red circle moves left."
    assert judge(question, one) is True
    assert judge(question, f"{one} {one}") is True
    assert judge(question, f"{one} A small blue square moves up.") is False
    assert judge(question, f"{one} A big red circle moves right.") is False
    assert judge(question, "There is one moving object, so the answer is 1.") is False
    assert judge(question, "") is False


def test_the_judge_has_no_verdict_on_foreign_questions():
    question = Question(id="1", problem="Who won?", problem_type="free-form", answer="Ann")
    assert judge(question, "Ann crosses the line first.") is None


def test_faithful_share_counts_true_facts():
    scene = sample_scene(3)
    true = tell(Facts.of(scene).objects[0])
    assert faithful_share(true, scene) == 1.0
    assert faithful_share(f"{true} The sign says NOPE.", scene) == 0.5
    assert faithful_share("Nothing to read.", scene) is None


# ---- splits


def test_splits_are_disjoint_by_seed(tmp_path):
    seeds = {make_question(split, 5).meta["seed"] for split in SPLITS}
    assert len(seeds) == len(SPLITS)
    with pytest.raises(UserError, match="choose one of train"):
        make_question("tset", 0)


def test_a_split_is_written_as_real_videos_and_resumed(tmp_path):
    written = write_split(tmp_path, "validation", 3)
    questions = [Question(**json.loads(line)) for line in written.read_text().splitlines()]
    assert [q.id for q in questions] == [f"validation-{i:05d}" for i in range(3)]
    first = tmp_path / questions[0].path
    frames = sample_frames(first, max_frames=8, max_pixels=56 * 56, factor=14)
    assert frames.shape == (8, 56, 56, 3)
    assert frames.sampled_fps == 2.0  # one second per temporal patch, as the model's RoPE needs
    drawn = render(sample_scene(questions[0].meta["seed"]), ticks()[::2], side=56)
    assert np.abs(frames.frames.astype(int) - drawn.astype(int)).mean() < 8

    stamp = first.stat().st_mtime_ns
    (tmp_path / questions[1].path).unlink()
    write_split(tmp_path, "validation", 3)
    assert first.stat().st_mtime_ns == stamp
    assert (tmp_path / questions[1].path).exists()


# ---- shipped models


@pytest.mark.parametrize("name", ["base", "teacher"])
def test_a_shipped_model_is_small_safe_and_says_how_it_was_made(name):
    folder = PLAYGROUND_MODELS / name
    files = [path for path in folder.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 10 * 2**20
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pth")]
    card = json.loads((folder / "card.json").read_text())
    assert {"seed", "steps", "held_out"} <= set(card)
    assert load_model(f"playground/{name}", "float32").num_parameters() < 3_000_000
    assert load_processor(f"playground/{name}").tokenizer.eos_token == "<|im_end|>"


def test_the_models_see_the_video(tmp_path):
    """The teacher answers better on the right videos than on permuted ones."""
    from p2r.engines import Request, Sampling, load_engine

    recipe = load_recipe("tiny")
    engine = load_engine(recipe, "playground/teacher", batch_size=40)
    written = write_split(tmp_path, "validation", 40)
    questions = [Question(**json.loads(line)) for line in written.read_text().splitlines()]
    frames = [sample_frames(tmp_path / q.path, **eval_settings(recipe.video)) for q in questions]

    def share_sufficient(shift):
        requests = [
            Request(key=q.id, question=q, frames=frames[(i + shift) % len(frames)])
            for i, q in enumerate(questions)
        ]
        texts = {done.key: done.text for done in engine.generate(requests, Sampling())}
        return np.mean([bool(judge(q, texts[q.id])) for q in questions])

    assert share_sufficient(0) > share_sufficient(1) + 0.2
