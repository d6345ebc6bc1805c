"""How the judges' tests ask: by the public way, one question, a key that must not show."""

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
    """A judge; a test of time limits gives its own: on a busy machine a short one runs out."""
    limits = {"timeout": 30.0, "call_limit": 60.0, "retries": 3} | settings
    return make_judge(spec, JudgingSettings(**limits), run=run)


def judge_all(judge, observations, question=QUESTION):
    return judge.judge([question] * len(observations), observations)
