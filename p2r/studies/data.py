"""How many CoT traces does SFT need, how clean must they be, and does RL make up for it?

Every arm has 40 SFT steps of 16 traces: the recipe `tiny` keeps about 600 traces, so `all` learns
each of them once. `part_…` learns a share of the kept traces. The others
learn as many traces as the filter kept. They are drawn from all traces that follow the template
(`unfiltered`), from those with a right answer (`right`), or from those with a sufficient
observation, even if the answer is wrong (`sufficient`). PA-GRPO then trains each SFT model; its
curves show how fast.

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
    ),
    show=("accuracy", "sufficiency", "sufficient and true", "faithful", "format"),
    curves=("accuracy", "sufficiency", "lost"),
    doc=__doc__,
)
