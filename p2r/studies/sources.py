"""Which source does the answer follow, the observation or the video, while RL trains?

In the view `false_notes` the response begins with an observation that contradicts the video. An
answer follows the note, the video or neither. Each model is asked at the start of RL, after a
third, after two thirds and at the end.

Run it with `--set rl.steps=60`, because the recipe `tiny` has 50 steps. For another number of
steps, copy this file.
"""

from p2r.studies.base import GRPO, PA_GRPO, SFT, Arm, Study, View, at_step
from p2r.studies.framework.poses import FalseNote

STEPS = (20, 40, 60)
GROUNDED = Arm("grounded", ("rl.judge=grounded",), label="PA-GRPO, grounded")

STUDY = Study(
    "sources",
    arms=(
        SFT,
        *(at_step(arm, step, STEPS[0]) for arm in (GRPO, PA_GRPO, GROUNDED) for step in STEPS),
    ),
    differences=(
        *((f"{arm}_60", "sft") for arm in ("grpo", "pa_grpo", "grounded")),
        ("pa_grpo_60", "grpo_60"),
        ("grounded_60", "pa_grpo_60"),
    ),
    views=("test", View("false_notes", pose=FalseNote())),
    show=("follows note", "follows video", "accuracy", "sufficiency", "faithful"),
    doc=__doc__,
)
