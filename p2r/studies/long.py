"""Do models keep accuracy on clips that are eight times as long, and what does it cost?

A long clip has eight scenes, one after the other (32 s). A model sees 8 to 64 frames of it, or
observes eight windows of 8 frames each and then answers from all observations, without the video
(`windowed`). The time of `windowed` includes all eight observations. `prompt tokens` grow with the
number of frames, but not with the number of windows.

Says: no way to show a long clip gives good answers. With 8 to 64 frames, 15 to 43 % of the answers
are right; a guess would be right in about 22 %. The models were trained on clips of one scene. Of
the sentences about 64 frames, 6 to 9 % are true. In windows, 61 to 78 % of the sentences are true,
because a window is as long as a training clip. But 6 % of the answers of PA-GRPO and GRPO are right
then, and 12 % of SFT's: the collected notes have 9 to 20 sentences, and the thinking, which has
learned from three to five, copies the wrong ones. So long clips fail in the reasoning, too.
Compared with 8 frames, 64 frames take three to four times the time and energy, and 600 MiB more
memory. `windowed` takes twice the time of 64 frames and 350 MiB less memory.

Does not say: whether RL helps on long clips. There are 40 questions, so the intervals are wide. One
difference of frames is certain, PA-GRPO with 16 frames against 8 (12 points [1, 25]); with so many
differences, this can be chance. Nor does it say how a model answers that was trained on long notes.

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
