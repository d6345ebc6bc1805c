"""How do the models transfer to shapes, colours and words that they have never seen?

Zero-shot: SFT, GRPO and PA-GRPO of the run. Few-shot: the PA-GRPO model learns 8, 32 or 128 ideal
traces of new scenes in eight SFT steps of up to 16 traces. The control learns 128 traces of known
scenes. The view `test` shows what the models forget.
"""

from p2r.studies.base import GRPO, PA_GRPO, SFT, Arm, Study
from p2r.studies.framework.examples import Shots

COUNTS = (8, 32, 128)


def shots(name: str, split: str, count: int) -> Arm:
    """Return PA-GRPO after SFT on so many ideal traces of a split."""
    label = f"PA-GRPO + {count} of {split}"
    return Arm(name, ("sft.max_steps=8",), "pa_grpo", ("sft",), label, Shots(split, count), world=2)


STUDY = Study(
    "domain",
    arms=(
        SFT,
        GRPO,
        PA_GRPO,
        *(shots(f"shots_{count}", "new_domain", count) for count in COUNTS),
        shots("control", "train", COUNTS[-1]),
    ),
    differences=(
        ("pa_grpo", "grpo"),
        ("pa_grpo", "sft"),
        *((f"shots_{count}", "pa_grpo") for count in COUNTS),
        (f"shots_{COUNTS[-1]}", "control"),
    ),
    views=("new_domain", "test"),
    show=("accuracy", "exact", "sufficiency", "faithful", "sufficient and true"),
    doc=__doc__,
)
