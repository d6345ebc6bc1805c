"""The judge inside the training loop: each observation once, retries, a time limit, the cost."""

import asyncio
import math
import threading
import time

import pytest
from small_rl import FULL, RuleJudge, scripted
from waiting_judges import LateJudge, WaitingJudge

from p2r.errors import JudgeError
from p2r.files.journal import Journal
from p2r.judges import BaseJudge, JournaledJudge, make_judge
from p2r.judges.kinds.panel import PanelJudge
from p2r.records import Question, Verdict
from p2r.template import render
from p2r.training import step_judge
from p2r.training.step_judge import StepJudge
from p2r.training.step_metrics import rollout_metrics

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]
QUESTION = Question(id="q", problem="How many?", problem_type="numerical", answer="2")
OTHER = QUESTION.model_copy(update={"id": "p", "answer": "3"})
TWO, ONE, FOG = (render(f"I see {what}.", "So.", "2") for what in ("two", "one", "fog"))
BEGUN = TWO[: TWO.index("<think>")]


class PricedJudge(RuleJudge):
    """Each verdict costs a cent."""

    name = "priced"

    def judge(self, questions, observations):
        return [
            verdict.model_copy(update={"cost": 0.01, "usage": {"tokens": 5}})
            for verdict in super().judge(questions, observations)
        ]


class FailingJudge(RuleJudge):
    """Has no connection in the first `times` calls."""

    def __init__(self, times: int):
        super().__init__()
        self.times = times

    def judge(self, questions, observations):
        if self.times:
            self.times -= 1
            raise ConnectionRefusedError("nobody is there")
        return super().judge(questions, observations)


def answers(judge, questions, texts, timeout=60.0, retries=1):
    asking = StepJudge(judge, timeout, retries)
    asking.ask(questions, texts)
    return asking.answer()


def test_identical_question_answer_and_observation_are_judged_once():
    judge = PricedJudge()
    twin = QUESTION.model_copy(update={"id": "q2"})  # another id, the same question
    judged = answers(judge, [QUESTION, QUESTION, twin, OTHER, QUESTION], [TWO, TWO, TWO, TWO, ONE])
    assert judge.asked == ["I see two.", "I see two.", "I see one."]
    assert judged.calls == 3
    assert [verdict.sufficient for verdict in judged.verdicts] == [True] * 4 + [False]
    assert [verdict.cost for verdict in judged.verdicts] == [0.01, 0, 0, 0.01, 0.01]


def test_a_verdict_of_an_earlier_step_is_not_paid_again(tmp_path):
    with Journal(tmp_path / "verdicts.jsonl") as journal:
        judge = JournaledJudge(PricedJudge(), journal)
        assert answers(judge, [QUESTION] * 2, [TWO, ONE]).calls == 2
        assert answers(judge, [QUESTION] * 2, [TWO, FOG]).calls == 1


def test_only_failed_observations_are_asked_again():
    judge = RuleJudge()
    judged = answers(judge, [QUESTION] * 2, [TWO, FOG], retries=2)
    assert judge.asked == ["I see two.", *["I see fog."] * 3] and judged.calls == 4
    assert [verdict.sufficient for verdict in judged.verdicts] == [True, None]
    judge = PricedJudge()  # an answer that was paid for is an answer, readable or not
    assert answers(judge, [QUESTION], [FOG], retries=2).calls == 1


def test_a_judge_that_comes_back_is_asked_again(monkeypatch):
    monkeypatch.setattr(StepJudge, "PAUSE", 0.0)
    judged = answers(FailingJudge(times=2), [QUESTION], [TWO], retries=2)
    assert judged.verdicts[0].sufficient is True
    judged = answers(FailingJudge(times=2), [QUESTION], [TWO], retries=1)
    assert judged.verdicts[0].sufficient is None
    assert judged.verdicts[0].rationale == "ConnectionRefusedError: nobody is there"


def test_a_judge_that_hangs_costs_the_time_limit_and_gets_no_second_call():
    free, begun = threading.Event(), []

    class Hanging(RuleJudge):
        def judge(self, questions, observations):
            begun.append(observations)
            free.wait(60)
            return super().judge(questions, observations)

    asking = StepJudge(Hanging(), timeout=0.2, retries=0)
    for _ in range(3):
        asking.ask([QUESTION, QUESTION], [TWO, "2"])
        judged = asking.answer()
        assert [verdict.sufficient for verdict in judged.verdicts] == [None, False]
        assert judged.verdicts[0].rationale == "no verdict within 0.2 s"
    assert len(begun) == 1
    free.set()
    asking.timeout = 60
    asking.ask([QUESTION, QUESTION], [TWO, "2"])
    assert [verdict.sufficient for verdict in asking.answer().verdicts] == [True, False]


def test_other_errors_of_a_judge_are_errors():
    class Broken:
        def judge(self, questions, observations):
            raise ValueError("a judge that is wrong")

    with pytest.raises(ValueError, match="a judge that is wrong"):
        answers(Broken(), [QUESTION], [TWO])


# -------------------------------------------------------------- asked while the rest is sampled


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
    judged = hear_then_ask(judge, [BEGUN], [TWO], retries=1)
    assert judged.verdicts[0].sufficient is True
    assert judge.asked == ["I see two."] * 2 and judged.calls == 2
    judge = WaitingJudge(failures=[failure])
    judged = hear_then_ask(judge, [BEGUN], [TWO, ONE], retries=0)
    assert [verdict.sufficient for verdict in judged.verdicts] == [None, False]
    assert sorted(judge.asked) == ["I see one.", "I see two."]


def test_other_errors_of_an_early_call_are_errors_of_the_step():
    judge = WaitingJudge(failures=[JudgeError("the budget is spent")])
    with pytest.raises(JudgeError, match="the budget is spent"):
        hear_then_ask(judge, [BEGUN], [TWO])


def test_the_other_early_calls_end_before_an_error_is_raised():
    ended = []

    class Spent(BaseJudge):
        name = "spent"

        async def ask(self, question, observation):
            if "two" in observation:
                raise JudgeError("the budget is spent")
            await asyncio.sleep(0.3)
            ended.append(observation)
            return Verdict(sufficient=True)

    with pytest.raises(JudgeError, match="the budget is spent"):
        hear_then_ask(Spent(), [TWO, ONE], [TWO, ONE])
    assert ended == ["I see one."]


def test_an_observation_that_two_workers_have_heard_has_one_verdict_and_both_costs(monkeypatch):
    """The other worker was faster, or its call failed: this worker keeps its own cost."""
    for theirs in (Verdict(sufficient=False, cost=0.02), Verdict(sufficient=None)):
        monkeypatch.setattr(step_judge, "gather_object", lambda mine, t=theirs: _both(t, mine))
        judged = hear_then_ask(WaitingJudge(), [BEGUN], [TWO, TWO])
        expected = theirs.sufficient is None  # the verdict of this worker is "sufficient"
        assert [verdict.sufficient for verdict in judged.verdicts] == [expected] * 2
        assert [verdict.cost for verdict in judged.verdicts] == [0.01, 0]


def _both(theirs, mine):
    """Stand in for `gather_object`: the other worker, which comes first, has the same keys."""
    (part,) = mine
    return [dict.fromkeys(part, theirs) if isinstance(part, dict) else part, part]


def test_an_early_call_that_hangs_costs_the_time_limit_and_gets_no_second_call():
    judge = WaitingJudge(seconds=2.0)
    asking = StepJudge(judge, timeout=0.1, retries=3)
    asking.hear(QUESTION, BEGUN)
    asking.ask([QUESTION], [TWO])
    assert asking.answer().verdicts[0].rationale == "no verdict within 0.1 s"
    asking.hear(QUESTION, ONE)
    assert judge.asked == ["I see two."]
    end = time.monotonic() + 30
    while asking._turn.hangs and time.monotonic() < end:
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
    assert not StepJudge(PanelJudge([LateJudge(), make_judge("oracle")]), 1.0, 0).listens
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


def test_a_step_continues_without_the_verdicts_of_a_judge_that_hangs(
    model_folder, media, questions, tmp_path
):
    free = threading.Event()

    class Hanging(RuleJudge):
        def judge(self, questions, observations):
            free.wait(60)
            return super().judge(questions, observations)

    trainer, _, cases = scripted(
        model_folder, media, questions, tmp_path, [TWO, ONE, TWO, render("I see.", "So.", "3")],
        "rl.judge_timeout=0.2", "rl.max_unknown=1", judge=Hanging(),
    )  # fmt: skip
    free.set()
    assert [case.perception.total for case in cases] == [None] * 4
    assert [case.perception_advantage for case in cases] == [0] * 4
    assert [case.reasoning_advantage > 0 for case in cases] == [True, True, True, False]
    assert trainer._metrics["train"]["judge/unknown"] == [1]


def test_a_step_counts_calls_cost_and_mismatches(model_folder, media, questions, tmp_path):
    asked = questions[0].model_copy(
        update={"problem_type": "multiple choice", "options": ["A. 1", "B. 2"], "answer": "B"}
    )
    said = [
        render("I see two.", "So the answer is B.", "B"),
        render("I see two.", "So the answer is A.", "B"),  # thinking and answer differ
        render("I see one.", "Who knows.", "A"),  # the rule finds no conclusion
        "nothing",
    ]
    trainer, _, cases = scripted(model_folder, media, [asked], tmp_path, said, judge=PricedJudge())
    found = trainer._metrics["train"]
    assert found["judge/calls"] == [2] and found["judge/cost"] == [pytest.approx(0.02)]
    assert found["mismatch"] == [0.5]
    assert math.isnan(rollout_metrics(cases[3:], [[0.0, 0.0]], 1)["mismatch"])


def test_a_rollout_keeps_the_rationale_of_the_judge(model_folder, media, questions, tmp_path):
    class Explaining:
        def judge(self, questions, observations):
            return [Verdict(sufficient=True, rationale="it counts them")] * len(observations)

    _, _, cases = scripted(
        model_folder, media, questions, tmp_path, [FULL, "2"], judge=Explaining()
    )
    assert [case.verdict.rationale for case in cases] == [
        "it counts them",
        "no readable observation",
    ]
