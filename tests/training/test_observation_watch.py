"""A judge behind a server begins with an observation while the rest of the step is sampled."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from small_rl import generation, make_trainer
from waiting_judges import LateJudge, WaitingJudge

from p2r import data
from p2r.template import parse, render
from p2r.training.observation_watch import ObservationWatch
from p2r.training.trainer import ProcessAwareGRPOTrainer

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]
TWO, ONE = (render(f"I see {what}.", "So it is two.", "2") for what in ("two", "one"))


def test_the_watch_hears_each_observation_once_when_its_tag_is_closed(model_folder):
    tokenizer = data.load_processor(str(model_folder)).tokenizer
    texts = [TWO, "<think>2 > 1</think>" + ONE, "no tags at all > 3", "<observation>I see"]
    rows = [tokenizer(text)["input_ids"] for text in texts]
    heard = {}
    watch = ObservationWatch(tokenizer, len(rows), lambda row, text: heard.update({row: text}))
    for place in range(max(map(len, rows))):
        watch.see(torch.tensor([[ids[place] if place < len(ids) else 0] for ids in rows]))
        for row in heard:
            assert parse(heard[row]).observation == parse(texts[row]).observation
    assert set(heard) == {0, 1}
    assert "<answer>" not in heard[0]


class Dictated:
    """A logits processor: the rows say the given tokens. Notes what the judge knows at the end."""

    def __init__(self, rows, end, judge):
        length = max(map(len, rows)) + 1
        self.rows = torch.tensor([row + [end] * (length - len(row)) for row in rows])
        self.judge, self.place, self.known = judge, 0, []

    def __call__(self, ids, scores):
        token = self.rows[:, self.place, None]
        self.place += 1
        if self.place == self.rows.size(1):  # the last token
            if self.judge.waits:
                self.judge.begun.wait(30)
            self.known = list(self.judge.asked)
        return torch.full_like(scores, -math.inf).scatter_(1, token, 0.0)


def test_the_judge_works_during_sampling(model_folder, media, questions, tmp_path):
    rewards = []
    for judge in (WaitingJudge(), LateJudge()):
        trainer, cases = make_trainer(
            ProcessAwareGRPOTrainer, model_folder, media, questions[:1], tmp_path,
            "rl.max_tokens=90", judge=judge,
        )  # fmt: skip
        said = [trainer._tokenizer(text)["input_ids"] for text in (TWO, ONE)]
        dictated = Dictated(said, trainer._tokenizer.eos_token_id, judge)
        trainer.model.generate = partial(trainer.model.generate, logits_processor=[dictated])
        trainer.model.train()
        trainer._generate_and_score_completions(generation(questions[:1]))
        assert [case.trace.text for case in cases] == [TWO, ONE]
        assert bool(dictated.known) == judge.waits and len(judge.asked) == 2
        rewards.append([case.perception.total for case in cases])
    assert rewards[0] == rewards[1] and len(set(rewards[0])) == 2
