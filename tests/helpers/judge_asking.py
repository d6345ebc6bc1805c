"""A question, a secret key, and calls of judges by the public interface, for tests."""

from p2r.judges import make_judge
from p2r.records import Question
from p2r.runs.recipe import JudgingSettings

KEY = "sk-never-to-be-seen"
QUESTION = Question(
    id="q1",
    problem="What colour is the ball?",
    options=["A. red", "B. blue"],
    problem_type="multiple choice",
    answer="A",
)


def claude(run="", spec="claude:claude-haiku-4-5", **settings):
    """Make a judge with long time limits, so that tests pass on a busy machine."""
    limits = {"timeout": 30.0, "call_limit": 60.0, "retries": 3} | settings
    return make_judge(spec, JudgingSettings(**limits), run=run)


def judge_all(judge, observations, question=QUESTION):
    return judge.judge([question] * len(observations), observations)
