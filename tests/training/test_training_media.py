"""Frames of a training: each clip is decoded once over all starts, and before it is needed."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from small import read_lines, small_recipe, stopped_at_line
from small_rl import RuleJudge

from p2r.records import Case, Question, Trace
from p2r.runs.recipe import load_recipe
from p2r.training.grpo import batches_of, train_grpo
from p2r.training.media import ReadAhead, ReadNextStep
from p2r.training.sft import train_sft
from p2r.training.sft_batches import LengthGroups
from p2r.video import frames

pytest_plugins = ["small_fixtures"]


def named(count: int) -> list[Question]:
    ask = {"problem": "How many?", "problem_type": "numerical", "answer": "2"}
    return [Question(id=f"q{number}", **ask) for number in range(count)]


@pytest.mark.parametrize(
    ("distance", "expected"), [(1, ["q2", "q3", "q4", "q5"]), (2, ["q4", "q5"])]
)
def test_a_later_batch_is_decoded_while_a_batch_is_in_use(distance, expected):
    decoded: list[str] = []
    rl = load_recipe("tiny1", ["rl.prompts_per_step=2", "rl.group_size=2"]).rl
    ahead = SimpleNamespace(submit=lambda *asked: decoded.extend(q.id for q in asked))
    callback = ReadNextStep(ahead, batches_of(named(6), rl), 2, distance)
    for step in range(6):
        callback.on_step_begin(None, SimpleNamespace(global_step=step), None)
    assert decoded == expected


def test_few_videos_wait_to_be_decoded():
    decoded: list[str] = []
    begin = threading.Event()
    ahead = ReadAhead(lambda question: begin.wait(60) and decoded.append(question.id))
    ahead.submit(*named(2 * ReadAhead.LIMIT))
    begin.set()
    ahead._threads.shutdown()
    assert len(decoded) == ReadAhead.LIMIT


def test_examples_are_announced_while_the_batch_before_is_in_use():
    said: list[int] = []
    groups = LengthGroups([1] * 8, batch_size=2, seed=0, announce=said.append)
    taken = []
    for place, index in enumerate(groups, start=1):
        taken.append(index)
        assert len(said) == min(place + 2, 8)
    assert said == taken == list(LengthGroups([1] * 8, batch_size=2, seed=0))


def test_a_worker_announces_only_the_examples_that_it_reads():
    said: list[list[int]] = [[], []]
    for worker, named in enumerate(said):
        groups = LengthGroups([1] * 9, 4, 0, named.append, lambda place, w=worker: place % 2 == w)
        order = list(groups)
    assert said == [order[::2], order[1::2]]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["rl", "sft"])
def test_each_clip_is_decoded_once_over_all_starts(
    model_folder, media, questions, tmp_path, monkeypatch, stage
):
    monkeypatch.setenv("P2R_CACHE", str(tmp_path / "cache"))
    decoded: Counter[str] = Counter()
    decode = frames.decode

    def count(request, timeout):
        decoded[Path(request["path"]).name] += 1
        return decode(request, timeout)

    monkeypatch.setattr(frames, "decode", count)
    settings = ["sft.max_steps=4", "sft.save_steps=1", "sft.batch_size=2", "rl.steps=4"]
    sizes = ["rl.prompts_per_step=2", "rl.group_size=2", "rl.micro_batch=2", "rl.max_tokens=8"]
    recipe = small_recipe(model_folder, *settings, *sizes, "rl.save_steps=1")
    trace = {"text": "", "observation": "Two.", "think": "So two.", "answer": "2"}
    cases = [Case(question=q, trace=Trace(question_id=q.id, **trace)) for q in questions]

    def train():
        if stage == "sft":
            train_sft(recipe, cases, tmp_path / "out", data_root=media)
        else:
            train_grpo(
                *(recipe, questions, model_folder, tmp_path / "out"),
                judge=RuleJudge(),
                data_root=media,
            )

    with stopped_at_line(2):
        train()
    train()
    assert len(read_lines(tmp_path / "out" / "metrics.jsonl")) == 4
    assert {*decoded} == {"long.mp4", "twin.mp4", "short.mp4", "still.png"}
    assert {*decoded.values()} == {1}
