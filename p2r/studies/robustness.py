"""What do hidden, blurred, noisy, lost or mixed frames do to observations, verdicts and answers?

The frames are changed in the evaluation only (`video.eval_change`). A judge that reads text cannot
see that a frame is hidden. If `sufficiency` stays the same and `faithful` falls, the perception
reward pays for sentences that the video does not show. A grounded judge pays only for observations
that are `sufficient and true`.

Says: The text judge accepts observations that the frames do not support. With frames blurred by two
pixels, 53 % of PA-GRPO's observations are sufficient, but only 6 % are sufficient and true. On
clean frames, these shares are 74 and 35 %. Mixed frames, strong noise and the loss of half of the
frames cost the most right answers. Under weak occlusion, blur, noise and the loss of a quarter of
the frames, PA-GRPO is right 9 to 17 points more often than SFT. Under strong noise,
it is 15 points; with mixed frames and the loss of half of the frames, 6 or 7. Under strong
occlusion, the interval includes 0. Under strong noise, PA-GRPO is right more often than GRPO with
every seed. Under the other changes, the intervals of this difference include 0. Under noise, lost
and mixed frames, PA-GRPO has 2 to 5 points more observations that are sufficient and true than
GRPO.

Does not say: what training with changed frames would give. The changes are simple: real damage, for
example of compression or of a moving camera, looks different. With nine changes, one difference may
be clear only by chance.
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
