"""Does a reward of its own for perception make observations and answers better than GRPO?

Both models start from the run's SFT model and see the same questions in the same order. In the view
`false_notes` the response begins with an observation that contradicts the video.
"""

from p2r.studies.base import GRPO, PA_GRPO, Study, View
from p2r.studies.framework.poses import FalseNote

STUDY = Study(
    "credit",
    arms=(GRPO, PA_GRPO),
    differences=(("pa_grpo", "grpo"),),
    views=("test", View("false_notes", pose=FalseNote())),
    show=("accuracy", "sufficiency", "format", "mismatch", "exact", "faithful", "follows note"),
    curves=("lost", "accuracy", "sufficiency", "faithful", "mismatch"),
    doc=__doc__,
)
