"""`p2r.formats.tell_apart`: which questions are the same, and ids that stay unique."""

from p2r.formats import tell_apart
from p2r.records import Question


def ask(identity: str, problem: str, **fields) -> Question:
    return Question(id=identity, problem=problem, problem_type="free-form", path="a.mp4", **fields)


def apart(questions: list[Question]) -> tuple[list[Question], list[Question]]:
    repeats: list[Question] = []
    return list(tell_apart(questions, repeats.append)), repeats


def test_the_same_id_with_another_question_is_another_question():
    same = [ask("76.0", text) for text in ("How many?", "Is there a man?", "Where?")]
    found, repeats = apart(same)
    assert [question.problem for question in found] == [question.problem for question in same]
    assert not repeats
    assert found[0].id == "76.0"
    assert len({question.id for question in found}) == 3
    assert all(question.id.startswith("76.0~") for question in found[1:])


def test_other_options_media_or_bounds_make_another_question():
    questions = [
        ask("1", "Which?"),
        ask("1", "Which?", options=["A. x"]),
        ask("1", "Which?").model_copy(update={"path": "b.mp4"}),
        ask("1", "Which?", meta={"_window": {"start": 1.0, "end": 2.0}}),
    ]
    found, repeats = apart(questions)
    assert (len(found), len(repeats)) == (4, 0)


def test_only_a_true_repeat_is_a_repeat():
    questions = [ask("1", "Which?"), ask("1", "Where?"), ask("1", "Which?"), ask("1", "Where?")]
    found, repeats = apart(questions)
    assert [question.problem for question in found] == ["Which?", "Where?"]
    assert repeats == found


def test_ids_stay_the_same_if_the_file_grows():
    questions = [ask("1", text) for text in "abcd"]
    ids = [question.id for question in apart(questions)[0]]
    assert [question.id for question in apart([*questions, ask("1", "e")])[0]][:4] == ids
    assert [question.id for question in apart([questions[0], questions[3]])[0]] == [ids[0], ids[3]]
