"""The playground: scenes, questions, the oracle judge, splits and the shipped tiny models."""

import json
import random
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from p2r.data import eval_settings, load_model, load_processor
from p2r.errors import UserError
from p2r.playground import held_out, pretrain
from p2r.playground.curriculum import (
    BATCH,
    CURRICULUM,
    FIRST_SEED,
    FIRST_SEED_OF_MODELS,
    MODELS,
)
from p2r.playground.examples import corpus
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
    to_question,
)
from p2r.playground.oracle import OracleJudge
from p2r.playground.splits import SPLITS, make_question, write_split
from p2r.playground.truth import faithful
from p2r.playground.world import Scene, render, sample_scene, ticks
from p2r.records import PROBLEM_TYPES, Case, Question, Trace
from p2r.runs.models import SHIPPED
from p2r.runs.recipe import load_recipe
from p2r.scoring import accuracy
from p2r.video import sample_frames

pytestmark = pytest.mark.slow
SEEDS = range(600)


def question_of(seed):
    scene = sample_scene(seed)
    asked = ask(scene, random.Random(seed))
    return scene, asked, to_question(asked, id=str(seed))


def judge(question, observation):
    (verdict,) = OracleJudge().judge([question], [observation])
    return verdict.sufficient


# ---- scenes


def test_a_seed_always_gives_the_same_scene():
    assert sample_scene(7) == sample_scene(7)
    assert sample_scene(7) != sample_scene(8)
    assert Scene.from_dict(json.loads(json.dumps(sample_scene(7).to_dict()))) == sample_scene(7)


def test_scenes_contain_every_event_and_signs():
    scenes = [sample_scene(seed) for seed in SEEDS]
    events = {obj.event for scene in scenes for obj in scene.objects}
    assert events == {None, "appears", "vanishes", "stops", "turns", "hits"}
    assert 0.15 < np.mean([scene.sign is not None for scene in scenes]) < 0.45


def test_events_change_the_picture_at_their_time():
    for seed in SEEDS:
        scene = sample_scene(seed)
        for obj in scene.objects:
            if obj.event in ("appears", "vanishes", "turns"):
                still = Scene([obj])
                before, after = render(still, [obj.time - 0.1, obj.time], side=56).astype(int)
                assert np.abs(before - after).max() > 50


# ---- questions and judge


def test_all_five_problem_types_occur():
    kinds = Counter(question_of(seed)[2].problem_type for seed in SEEDS)
    assert set(kinds) == set(PROBLEM_TYPES)
    assert min(kinds.values()) > 0.02 * len(SEEDS)


def test_every_reference_answer_scores_one():
    for seed in SEEDS:
        _, _, question = question_of(seed)
        options = question.options or None
        assert accuracy(question.problem_type, question.answer, question.answer, options) == 1.0


def test_read_facts_restores_the_scene():
    for seed in SEEDS:
        scene = sample_scene(seed)
        assert read_facts(describe(scene, random.Random(0), COMPLETE, frozenset())) == Facts.of(
            scene
        )


def test_the_judge_agrees_with_the_true_scene():
    """All facts, or only the needed facts, are sufficient. Only the other facts are not."""
    for seed in SEEDS:
        scene, asked, question = question_of(seed)
        rng = random.Random(seed)
        assert judge(question, observe(scene, asked, rng, COMPLETE)) is True
        if asked.needs:
            assert judge(question, observe(scene, asked, rng, TARGETED)) is True
            if len(asked.needs) < len(scene.objects) + bool(scene.sign):
                needless = observe(scene, asked, rng, Habit(needed=0.0, needless=1.0))
                assert judge(question, needless) is False


def test_the_judge_rejects_false_and_contradictory_facts():
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


def test_two_events_at_one_time_do_not_say_which_is_first():
    options = ["A. the red circle stops", "B. the blue square vanishes"]
    question = Question(
        id="1", problem="Which happens first?", problem_type="multiple choice", answer="A",
        options=options,
    )  # fmt: skip
    told = "A big red circle moves left and stops at {} s. "
    told += "A big blue square moves up and vanishes at 2 s."
    assert judge(question, told.format(1)) is True
    for order in (options, options[::-1]):
        question.options = [f"{letter}{text[1:]}" for letter, text in zip("AB", order, strict=True)]
        assert judge(question, told.format(2)) is False


def test_the_judge_has_no_verdict_on_questions_of_other_data():
    question = Question(id="1", problem="Who won?", problem_type="free-form", answer="Ann")
    assert judge(question, "Ann crosses the line first.") is None
    question.problem = "Which happens first?"  # a problem of the playground, but without options
    assert judge(question, "A big red circle moves left and stops at 1 s.") is None


@pytest.mark.parametrize(
    ("problem", "answer", "source"),
    [
        ("How many frames are shown?", "8", ""),
        ("How many seconds does the clip last?", "8", ""),
        ("Which way does the red car move?", "left", ""),
        ("What does the sign say?", "Main Street", ""),
        ("What does the sign say?", "STOP", "street"),
        ("How many objects move?", "2", "street"),
    ],
)
@pytest.mark.parametrize("meta", [{}, {"generation": 2}])
def test_the_judge_has_no_verdict_on_questions_that_sound_alike(problem, answer, source, meta):
    question = Question(
        id="1", problem=problem, problem_type="free-form", answer=answer, source=source, meta=meta
    )
    for observation in ("A red car moves left past a sign.", "A big red circle moves left."):
        (verdict,) = OracleJudge().judge([question], [observation])
        assert verdict.sufficient is None
        assert verdict.rationale == "The oracle can judge only questions of the playground."


def test_faithful_counts_true_sentences():
    scene, _, question = question_of(3)
    question.source, question.meta["scene"] = "playground", scene.to_dict()

    def share(observation):
        trace = Trace(question_id=question.id, text="", observation=observation)
        return faithful(Case(question=question, trace=trace))

    true = tell(Facts.of(scene).objects[0])
    assert share(true) == 1.0
    assert share(f"{true} The sign says NOPE.") == 0.5
    assert share("Nothing to read.") is None


# ---- splits


def test_splits_have_different_seeds(tmp_path):
    seeds = {make_question(split, 5).meta["seed"] for split in SPLITS}
    assert len(seeds) == len(SPLITS)
    with pytest.raises(UserError, match="choose one of train"):
        make_question("tset", 0)


def test_a_split_is_written_as_videos_and_resumed(tmp_path):
    written = write_split(tmp_path, "validation", 3)
    questions = [Question(**json.loads(line)) for line in written.read_text().splitlines()]
    assert [q.id for q in questions] == [f"validation-{i:05d}" for i in range(3)]
    first = tmp_path / questions[0].path
    frames = sample_frames(first, max_frames=8, max_pixels=56 * 56, factor=14)
    assert frames.shape == (8, 56, 56, 3)
    assert frames.sampled_fps == 2.0  # one second per temporal patch, as RoPE needs
    drawn = render(sample_scene(questions[0].meta["seed"]), ticks()[::2], side=56)
    assert np.abs(frames.frames.astype(int) - drawn.astype(int)).mean() < 8

    stamp = first.stat().st_mtime_ns
    (tmp_path / questions[1].path).unlink()
    write_split(tmp_path, "validation", 3)
    assert first.stat().st_mtime_ns == stamp
    assert (tmp_path / questions[1].path).exists()


# ---- pre-training


def test_every_stage_makes_the_same_example_of_a_seed():
    for stage in (*CURRICULUM, *MODELS):
        for seed in range(FIRST_SEED, FIRST_SEED + 3 * BATCH, 5):
            scene, question, response = stage.make(seed)
            assert (scene, question, response) == stage.make(seed)
            assert question.problem and response
            assert (scene is None) == response.startswith("<think>")


def test_stages_do_not_share_scenes_with_each_other_or_with_splits():
    ends = {name: first + 10_000_000 for name, first in SPLITS.items()}
    assert max(ends.values()) <= held_out.FIRST_SEED < FIRST_SEED
    scenes = BATCH * sum(stage.steps for stage in CURRICULUM)
    assert FIRST_SEED + scenes <= FIRST_SEED_OF_MODELS


def test_a_stage_prints_its_losses_and_is_not_made_twice(tmp_path, monkeypatch, capsys):
    """One step of two stages: the second run of the same command trains nothing."""
    monkeypatch.setattr(pretrain, "CURRICULUM", (replace(CURRICULUM[0], steps=1),))
    monkeypatch.setattr(pretrain, "MODELS", (replace(MODELS[0], steps=1),))
    monkeypatch.setattr(pretrain, "BATCH", 2)
    monkeypatch.setattr(pretrain, "corpus", partial(corpus, count=200))
    monkeypatch.setattr(pretrain, "score", lambda model, processor, style: {"style": style})
    pretrain.make_models(tmp_path, seed=0)
    printed = capsys.readouterr().out
    assert "see 0/1 loss 6." in printed and "teacher 0/1 loss" in printed
    card = json.loads((tmp_path / "teacher" / "card.json").read_text())
    assert card["steps"] == {"see": 1, "teacher": 1}
    assert card["held_out"]["direct"] == {"style": "direct"}
    pretrain.make_models(tmp_path, seed=0)
    assert "loss" not in capsys.readouterr().out
    with pytest.raises(UserError, match=r"see has a model of the family qwen2_5_vl, not qwen3_vl"):
        pretrain.make_models(tmp_path, seed=0, family="qwen3_vl")


def test_a_stage_killed_while_it_saves_does_not_count(tmp_path):
    class Part:
        def __init__(self, name, works=True):
            self.name, self.works = name, works

        def save_pretrained(self, folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / self.name).write_text("x")
            if not self.works:
                raise KeyboardInterrupt

    folder = tmp_path / "see"
    with pytest.raises(KeyboardInterrupt):
        pretrain._save(Part("model"), Part("processor", works=False), folder)
    assert not folder.exists()
    pretrain._save(Part("model"), Part("processor"), folder)
    assert sorted(file.name for file in folder.iterdir()) == ["model", "processor"]
    assert [*tmp_path.iterdir()] == [folder]


# ---- shipped models


@pytest.mark.parametrize("name", ["base", "teacher"])
def test_a_shipped_model_is_small_has_no_pickle_and_has_a_card(name):
    folder = SHIPPED / name
    files = [path for path in folder.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 10 * 2**20
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pth")]
    card = json.loads((folder / "card.json").read_text())
    assert {"seed", "steps", "held_out"} <= set(card)
    assert load_model(f"playground/{name}", "float32").num_parameters() < 3_000_000
    assert load_processor(f"playground/{name}").tokenizer.eos_token == "<|im_end|>"


def test_the_models_see_the_video(tmp_path):
    """The teacher answers better with the right videos than with shuffled videos."""
    from p2r.engines import Request, Sampling, load_engine

    recipe = load_recipe("tiny1")
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
