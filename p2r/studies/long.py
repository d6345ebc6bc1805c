"""Do models keep accuracy on clips that are eight times as long, and what does it cost?

A long clip has eight scenes, one after the other (32 s). A model sees 8 to 64 frames of it, or
observes eight windows of 8 frames each and then answers from all observations, without the video
(`windowed`). The time of `windowed` includes all eight observations. `prompt tokens` grow with the
number of frames, but not with the number of windows.

Missing: streaming before the question is known. `windowed` is streaming for a known question: it
sees one window at a time, forgets its frames, and has no frame budget.
"""

from p2r.studies.base import GRPO, PA_GRPO, SFT, Study, View
from p2r.studies.framework.poses import FromWindows, Windows

FRAMES = (8, 16, 32, 64)

STUDY = Study(
    "long",
    arms=(SFT, GRPO, PA_GRPO),
    differences=(("pa_grpo", "grpo"), ("pa_grpo", "sft")),
    views=(
        *(View(f"{n} frames", "long", (f"video.eval_frames={n}",)) for n in FRAMES),
        View("8 frames, adaptive", "long", ("video.sampling=adaptive",)),
        View("windows", "long", pose=Windows(8, 4.0), hidden=True),
        View("windowed", "long", pose=FromWindows()),
        "test",
    ),
    view_differences=(
        *((f"{n} frames", "8 frames") for n in FRAMES[1:]),
        ("8 frames, adaptive", "8 frames"),
        ("windowed", "64 frames"),
    ),
    show=("accuracy", "exact", "sufficiency", "faithful", "prompt tokens"),
    timed=True,
    doc=__doc__,
)
