"""How do the models transfer to shapes, colours and words that they have never seen?

Zero-shot: SFT, GRPO and PA-GRPO of the run. With examples: the PA-GRPO model learns 8 to 2048 ideal
traces of new scenes, in SFT steps of up to 16 traces: eight steps for 8, 32 and 128 traces, one
pass for more. The control learns 128 traces of known scenes. The view `test` shows what the models
forget. The arms with 512 and 2048 traces were added after the others were known.

Says: no model transfers to the new domain. 21 to 24 % of the answers are right there, as with
guesses, and no sentence is true: the models do not know the words. With 8 to 128 examples this
stays so. With 2048 examples, 13 % of the answers are right and 3 % of the sentences are true. And
the model forgets: in the known domain 32 % of its answers are right, instead of 76 %. More examples
of the new domain alone do not teach it; they destroy the skill to answer from notes. The control
shows another use of ideal traces: after 128 of known scenes, 6 points more sentences of PA-GRPO are
true [4, 9], and 11 points more observations are sufficient and true [8, 14], with every seed.

Does not say: how many examples are enough. Examples of both domains together, more passes and other
learning rates were not tried. There are 100 questions of the new domain.
"""

from p2r.studies.base import GRPO, PA_GRPO, SFT, Arm, Study
from p2r.studies.framework.examples import Shots

COUNTS = (8, 32, 128, 512, 2048)
LEAST_STEPS, BATCH = 8, 16


def shots(name: str, split: str, count: int) -> Arm:
    """Return PA-GRPO after SFT on so many ideal traces of a split."""
    label = f"PA-GRPO + {count} of {split}"
    steps = (f"sft.max_steps={max(LEAST_STEPS, count // BATCH)}",)
    return Arm(name, steps, "pa_grpo", ("sft",), label, Shots(split, count), world=2)


STUDY = Study(
    "domain",
    arms=(
        SFT,
        GRPO,
        PA_GRPO,
        *(shots(f"shots_{count}", "new_domain", count) for count in COUNTS),
        shots("control", "train", 128),
    ),
    differences=(
        ("pa_grpo", "grpo"),
        ("pa_grpo", "sft"),
        *((f"shots_{count}", "pa_grpo") for count in COUNTS),
        ("shots_128", "control"),
        ("control", "pa_grpo"),
    ),
    views=("new_domain", "test"),
    show=("accuracy", "exact", "sufficiency", "faithful", "sufficient and true"),
    varies=("sft.max_steps",),
    doc=__doc__,
)
