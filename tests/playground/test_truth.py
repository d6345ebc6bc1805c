"""Truth of observations: every sentence is true, false or unknown against the scene."""

import pytest

from p2r.judges import judge_key, make_judge
from p2r.judges.base import CLIP
from p2r.playground.language import Facts, tell
from p2r.playground.second.language import tell as tell_second
from p2r.playground.second.questions import KINDS
from p2r.playground.splits import make_question
from p2r.playground.truth import (
    METRICS,
    exact_match,
    missing_facts,
    scene_notes,
    sentence_truth,
    source_followed,
    truth_metrics,
    truth_summary,
    truth_tags,
)
from p2r.playground.world import sample_scene
from p2r.records import Case, Question, Trace, Verdict


def case_of(question, observation, answer, sufficient):
    trace = Trace(question_id=question.id, text="", observation=observation, answer=answer)
    return Case(question=question, trace=trace, verdict=Verdict(sufficient=sufficient))


def question_of(kind, split="train"):
    return next(q for i in range(10) if (q := make_question(split, i, 2)).meta["kind"] == kind)


def test_every_sentence_is_true_false_or_unknown_in_the_first_generation():
    question = make_question("train", 3)
    true = tell(Facts.of(sample_scene(question.meta["seed"])).objects[0])
    observation = (
        f"Based on the question, I need to notice the sign. {true} The sign says NOPE. It is fun"
    )
    assert sentence_truth(question, observation) == [
        (true, "true"),
        ("The sign says NOPE.", "false"),
        ("It is fun", "unknown"),
    ]
    assert sentence_truth(Question(id="1", problem="?", problem_type="OCR"), true) == []
    assert truth_metrics([question]) == () and truth_tags(case_of(question, true, "", True)) == []


@pytest.mark.parametrize("generation", [1, 2, "first"])
@pytest.mark.parametrize("source", ["playground", "kitchen"])
@pytest.mark.parametrize("scene", [{"room": "kitchen"}, {}, {"objects": [{"x": 1}]}])
def test_a_scene_of_others_or_a_damaged_one_is_unknown(generation, source, scene):
    question = make_question("train", 3)
    question.source, question.meta = source, {"scene": scene, "generation": generation}
    case = case_of(question, "A big red square moves right.", "A", True)
    assert {metric(case) for metric in METRICS.values()} == {None}
    assert sentence_truth(question, case.trace.observation) == missing_facts(question, "") == []
    assert truth_metrics([question]) == () and truth_tags(case) == []
    assert truth_summary([case])["true by part"] == {}


def test_a_scene_of_another_data_set_is_not_one_of_the_playground():
    question = make_question("train", 3, 2)
    case = case_of(question, missing_facts(question, "")[0], question.answer, True)
    assert {metric(case) for metric in METRICS.values()} == {1.0}
    question.source = "kitchen"
    assert {metric(case) for metric in METRICS.values()} == {None}


def test_every_sentence_is_true_false_or_unknown_in_the_second_generation():
    question = question_of("motion")
    (true,) = missing_facts(question, "")
    name, _, rest = true.partition(" is ")
    size, motion = rest.split(", ")[:2]
    other = "stays still" if motion != "stays still" else "moves up"
    observation = (
        f"Based on the question, I need to notice it. {true} {name} is {size}. {name} is there. "
        f"{name} is {size}, {other}. {name} cannot be seen. The teal moon is big. "
        "The teal moon cannot be seen. I like it."
    )
    truths = [truth for _, truth in sentence_truth(question, observation)]
    assert truths == ["true"] * 3 + ["false"] * 3 + ["true", "unknown"]
    assert missing_facts(question, f"{name} is {size}.") == [true]
    assert missing_facts(question, observation) == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_grounded_judge_refuses_false_sentences(kind):
    oracle, grounded = make_judge("oracle"), make_judge("grounded")
    question = question_of(kind)
    needed = " ".join(missing_facts(question, ""))
    false = f"{needed} The teal moon is big, moves up, no event."
    judged = [j.judge([question] * 3, [needed, false, "It is fun."]) for j in (oracle, grounded)]
    assert [[v.sufficient for v in verdicts] for verdicts in judged] == [
        [True, True, False],
        [True, False, False],
    ]
    bare = Question(id="1", problem=question.problem, problem_type="OCR", meta={"generation": 2})
    assert grounded.judge([bare], [needed])[0].sufficient is None


def test_equal_texts_about_two_clips_are_two_judgements():
    question = question_of("sign")
    other = question.model_copy(update={"meta": {**question.meta, CLIP: "another clip"}})
    plain = question.model_copy(update={"meta": {}})
    keys = {judge_key(each, "The sign says GO.") for each in (question, other, plain)}
    assert len(keys) == 3


def test_the_evidence_of_ambiguous_questions_cannot_be_seen():
    """The right answer is "cannot tell", and an observation must say why."""
    oracle, ways = make_judge("oracle"), set()
    for index in range(9):
        question = make_question("ambiguous", index, 2)
        way = question.meta["evidence"]
        ways.add(way)
        right = dict(option.split(". ") for option in question.options)[question.answer]
        assert len(question.options) == 4 and (right == "cannot tell") == (way != "answerable")
        if way in ("covered", "absent"):
            lost = [f"The {name} cannot be seen." for name in question.meta["needs"]]
            truths = [sentence_truth(question, sentence)[0][1] for sentence in lost]
            assert truths.count("true") == 1
            said = lost[truths.index("true")]
        elif way == "dark":
            said = tell_second(scene_notes(question).named(question.meta["needs"][0]))
            assert said.endswith("event unseen.")
        else:
            said = " ".join(missing_facts(question, ""))
        enough, lacking = oracle.judge([question] * 2, [said, "It is dark."])
        assert enough.sufficient is True and lacking.sufficient is False
    assert ways == {"answerable", "covered", "absent", "dark"}


def test_the_source_of_an_answer_is_the_note_the_video_or_neither():
    for index in range(20):
        question = make_question("false_notes", index, 2)
        note = question.meta["note"]
        assert [truth for _, truth in sentence_truth(question, note)].count("false") == 1
        letters = [option[0] for option in question.options]
        answers = letters or [str(n) for n in range(1, 4)]
        followed = [source_followed(question, note, answer) for answer in answers]
        assert source_followed(question, note, question.answer) == "video"
        if letters:
            assert sorted(followed) == ["neither", "neither", "note", "video"]
        assert source_followed(question, note, None) == "neither"


def test_numbers_of_cases():
    sign, motion = question_of("sign"), question_of("motion")
    needed = " ".join(missing_facts(sign, ""))
    cases = [
        case_of(sign, needed, sign.answer, True),
        case_of(sign, f"{needed} The teal moon is big.", "NOPE", True),
        case_of(motion, "No idea.", motion.answer, False),
        case_of(motion, None, None, False),
    ]
    values = {name: [metric(case) for case in cases] for name, metric in METRICS.items()}
    assert values == {
        "exact": [1.0, 0.0, 1.0, 0.0],
        "faithful": [1.0, 0.5, None, None],
        "sufficient and true": [1.0, 0.0, 0.0, 0.0],
    }
    assert truth_metrics([sign]) == tuple(METRICS)
    assert [truth_tags(case) for case in cases] == [[], ["false sentence"], [], []]
    summary = truth_summary(cases)
    assert (summary["exact given sufficient"], summary["exact given insufficient"]) == (0.5, 0.5)
    assert summary["gap"] == 0.0 and summary["sentences told"] == 0.75
    assert summary["true by part"] == {
        "sign": {"true": 1.0, "n": 2},
        "name": {"true": 0.0, "n": 1},
    }


@pytest.mark.parametrize(
    ("kind", "answer", "is_right"),
    [("when", "2 s", True), ("mover colour", " Red. ", True), ("mover colour", "dark red", False)],
)
def test_an_exact_match_gives_no_credit_for_a_part(kind, answer, is_right):
    right = {"when": "2", "mover colour": "red"}[kind]
    question = question_of(kind).model_copy(update={"answer": right})
    assert exact_match(question, answer) is is_right
    assert not exact_match(question, None)
