"""Does the length reward matter, and should its range depend on the question?

`fixed` is the paper's: one range for all observations. `dynamic` allows an observation 10 to 30
tokens for every sentence that an answer needs. `none` has no length reward. `double` doubles the
reward of the fixed range.
"""

from p2r.records import ProcessReward
from p2r.rewards import Rollout
from p2r.studies.base import PA_GRPO, Arm, Study

LEAST, MOST, NOTICE = 10, 30, 20  # tokens of a sentence, and of the first one, which tells no fact
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
