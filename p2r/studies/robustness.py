"""What do hidden, blurred, noisy, lost or mixed frames do to observations, verdicts and answers?

The frames are changed in the evaluation only (`video.eval_change`). A judge that reads text cannot
see that a frame is hidden. Where `sufficiency` stays and `faithful` falls, the perception reward
pays for sentences that the video does not show. A grounded judge asks for `sufficient and true`.
"""

from p2r.studies.base import GRPO, PA_GRPO, SFT, Study, View

CHANGES = (
    *("occlude:0.1", "occlude:0.3", "blur:1", "blur:2", "noise:0.1", "noise:0.3"),
    *("drop:0.25", "drop:0.5", "shuffle"),
)

STUDY = Study(
    "robustness",
    arms=(SFT, GRPO, PA_GRPO),
    differences=(("pa_grpo", "grpo"), ("pa_grpo", "sft")),
    views=(
        View("clean", "test"),
        *(View(change, "test", (f"video.eval_change={change}",)) for change in CHANGES),
    ),
    view_differences=tuple((change, "clean") for change in CHANGES),
    show=("accuracy", "sufficiency", "faithful", "sufficient and true", "format"),
    doc=__doc__,
)
