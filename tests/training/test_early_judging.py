"""A judge behind a server begins with an observation while the rest of the step is sampled."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from small_rl import generation, make_trainer

from p2r import data
from p2r.engines import Completion, Sampling
from p2r.errors import JudgeError
from p2r.files.journal import Journal
from p2r.judges import BaseJudge, JournaledJudge, make_judge
from p2r.records import Question, Verdict
from p2r.template import parse, render
from p2r.training.observation_watch import ObservationWatch
from p2r.training.step_judge import StepJudge
from p2r.training.trainer import ProcessAwareGRPOTrainer
from p2r.training.vllm_rollouts import VllmRollouts

pytest_plugins = ["small_fixtures"]
QUESTION = Question(id="q", problem="How many?", problem_type="numerical", answer="2")
TWO, ONE = (render(f"I see {what}.", "So it is two.", "2") for what in ("two", "one"))
BEGUN = TWO[: TWO.index("<think>")]


class WaitingJudge(BaseJudge):
    """Says "sufficient" for "two", after some time. Notes when it is asked about what."""

    name = "waiting"

    def __init__(self, seconds=0.0, failures=(), limit=None):
        self.seconds, self.limit = seconds, limit
        self.failures = list(failures)  # errors or verdicts of the first calls
        self.asked, self.begun = [], threading.Event()

    async def ask(self, question, observation):
        self.asked.append(observation)
        self.begun.set()
        await asyncio.sleep(self.seconds)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        return Verdict(sufficient="two" in observation, usage={"tokens": 1}, cost=0.01)


class LateJudge(WaitingJudge):
    """Is asked after sampling."""

    waits = False


def hear_then_ask(judge, heard, texts, retries=1, timeout=60.0):
    asking = StepJudge(judge, timeout, retries)
    for text in heard:
        asking.hear(QUESTION, text)
    asking.ask([QUESTION] * len(texts), texts)
    return asking.answer()


def test_an_observation_that_was_heard_is_not_judged_again():
    judge = WaitingJudge()
    asking = StepJudge(judge, timeout=60.0, retries=1)
    asking.hear(QUESTION, BEGUN)
    assert judge.begun.wait(30), "the judge begins before `ask`"
    asking.hear(QUESTION, TWO)  # another rollout with the same observation
    asking.ask([QUESTION] * 3, [TWO, ONE, TWO])
    judged = asking.answer()
    assert sorted(judge.asked) == ["I see one.", "I see two."]
    assert [verdict.sufficient for verdict in judged.verdicts] == [True, False, True]
    assert [verdict.cost for verdict in judged.verdicts] == [0.01, 0.01, 0]
    assert judged.calls == 2
    asking.ask([QUESTION], [TWO])  # the next step asks again; a cache is the judge's own
    assert asking.answer().calls == 1 and len(judge.asked) == 3


@pytest.mark.parametrize("failure", [OSError("no connection"), Verdict(sufficient=None)])
def test_a_judge_that_fails_early_is_asked_again(failure):
    judge = WaitingJudge(failures=[failure])
    judged = hear_then_ask(judge, [BEGUN], [TWO], retries=0)
    assert judged.verdicts[0].sufficient is True
    assert judge.asked == ["I see two."] * 2 and judged.calls == 2


def test_other_errors_of_an_early_call_are_errors_of_the_step():
    judge = WaitingJudge(failures=[JudgeError("the budget is spent")])
    with pytest.raises(JudgeError, match="the budget is spent"):
        hear_then_ask(judge, [BEGUN], [TWO])


def test_an_early_call_that_hangs_costs_the_time_limit_and_gets_no_second_call():
    judge = WaitingJudge(seconds=2.0)
    asking = StepJudge(judge, timeout=0.1, retries=3)
    asking.hear(QUESTION, BEGUN)
    asking.ask([QUESTION], [TWO])
    assert asking.answer().verdicts[0].rationale == "no verdict within 0.1 s"
    asking.hear(QUESTION, ONE)
    assert judge.asked == ["I see two."]
    end = time.monotonic() + 30
    while asking._lock.locked() and time.monotonic() < end:
        time.sleep(0.05)
    asking.timeout = 60.0
    asking.hear(QUESTION, ONE)
    asking.ask([QUESTION], [ONE])
    assert asking.answer().verdicts[0].sufficient is False


def test_only_a_judge_that_waits_for_a_server_is_asked_early(tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    listens = {
        spec: StepJudge(make_judge(spec), 1.0, 0).listens
        for spec in ("oracle", "noisy:0.1:oracle", "claude", "panel:oracle,claude")
    }
    assert listens == {
        "oracle": False, "noisy:0.1:oracle": False, "claude": True, "panel:oracle,claude": True
    }  # fmt: skip
    with Journal(tmp_path / "verdicts.jsonl") as journal:
        assert StepJudge(JournaledJudge(WaitingJudge(), journal), 1.0, 0).listens
        assert not StepJudge(JournaledJudge(LateJudge(), journal), 1.0, 0).listens
    assert not StepJudge(None, 1.0, 0).listens


def test_early_verdicts_are_on_disk_and_asked_for_once(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    with Journal(path) as journal:
        judge = WaitingJudge()
        judged = hear_then_ask(JournaledJudge(judge, journal), [BEGUN], [TWO, ONE])
        assert [verdict.sufficient for verdict in judged.verdicts] == [True, False]
        assert len(judge.asked) == len(journal) == 2
    with Journal(path) as journal:
        again = WaitingJudge()
        judged = hear_then_ask(JournaledJudge(again, journal), [BEGUN, ONE], [TWO, ONE])
        assert again.asked == [] and judged.calls == 0


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


@pytest.mark.slow
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


def test_the_judge_gets_a_response_of_vllm_when_it_is_complete():
    heard = []

    class Engine:
        """Ends the last request first; the first request fails once."""

        def __init__(self):
            self.failed = False

        def generate(self, requests, sampling):
            for request in reversed(requests):
                if request.key == "a" and not self.failed:
                    self.failed = True
                    yield Completion(key="a", error="lost")
                    continue
                yield Completion(key=request.key, text=f"text of {request.key}")
                assert heard[-1][1] == f"text of {request.key}", "heard before the next one ends"

    made = object.__new__(VllmRollouts)
    made.PAUSE = 0.0
    made.sampler = SimpleNamespace(engine=Engine())
    requests = [SimpleNamespace(key=key) for key in "abc"]
    found = made._complete(requests, Sampling(), lambda row, text: heard.append((row, text)))
    assert [completion.text for completion in found] == [f"text of {key}" for key in "abc"]
    assert heard == [(2, "text of c"), (1, "text of b"), (0, "text of a")]
