"""What do process-aware answers cost, and do cheaper ways to compute keep them?

The models answer in float32, in bfloat16 and with weights of 8 bits; alone and in batches. The
table of seconds per question is of the machine that ran the study. A model that keeps its traces
has the same format and the same share of sufficient observations.

Missing: energy. Multiply the seconds by the power of the machine (`powercap` or `nvidia-smi`). The
time of int8: the engine `int8` rounds weights but computes with floating-point numbers.
"""

from p2r.studies.base import GRPO, PA_GRPO, SFT, Study, View

WAYS = {
    "bfloat16": ("models.dtype=bfloat16",),
    "int8 weights": ("eval.engine=int8",),
    "one by one": ("eval.batch_size=1",),
    "batches of 16": ("eval.batch_size=16",),
}

STUDY = Study(
    "cost",
    arms=(SFT, GRPO, PA_GRPO),
    differences=(("pa_grpo", "grpo"), ("pa_grpo", "sft")),
    views=(
        View("float32", "test"),
        *(View(name, "test", overrides) for name, overrides in WAYS.items()),
        View("bare answer", "test", style="direct"),
    ),
    view_differences=tuple((name, "float32") for name in WAYS),
    show=("accuracy", "sufficiency", "format", "tokens", "observation tokens", "prompt tokens"),
    doc=__doc__,
)
