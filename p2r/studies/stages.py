"""Which stages and which rewards does VideoP2R need (Table 2)?

Every seed trains its own SFT model, and RL starts from the SFT model of the same seed. `without_…`
leaves one reward out; `shared` puts both rewards on all tokens. The base model is also asked for
the bare answer. The base of the second world knows the template; that of the first world does not.
The arms without SFT and without observations start RL even if no response of the start model is in
the template (`rl.preflight=0`).

Says: RL gives most of the gain: from SFT to PA-GRPO, 12 points more answers are right, with every
seed. SFT gives little here, because the base model already knows the template: PA-GRPO without SFT
is as good as with it. No reward of Table 2 makes PA-GRPO better for certain. PA-GRPO − GRPO is −5
points of right answers [−10, 1], with two seeds above 0. As in the study `credit`, the length
reward makes PA-GRPO worse: without it, 7 points more answers are right, and every seed shows this.
Seeds 1 to 4 have other SFT models than in `credit`, so they repeat that finding. RL makes fewer
sentences true, whatever the rewards: 89 % after SFT, 70 to 75 % after RL. Models that learn to
think without observations do not answer better than the base that gives bare answers (24 and 23 %),
but their SFT was short.

Does not say: how agnostic models compare after a longer SFT. The base knows only the template with
observations, and 64 traces do not teach it another one: after SFT, 6 % of the agnostic answers are
right. Without R_P, PA-GRPO is GRPO, so both rows are one training. With ten differences, one may
exclude 0 only by chance.
"""

from p2r.evaluation.paper import TABLE_2
from p2r.studies.base import BASE, GRPO, PA_GRPO, Arm, Paper, Study, View

ROWS = {
    "base": "Qwen2.5-VL-7B",
    "sft": "process-aware SFT",
    "sft_agnostic": "process-agnostic SFT",
    "rl_only": "RL only",
    "grpo": "process-agnostic RL (GRPO)",
    "no_reasoning": "without R_R",
    "no_perception": "without R_P",
    "no_length": "without R_len",
    "shared": "without separation of the processes",
    "pa_grpo": "VideoP2R",
}

STUDY = Study(
    "stages",
    arms=(
        BASE,
        Arm("sft", start="base", train=("sft",), label="SFT"),
        Arm("sft_agnostic", ("sft.target=agnostic",), "base", ("sft",), "SFT, agnostic"),
        Arm("rl_only", ("rl.preflight=0",), start="base", label="PA-GRPO without SFT"),
        GRPO,
        Arm(
            "agnostic",
            ("sft.target=agnostic", "rl.credit=outcome", "rl.preflight=0"),
            start="sft_agnostic",
            label="SFT + GRPO, agnostic",
        ),
        Arm("no_reasoning", ("rl.rewards=[perception, length]",), label="PA-GRPO without R_R"),
        Arm("no_perception", ("rl.rewards=[reasoning, length]",), label="PA-GRPO without R_P"),
        Arm("no_length", ("rl.rewards=[perception, reasoning]",), label="PA-GRPO without R_len"),
        Arm("shared", ("rl.credit=shared",), label="both rewards on all tokens"),
        PA_GRPO,
    ),
    differences=(
        *(("pa_grpo", name) for name in ROWS if name not in ("base", "pa_grpo")),
        ("sft", "sft_agnostic"),
        ("grpo", "agnostic"),
    ),
    views=("test", View("bare answer", "test", style="direct", arms=("base",))),
    curves=("lost", "accuracy", "sufficiency"),
    paper=Paper("Table 2", {name: TABLE_2[row]["average"] for name, row in ROWS.items()}),
    doc=__doc__,
)
