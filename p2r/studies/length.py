"""Does the length reward matter, and should its range depend on the question?

`fixed` is the paper's: one range for all observations. `dynamic` allows an observation 10 to 30
tokens for every sentence that an answer needs. `none` has no length reward. `double` doubles the
reward of the fixed range.

Says: no length reward is best here. With the fixed range, 6.3 points fewer answers are right
[-10.5, -2.5], with every seed. The observations have 62 tokens instead of 72, and 3.4 sentences
instead of 4.1. A doubled reward makes them 3 tokens shorter and changes accuracy by -0.5 points
[-4, 3]. With a range that depends on the question, they have 66 tokens, and accuracy is that of the
fixed range (0.3 points more [-5, 5]). The shares of true sentences do not differ for certain. In
Table 2 of the paper, the length reward helps.

Does not say: which range would help. The fixed range of the recipe is 20 to 68 tokens; models
without a length reward end above it. Wider ranges were not tried. The difference between the fixed
range and no reward is that of `credit`: the same models.
"""

from p2r.records import ProcessReward
from p2r.rewards import Rollout
from p2r.studies.base import PA_GRPO, Arm, Study

LEAST, MOST, NOTICE = 10, 30, 20  # tokens per sentence, and of the first one, which has no fact
BONUS = 0.2


def reward_by_need(rollout: Rollout) -> tuple[ProcessReward, ProcessReward]:
    """Return eq. (5) with a range of observation lengths that depends on the question."""
    looked, found = rollout.perception, rollout.trace.perception_tokens
    needed = len(rollout.question.meta.get("needs", ())) or 1
    fits = found is not None and NOTICE + needed * LEAST <= found <= NOTICE + needed * MOST
    bonus = BONUS if looked.accuracy and looked.format and fits else 0.0
    return looked.model_copy(update={"length": bonus}), rollout.reasoning


STUDY = Study(
    "length",
    arms=(
        PA_GRPO,
        Arm("none", ("rl.rewards=[perception, reasoning]",), label="no length reward"),
        Arm("double", ("rl.length_bonus=0.4",), label="doubled length reward"),
        Arm(
            "dynamic", (f"rl.reward={__name__}:reward_by_need",), label="range by question", world=2
        ),
    ),
    differences=(("pa_grpo", "none"), ("double", "pa_grpo"), ("dynamic", "pa_grpo")),
    show=("accuracy", "sufficiency", "faithful", "sentences", "observation tokens", "tokens"),
    curves=("perception/length_bonus", "observation tokens", "sufficiency"),
    doc=__doc__,
)
