"""On which questions does PA-GRPO help (Table 7)?

Questions are divided by their kind, by the number of sentences that an answer needs, and by the
number of objects in the scene. The paper divides by the length of the video and by the kind of
knowledge.
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
