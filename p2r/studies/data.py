"""How many CoT traces does SFT need, how clean must they be, and does RL make up for it?

Every arm has 40 SFT steps of 16 traces: the recipe `tiny` keeps about 600 traces, so `all` learns
each of them once. `part_…` learns a share of the kept traces. The others learn as many traces as
the filter kept. They are drawn from all traces that follow the template (`unfiltered`), from those
with a right answer (`right`), or from those with a sufficient observation, even if the answer is
wrong (`sufficient`). PA-GRPO then trains each SFT model; its curves show how fast.

Says: with 40 SFT steps, the SFT model is as good as all models of PA-GRPO in this world: 79 % of
its answers are right, and 88 % of its sentences are true. The recipe has only four SFT steps, so
that RL has something to learn (62 % right). After 40 steps, PA-GRPO gains nothing for certain with
any traces. Fewer sentences are true after it, by 10 to 16 points. Few traces are enough: 58 traces,
each seen eleven times, give 76 % right answers, and the difference to all 581 traces is not
certain. The filter makes no certain difference either, although it drops 219 of 800 traces.

Does not say: how large models behave. The teacher and the base of this world have the same
pre-training, so SFT only changes habits.

Missing: the data of other projects (Table 9). Give them as `--cases` to `p2r sft` in another run.
"""

from p2r.studies.base import Arm, Study
from p2r.studies.framework.examples import Generated, Kept

TRACES = {
    "all": None,  # those of the run
    "part_50": Kept(0.5),
    "part_25": Kept(0.25),
    "part_10": Kept(0.1),
    "unfiltered": Generated(),
    "right": Generated(right=True),
    "sufficient": Generated(sufficient=True),
}
SFT = tuple(
    Arm(f"sft_{name}", ("sft.max_steps=40",), "base", ("sft",), f"SFT: {name}", traces)
    for name, traces in TRACES.items()
)

STUDY = Study(
    "data",
    arms=(*SFT, *(Arm(name, start=f"sft_{name}", label=f"{name}, PA-GRPO") for name in TRACES)),
    differences=(
        *((f"sft_{name}", "sft_all") for name in TRACES if name != "all"),
        *((name, "all") for name in TRACES if name != "all"),
        *((name, f"sft_{name}") for name in TRACES),
    ),
    show=("accuracy", "sufficiency", "sufficient and true", "faithful", "format"),
    curves=("accuracy", "sufficiency", "lost"),
    doc=__doc__,
)
