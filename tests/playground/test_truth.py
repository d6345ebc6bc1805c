"""Truth of observations: every sentence is true, false or unknown against the scene."""

from p2r.playground.language import Facts, tell
from p2r.playground.splits import make_question
from p2r.playground.truth import sentence_truth
from p2r.playground.world import sample_scene
from p2r.records import Question


def test_every_sentence_of_an_observation_is_true_false_or_unknown():
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
