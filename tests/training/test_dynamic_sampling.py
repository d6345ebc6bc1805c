"""Other questions replace collapsed groups and unreadable videos; the same on every worker."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest
from PIL import Image
from small import VIDEO, read_lines, small_recipe, stopped_at_line
from small_rl import FULL, RuleJudge

from p2r import data
from p2r.errors import TrainingError, UserError
from p2r.records import Question
from p2r.template import render
from p2r.training import grpo, stage
from p2r.training import substitutes as module_of_substitutes
from p2r.training.substitutes import Substitutes, find_fault
from p2r.training.trainer import ProcessAwareGRPOTrainer
from p2r.video import FrameCache

pytest_plugins = ["small_fixtures"]
BLIND, WRONG = render("I see.", "So two.", "2"), render("I see two.", "So three.", "3")
# The rollouts of a question by the first letter of its id; the letter says what differs in them.
SAID = {
    "n": [FULL, FULL],  # nothing
    "p": [FULL, BLIND],  # perception
    "r": [FULL, WRONG],  # reasoning
    "b": [FULL, render("I see.", "So three.", "3")],  # both
}


class ByQuestion(ProcessAwareGRPOTrainer):
    """Gives the responses of `SAID` in place of sampling."""

    def _generate_single_turn(self, prompt_ids, images, fields, num_generations):
        step = self.step
        said = [
            SAID[question.id[0]][(step.first_row + row) % step.group_size]
            for row, question in enumerate(step.questions)
        ]
        ends = [self._tokenizer.eos_token_id]
        return [self._tokenizer(text)["input_ids"] + ends for text in said], None


def ask(names: list[str], path: str = "") -> list[Question]:
    common = {"problem": "How many?", "problem_type": "numerical", "answer": "2", "path": path}
    return [Question(id=name, **common) for name in names]


def train(out: str, model: str, media: str, names: list[str], *settings: str) -> Path:
    """Run a short training; the arguments are plain, so that `accelerate launch` can call it."""
    recipe = small_recipe(
        model,
        "rl.steps=3",
        "rl.save_steps=1",
        "rl.prompts_per_step=3",
        "rl.group_size=2",
        "rl.micro_batch=1",
        "rl.learning_rate=1e-3",
        "rl.max_tokens=40",
        *settings,
    )
    questions = ask(names)
    for question in questions:
        if question.id.endswith("!"):
            question.path = "broken.mp4"
    with mock.patch.object(grpo, "ProcessAwareGRPOTrainer", ByQuestion):
        return grpo.train_grpo(recipe, questions, model, out, judge=RuleJudge(), data_root=media)


def asked_in(out: Path) -> list[list[str]]:
    """Return the ids of the groups that each step trained on."""
    steps: dict[int, list[str]] = {}
    for row in read_lines(out / "rollouts.jsonl"):
        steps.setdefault(row["trace"]["step"], []).append(row["question"]["id"])
    return [names[::2] for names in steps.values()]


def both(folder: Path, *names: str) -> list[tuple[dict, dict]]:
    """Return the metrics of two trainings, step by step."""
    rows = (read_lines(folder / name / "metrics.jsonl") for name in names)
    return list(zip(*rows, strict=True))


# ---- draws


def substitutes(names, media, questions=()):
    cache, skipped = FrameCache(None), []

    def frames_of(question):
        path = question.path
        return data.read_frames(question, root=media, cache=cache, **VIDEO) if path else None

    made = Substitutes(
        [*ask(names), *questions],
        0,
        lambda q: find_fault(q, frames_of, "brief", processor=None),
        lambda question, reason: skipped.append((question.id, reason)),
    )
    return made, skipped


def test_groups_draw_different_questions_which_are_the_same_on_every_worker(media):
    names = [f"q{n}" for n in range(20)]
    planned = ask(names[:3])
    drawn = []
    for _ in range(2):  # each draws in another order
        made, _ = substitutes(names, media)
        assert made.fill([planned[0], *planned], 1, 0, 1)
        places = range(4) if not drawn else reversed(range(4))
        found = {place: [made.draw(place).id for _ in range(2)] for place in places}
        drawn.append(found)
    assert drawn[0] == drawn[1]
    every = [name for found in drawn[0].values() for name in found]
    assert len({*every}) == 8 and not {*every} & {"q0", "q1", "q2"}
    made.fill(planned, 2, 0, 1)
    assert [made.draw(place).id for place in range(3)] != every[:3], "each step has its order"


def test_an_unreadable_video_is_replaced_and_reported_once(media):
    lost = ask(["lost"], "broken.mp4")
    made, skipped = substitutes(["a", "b"], media, lost)
    for step in (1, 2):
        (first, second) = made.fill([*ask(["a"]), *lost], step, 0, 1)
        assert (first.id, second.id) == ("a", "b")
    assert [name for name, _ in skipped] == ["lost"] and "broken.mp4" in skipped[0][1]
    made, _ = substitutes([], media, lost)
    with pytest.raises(TrainingError, match="no other question is left"):
        made.fill(lost, 1, 0, 1)


def test_an_image_with_several_frames_is_skipped_before_its_step(model_folder, tmp_path):
    pictures = [Image.new("RGB", (56, 56), colour) for colour in ("red", "green", "blue")]
    pictures[0].save(tmp_path / "moving.gif", save_all=True, append_images=pictures[1:])
    (question,) = ask(["moving"], "moving.gif")
    question.data_type = "image"
    cache, processor = FrameCache(None), data.load_processor(model_folder)

    def frames_of(question):
        return data.read_frames(question, root=tmp_path, cache=cache, **VIDEO)

    said = find_fault(question, frames_of, "brief", processor)
    assert "is about an image, but" in said and "has 3 frames" in said
    (tmp_path / "moving.gif").unlink()
    pictures[0].save(tmp_path / "moving.gif")
    assert find_fault(question, frames_of, "brief", processor) is None


class Gather:
    """`gather_object` for two workers that are threads of this OS process."""

    def __init__(self) -> None:
        self.meet, self.rank = threading.Barrier(2, timeout=30), threading.local()
        self.parts: list[list] = [[], []]

    def __call__(self, mine: list) -> list:
        self.parts[self.rank.number] = mine
        self.meet.wait()
        found = [*self.parts[0], *self.parts[1]]
        self.meet.wait()
        return found


def test_workers_that_cannot_read_the_same_videos_ask_the_same_questions(monkeypatch):
    """Two groups of two rows; the first is on both workers, and only one of them can read q0."""
    gather = Gather()
    for module in (module_of_substitutes, stage):
        monkeypatch.setattr(module, "gather_object", gather)
    planned, pool = ask(["q0", "q1"]), ask([f"q{number}" for number in range(12)])

    def work(rank: int) -> list:
        gather.rank.number = rank

        def find_fault(question):
            late = ("q0", "q3", "q5") if rank else ("q4", "q6")
            return "took too long" if question.id in late else None

        made = Substitutes(pool, 0, find_fault, lambda question, reason: None)
        rows = [planned[0], planned[1], planned[1]] if rank else planned[:1]
        first = made.fill(rows, 1, rank, 2)
        drawn = [made.draw_all([0, 1]) for _ in range(6)]
        return [[question.id for question in first], drawn]

    with ThreadPoolExecutor(2) as threads:
        (left, drawn), (right, same) = threads.map(work, range(2))
    assert (left, right) == (["q0"], ["q0", "q1", "q1"])
    assert drawn == same and not drawn[-1], "until no question is left"
    names = [question.id for groups in drawn for question in groups.values()]
    assert len({*names}) == len(names) >= 6


# ---- training

POOL = ["n1", "n2", "n3", "n4", "p1", "p2", "r1", "r2", "b1", "b2", "b3", "n5"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wanted", "kept"),
    [("all", "prb"), ("any", "b"), ("reasoning", "rb"), ("none", "nprb")],
)
def test_collapsed_groups_are_replaced(model_folder, media, tmp_path, wanted, kept):
    train(
        *(tmp_path, model_folder, media, POOL),
        *(f"rl.dynamic_sampling={wanted}", "rl.dynamic_rounds=9", "rl.steps=2"),
    )
    rows = read_lines(tmp_path / "metrics.jsonl")
    for names, row in zip(asked_in(tmp_path), rows, strict=True):
        assert len({*names}) == len(names) == 3
        lasting = [name for name in names if name[0] not in kept]
        if wanted == "none":
            assert not any(key.startswith("dynamic") for key in row)
            continue
        assert row["dynamic/collapse"] == pytest.approx(len(lasting) / 3)
        assert len(lasting) < 3
        assert row["dynamic/replaced"] >= row["dynamic/rounds"]
        sampled = 3 + row["dynamic/replaced"]
        empty = row["dynamic/collapse_sampled"] * sampled
        assert empty == pytest.approx(sampled - 3 + len(lasting)), "each replaced group is counted"
    if wanted != "none":
        assert sum(row["dynamic/replaced"] for row in rows) > 0


@pytest.mark.slow
def test_the_number_of_rounds_is_limited(model_folder, media, tmp_path):
    names = [f"n{number}" for number in range(12)]
    train(
        *(tmp_path, model_folder, media, names),
        *("rl.dynamic_sampling=all", "rl.dynamic_rounds=2", "rl.steps=1"),
    )
    (row,) = read_lines(tmp_path / "metrics.jsonl")
    assert (row["dynamic/rounds"], row["dynamic/replaced"], row["dynamic/collapse"]) == (2, 6, 1)
    assert row["judge/calls"] == 3, "one for each time: all questions and observations are equal"


@pytest.mark.slow
def test_a_resumed_training_draws_the_same(model_folder, media, tmp_path):
    settings = ("rl.dynamic_sampling=all", "rl.rewards=[perception,reasoning]")
    names = [*POOL, "b!", "p!", "r!"]  # three cannot be read, and are not opened before step 1
    with mock.patch.object(grpo, "OPENED", 2):
        train(tmp_path / "whole", model_folder, media, names, *settings)
        with stopped_at_line(2):
            train(tmp_path / "cut", model_folder, media, names, *settings)
        train(tmp_path / "cut", model_folder, media, names, *settings)
    whole, cut = asked_in(tmp_path / "whole"), asked_in(tmp_path / "cut")
    assert whole == cut and len(whole) == 3
    assert not any("!" in name for names in whole for name in names)
    for one, other in both(tmp_path, "whole", "cut"):
        same = [key for key in one if key.startswith(("dynamic", "loss", "reward", "judge/calls"))]
        assert {key: one[key] for key in same} == {key: other[key] for key in same}


def test_dynamic_sampling_refuses_a_process_that_is_not_trained():
    from p2r.training.rl_checks import check_rl

    with pytest.raises(UserError, match=r"rl\.dynamic_sampling=perception"):
        check_rl(small_recipe("m", "rl.credit=outcome", "rl.dynamic_sampling=perception"))
