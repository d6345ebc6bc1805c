"""Poses, extra examples, the learned judge and further metrics, on questions of the playground."""

from __future__ import annotations

import pytest
from filelock import FileLock, Timeout

from p2r.errors import UserError
from p2r.files.jsonlines import to_line
from p2r.judges import make_judge
from p2r.playground import splits
from p2r.playground.oracle import OracleJudge
from p2r.playground.splits import make_question
from p2r.playground.truth import missing_facts, split_sentences
from p2r.records import Case, Question, Trace, Verdict
from p2r.rewards import Rollout, process_reward
from p2r.runs import open_run
from p2r.studies.evidence import abstains_rightly
from p2r.studies.framework import examples, learned_judge
from p2r.studies.framework.examples import Generated, Kept, Mixed, Shots
from p2r.studies.framework.measures import MEASURES, agrees_with_oracle
from p2r.studies.framework.poses import FalseNote, FromWindows, Given, Windows
from p2r.studies.length import reward_by_need
from p2r.template import parse, render


def respond(question: Question, text: str, sufficient: bool | None = True) -> Case:
    trace = Trace(question_id=question.id, text=text, **parse(text).fields)
    return Case(question=question, trace=trace, verdict=Verdict(sufficient=sufficient))


def no_answers(view: str, arm: str | None = None) -> list[Case]:
    raise AssertionError("this pose reads no answers")


# ---- poses


def test_a_false_note_begins_the_response_and_shows_which_source_is_followed():
    question = make_question("false_notes", 3, 2)
    (posed,) = FalseNote()([question], no_answers)
    assert posed.begin.startswith("<observation>Based on the question, I need to notice")
    assert posed.begin.endswith(f"{question.meta['note']}</observation>")
    right = respond(posed, f"{posed.begin} <think>So.</think><answer>{question.answer}</answer>")
    assert MEASURES["follows video"].of(right) == 1 and MEASURES["follows note"].of(right) == 0
    assert MEASURES["follows note"].of(respond(make_question("test", 0, 2), "x")) is None


def test_a_reader_gets_notes_in_front_of_the_question_with_or_without_the_video():
    asked = [make_question("test", index, 2) for index in range(2)]
    told = " ".join(missing_facts(asked[0], ""))
    text = render(f"Based on the question, I need to notice this. {told}", "So.", "x")
    cases = [respond(asked[0], text), respond(asked[1], "no observation")]

    def answers(view: str, arm: str | None = None) -> list[Case]:
        assert (view, arm) == ("test", "grpo")
        return cases

    (read,) = Given("text + observation", "grpo")(asked, answers)
    assert read.problem == f"{told} {asked[0].problem}" and read.media == []
    (seen,) = Given("video", "grpo")(asked, answers)  # the same questions, without notes
    assert seen.problem == asked[0].problem and seen.path
    assert Given("text", "grpo").needs == (("test", "grpo"),)


def test_windows_are_asked_one_by_one_and_their_observations_are_joined():
    question = make_question("long", 0, 2)
    windows = Windows(8, 4.0)([question], no_answers)
    assert [window.window["start"] for window in windows] == [4.0 * place for place in range(8)]
    assert len({window.id for window in windows}) == 8
    chapter = question.meta["chapter"]
    told = " ".join(missing_facts(question, ""))
    name = " ".join(told.split()[1:3])
    unseen = f"The {name} cannot be seen."
    said = {place: told if place == chapter else unseen for place in range(8)}
    cases = [
        respond(window, render(f"Based on the question, I need to notice this. {text}", "So.", "x"))
        for window, text in zip(windows, said.values(), strict=True)
    ]
    (final,) = FromWindows()([question], lambda view, arm=None: cases)
    assert final.media == [] and told in final.begin and unseen not in final.begin
    lost = [respond(window, "nothing") for window in windows]
    with pytest.raises(UserError, match="no response about a window"):
        FromWindows()([question], lambda view, arm=None: lost)


# ---- examples


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of the second world with kept and dropped traces, and videos without content."""
    monkeypatch.setattr(splits, "write_video", lambda path, frames, fps: path.write_bytes(b"mp4"))
    monkeypatch.setattr(splits, "_render", lambda question: None)
    opened = open_run(tmp_path / "run", "tiny1", ["playground.generation=2"])
    traces = []
    for index in range(8):
        question = make_question("train", index, 2)
        case = respond(question, render("I see.", "So.", "x"), sufficient=index % 2 == 0)
        case.accuracy = float(index < 6)
        if index == 7:  # the filter asks no judge about a wrong answer
            told = " ".join(missing_facts(question, ""))
            case = respond(question, render(f"I see. {told}", "So.", "x")).model_copy(
                update={"accuracy": 0.0, "verdict": None}
            )
        traces.append(case)
    kept = [case for case in traces[:6] if case.verdict.sufficient]
    for file, cases in (("cases/cot.jsonl", traces), ("sft.jsonl", kept)):
        lines = "".join(to_line(case.model_dump(mode="json")) for case in cases)
        opened.path(*file.split("/")).write_text(lines)
    questions = "".join(to_line(case.question.model_dump(mode="json")) for case in traces)
    opened.path("data", "train.jsonl").write_text(questions)
    return opened


def test_an_arm_can_learn_other_traces(run):
    assert len(Kept(0.34)(run, run.recipe)) == 1 and len(Kept(1.0)(run, run.recipe)) == 3
    every = Generated()(run, run.recipe)
    assert len(every) == 3  # as many as the filter kept
    for case in Generated(right=True)(run, run.recipe):
        assert case.accuracy == 1
    found = {case.question.id for case in Generated(sufficient=True)(run, run.recipe)}
    several = [run.recipe.model_copy(update={"seed": seed}) for seed in range(8)]
    for recipe in several:
        found |= {case.question.id for case in Generated(sufficient=True)(run, recipe)}
    assert found == {f"train-{index:05d}" for index in (0, 2, 4, 6, 7)}
    other = run.recipe.model_copy(update={"seed": 5})
    assert Generated()(run, run.recipe) == every
    assert {c.question.id for c in Generated()(run, other)} != {c.question.id for c in every}


def test_shots_are_new_questions_with_ideal_traces(run, monkeypatch):
    shots = Shots("new_domain", 4)(run, run.recipe)
    judge = OracleJudge()
    for case in shots:
        assert parse(case.trace.text).ok and case.trace.answer == case.question.answer
        assert judge.judge([case.question], [case.trace.observation])[0].sufficient
        assert MEASURES["faithful"].of(case) == 1
        assert (run.folder / "data" / case.question.path).is_file()
        assert int(case.question.id.rpartition("-")[2]) >= 500_000
    assert Shots("new_domain", 4)(run, run.recipe) == shots
    write = examples.write_split

    def write_alone(*given, **more):
        """Check that no other worker can replace the file before it is read."""
        with pytest.raises(Timeout):
            FileLock(run.folder / "data" / ".new_domain_shots.lock").acquire(blocking=False)
        return write(*given, **more)

    monkeypatch.setattr(examples, "write_split", write_alone)
    assert len(Shots("new_domain", 2)(run, run.recipe)) == 2
    monkeypatch.undo()
    mixed = Mixed("ambiguous", 2)(run, run.recipe)
    assert len(mixed) == 10 and sum("evidence" in q.meta for q in mixed) == 2


# ---- metrics, reward, judge


def test_abstaining_is_right_if_there_is_no_evidence():
    found = {}
    for index in range(6):
        question = make_question("ambiguous", index, 2)
        letter = next(option[0] for option in question.options if option.endswith("cannot tell"))
        case = respond(question, render("I see.", "So.", letter))
        assert MEASURES["cannot tell"].of(case) == 1
        found[question.meta["evidence"]] = abstains_rightly(case)
    assert found.pop("answerable") == 0 and set(found.values()) == {1}
    assert abstains_rightly(respond(make_question("test", 0, 2), "x")) is None


def test_the_dynamic_length_reward_depends_on_the_needed_sentences():
    def bonus(needs: int, tokens: int, accuracy: float = 1.0) -> float:
        question = Question(id="q", problem="?", problem_type="OCR", meta={"needs": ["a"] * needs})
        trace = Trace(question_id="q", text="", perception_tokens=tokens)
        parts = (
            process_reward(accuracy, True, tokens, (0, 999)),
            process_reward(1.0, True, 9, (0, 9)),
        )
        looked, reasoned = reward_by_need(Rollout(question, trace, 1.0, None, *parts))
        assert reasoned == parts[1] and looked.accuracy == accuracy
        return looked.length

    assert [bonus(1, tokens) for tokens in (29, 30, 50, 51)] == [0, 0.2, 0.2, 0]
    assert [bonus(2, tokens) for tokens in (39, 40, 80, 81)] == [0, 0.2, 0.2, 0]
    assert bonus(1, 40, accuracy=0.0) == 0


@pytest.mark.slow
def test_the_learned_judge_agrees_with_the_oracle_more_often_than_chance(monkeypatch):
    monkeypatch.setattr(learned_judge, "EXAMPLES", 300)
    monkeypatch.setattr(learned_judge, "STEPS", 200)
    learned_judge.learn.cache_clear()
    judge = make_judge("p2r.studies.framework.learned_judge:LearnedJudge")
    held_out = list(learned_judge.made_up(2, range(80_000_000, 80_000_100)))
    verdicts = judge.judge([q for q, _ in held_out], [o for _, o in held_out])
    wanted = [learned_judge.oracle_says(*pair) for pair in held_out]
    right = [v.sufficient == w for v, w in zip(verdicts, wanted, strict=True)]
    assert sum(right) / len(right) > 0.8 > max(sum(wanted), 100 - sum(wanted)) / 100
    learned_judge.learn.cache_clear()
    question, observation = held_out[0]
    case = respond(question, render(observation, "So.", "x"), sufficient=wanted[0])
    assert agrees_with_oracle(case) == 1
    assert split_sentences(observation)
