"""Which source does the answer follow, the observation or the video, while RL trains?

In the view `false_notes` the response begins with an observation that contradicts the video. An
answer follows the note, the video or neither. Each model is asked before RL and after 10, 30 and 50
steps.

The run needs `rl.steps=50`, as in the recipe `tiny`. For another number of steps, copy this file.
"""

from p2r.studies.base import GRPO, PA_GRPO, SFT, Arm, Study, View, at_step
from p2r.studies.framework.poses import FalseNote

STEPS = (10, 30, 50)
GROUNDED = Arm("grounded", ("rl.judge=grounded",), label="PA-GRPO, grounded")

STUDY = Study(
    "sources",
    arms=(
        SFT,
        *(at_step(arm, step, STEPS[0]) for arm in (GRPO, PA_GRPO, GROUNDED) for step in STEPS),
    ),
    differences=(
        *((f"{arm}_50", "sft") for arm in ("grpo", "pa_grpo", "grounded")),
        ("pa_grpo_50", "grpo_50"),
        ("grounded_50", "pa_grpo_50"),
    ),
    views=("test", View("false_notes", pose=FalseNote())),
    show=("follows note", "follows video", "accuracy", "sufficiency", "faithful"),
    doc=__doc__,
)
