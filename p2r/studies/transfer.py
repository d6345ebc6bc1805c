"""How well does a model answer from the observations of another one (Fig. 4, Table 5)?

The SFT model reads the question alone, or with an observation of its own, of GRPO or of PA-GRPO;
each with and without the video. In the playground the observation is text in front of the question,
as in pre-training. Questions without a readable observation are left out.

Says: RL improves the observations more than the use of them. From the question and PA-GRPO's
observation alone, the SFT model answers as well as PA-GRPO does with the video. From its own
observation, it is right 13 points less often. Without an observation, 14 % of its answers are
right. Observations of GRPO and of PA-GRPO help it about equally. With the video, an observation in
front of the question does not help: the model writes one more observation, fewer of these are
sufficient, and fewer responses are in the template.

Does not say: how the base model reads. In the paper the reader is Qwen2.5-VL-7B, a base model. Here
it is the SFT model in both worlds, because the base of the first world knows only bare answers.
"""

from p2r.evaluation.paper import TABLE_5
from p2r.studies.base import GRPO, PA_GRPO, SFT, Paper, Study, View
from p2r.studies.framework.poses import Given

WRITERS = {"sft": "own", "grpo": "GRPO", "pa_grpo": "PA-GRPO"}
READER = ("sft",)
LIKE = {
    "video": "video + text",
    "video + own": "video + text + own observation",
    "video + PA-GRPO": "video + text + VideoP2R's observation",
    "text": "text",
    "text + own": "text + own observation",
    "text + PA-GRPO": "text + VideoP2R's observation",
}


def view(media: str, by: str = "") -> View:
    """Return the view in which the SFT model reads a text or a video, with notes of a model."""
    name, pose = (media, Given(media, "sft"))
    if by:
        name, pose = f"{media} + {WRITERS[by]}", Given(f"{media} + observation", by)
    style = "agnostic" if media == "text" else None
    return View(name, "test", pose=pose, style=style, arms=READER)


STUDY = Study(
    "transfer",
    arms=(SFT, GRPO, PA_GRPO),
    views=("test", *(view(media, by) for media in ("text", "video") for by in ("", *WRITERS))),
    view_differences=(
        *((f"{media} + {by}", media) for media in ("text", "video") for by in WRITERS.values()),
        *(
            (f"{media} + PA-GRPO", f"{media} + {by}")
            for media in ("text", "video")
            for by in ("own", "GRPO")
        ),
    ),
    show=("accuracy", "exact", "sufficiency", "format"),
    paper=Paper("Table 5", {k: TABLE_5[row]["average"] for k, row in LIKE.items()}, of="view"),
    doc=__doc__,
)
