"""What do process-aware answers cost, and do cheaper ways to compute keep them?

The models answer in float32, in bfloat16 and with weights of 8 bits, one question at a time and in
batches. Seconds, energy and memory are those of the machine that ran the study, with loading and
scoring. Energy is an estimate: 3.5 watts for a busy core (Cloud Carbon Footprint's mean of AWS),
plus the counter of the GPU. If a cheaper way keeps the answers, format and share of sufficient
observations stay the same.

Missing: the time of real int8. The engine `int8` rounds the weights but computes with
floating-point numbers.
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
        View("float32", "test", ("models.dtype=float32",)),
        *(View(name, "test", overrides) for name, overrides in WAYS.items()),
        View("bare answer", "test", style="direct"),
    ),
    view_differences=tuple((name, "float32") for name in WAYS),
    show=("accuracy", "sufficiency", "format", "tokens", "observation tokens", "prompt tokens"),
    timed=True,
    doc=__doc__,
)
