"""Which stages and which rewards does VideoP2R need (Table 2)?

Every seed trains its own SFT model, and RL starts from the SFT model of the same seed. `without_…`
leaves one reward out; `shared` puts both rewards on all tokens. The base model is also asked for
the bare answer. The base of the second world knows the template; that of the first world does not.
The arms without SFT and without observations start RL even if no response of the start model is in
the template (`rl.preflight=0`).
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
