"""Do models say "cannot tell" if the video does not show what the question needs?

In the split `ambiguous`, the evidence is visible (`answerable`), covered, absent or in the dark.
Four ways to train are compared: GRPO, PA-GRPO, PA-GRPO with the grounded judge, and PA-GRPO whose
training questions include 200 ambiguous ones, of which RL draws about 80 of its 400.

Says: All arms abstain rightly about equally often: the intervals of all differences include 0. But
GRPO and PA-GRPO write fewer true sentences than SFT on ambiguous clips: 66 instead of 87 %. This is
also so where the evidence is visible. PA-GRPO with the grounded judge writes 81 % true sentences.
With this judge, more observations are sufficient and true than with the text judge, on both splits.
The price is 8 points of right answers on the test split. In the dark (10 questions), SFT says
"cannot tell" to all questions, PA-GRPO to 64 %, and PA-GRPO with the grounded judge to 94 %.
About 80 ambiguous questions in the training have no certain effect on abstention or right answers.

Does not say: how a judge that sees frames compares. The grounded judge knows the scene, so it makes
no mistakes. With 90 ambiguous questions, differences of less than ten points cannot be seen; in the
dark, those of less than thirty.
"""

from p2r.records import Case, Question
from p2r.studies.base import GRPO, PA_GRPO, SFT, Arm, Measure, Study
from p2r.studies.framework.examples import Mixed
from p2r.studies.framework.measures import says_cannot_tell


def abstains_rightly(case: Case) -> float | None:
    """Return 1 if the model abstains from exactly the questions without evidence."""
    said, evidence = says_cannot_tell(case), case.question.meta.get("evidence")
    return None if said is None or evidence is None else float(said == (evidence != "answerable"))


def evidence(question: Question) -> str | None:
    """Return how the evidence is hidden."""
    return question.meta.get("evidence")


STUDY = Study(
    "evidence",
    arms=(
        SFT,
        GRPO,
        PA_GRPO,
        Arm("grounded", ("rl.judge=grounded",), label="PA-GRPO, grounded"),
        Arm("mixed", label="PA-GRPO, ambiguous too", questions=Mixed("ambiguous", 200), world=2),
    ),
    differences=(
        ("pa_grpo", "grpo"),
        ("pa_grpo", "sft"),
        ("grounded", "pa_grpo"),
        ("mixed", "pa_grpo"),
    ),
    views=("ambiguous", "test"),
    show=("abstains rightly", "cannot tell", "accuracy", "faithful", "sufficient and true"),
    metrics={"abstains rightly": Measure(abstains_rightly)},
    by={"evidence": evidence},
    doc=__doc__,
)
