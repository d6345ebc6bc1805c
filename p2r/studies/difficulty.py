"""On which questions does PA-GRPO help (Table 7)?

Questions are divided by their kind, by the number of sentences that an answer needs, and by the
number of objects in the scene. The paper divides by the length of the video and by the kind of
knowledge.

Says: PA-GRPO and GRPO help most on hard questions. If an answer needs two sentences, PA-GRPO is
right 30 points more often than SFT; if it needs one, 10 points. `compare` (two objects) gains 38
points, and `mover colour`, `chain` and `sign` 21 to 24. `when`, `event` and `motion` gain nothing
for certain, and `motion` loses 8 points: with every seed, fewer of its answers are right. With four
and with five objects the gain is about the same. The interval of PA-GRPO − GRPO includes 0 in every
part.

Does not say: why `motion` loses. Each kind has only 33 or 34 questions, so its intervals are wide.
With so many parts, one difference in twenty is clear only by chance.
"""

from p2r.records import Question
from p2r.studies.base import GRPO, PA_GRPO, SFT, Study


def kind(question: Question) -> str:
    """Return the kind of a question: in the first world, its problem type."""
    return question.meta.get("kind", question.problem_type)


def needed(question: Question) -> str | None:
    """Return how many sentences an answer needs."""
    return str(len(question.meta["needs"])) if "needs" in question.meta else None


def objects(question: Question) -> str | None:
    """Return how many objects the scene has."""
    found = question.meta.get("scene", {}).get("objects")
    return None if found is None else str(len(found))


STUDY = Study(
    "difficulty",
    arms=(SFT, GRPO, PA_GRPO),
    differences=(("pa_grpo", "sft"), ("pa_grpo", "grpo")),
    by={"kind": kind, "needed sentences": needed, "objects": objects},
    show=("accuracy", "exact", "sufficiency"),
    doc=__doc__,
)
