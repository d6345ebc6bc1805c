"""How often does the answer differ from what the thinking concludes (Table 6)?

The rule of `p2r.scoring.thoughts.mismatch` reads the thinking; no LLM is asked. All arms start from
the run's SFT model. A mismatch is known for about 134 of the 300 questions: only multiple choice
has options that the thinking can name.

Says: RL halves the mismatch. The share is 25 % after SFT, 11 % after PA-GRPO and 13 % after GRPO,
and it falls with every seed. The intervals of all differences between the kinds of RL include 0:
seeds differ more than the kinds do (GRPO: 6 to 21 %). In the paper, SFT has less mismatch than
PA-GRPO; here it has more.

Does not say: whether fewer mismatches make more answers right. The thinking can also be wrong
together with the answer. Also unknown: how often models trained on other traces mismatch, such as
the models of other projects in Table 6.
"""

from p2r.evaluation.paper import TABLE_6
from p2r.studies.base import GRPO, PA_GRPO, SFT, Arm, Paper, Study

ROWS = {"sft": "VideoP2R SFT", "t_grpo": "Video-R1", "pa_grpo": "VideoP2R"}

STUDY = Study(
    "mismatch",
    arms=(
        SFT,
        GRPO,
        Arm("t_grpo", ("rl.credit=temporal",), label="SFT + T-GRPO"),
        Arm("shared", ("rl.credit=shared",), label="both rewards on all tokens"),
        PA_GRPO,
    ),
    differences=(
        ("pa_grpo", "grpo"),
        ("pa_grpo", "t_grpo"),
        ("pa_grpo", "shared"),
        ("pa_grpo", "sft"),
        ("grpo", "sft"),
    ),
    show=("mismatch", "accuracy", "exact"),
    curves=("mismatch", "reasoning/mismatch"),
    paper=Paper("Table 6", {k: TABLE_6[v]["mismatch"] for k, v in ROWS.items()}, "mismatch"),
    doc=__doc__,
)
