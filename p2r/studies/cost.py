"""What do process-aware answers cost, and do cheaper ways to compute keep them?

The models answer in float32, in bfloat16 and with weights of 8 bits, one question at a time and in
batches. Seconds, energy and memory are those of the machine that ran the study, with loading and
scoring. Energy is an estimate: 3.5 watts for a busy core (Cloud Carbon Footprint's mean of AWS),
plus the counter of the GPU. If a cheaper way keeps the answers, format and share of sufficient
observations stay the same.

Says: cheaper ways keep the answers here. In bfloat16, the accuracy of PA-GRPO changes by 1.0 points
[0, 2], the share of sufficient observations by 0.7 [0, 2], and a question takes 19 % less time (11
% less with GRPO and with SFT). Weights of 8 bits change nothing by more than a point. The size of
the batch changes no answer: in batches of 64 a question takes 0.036 s, in batches of 16 0.044 s,
and alone 0.17 s. A process-aware answer has 106 tokens, a bare answer 2 to 5. In batches, an answer
of PA-GRPO takes 2.0 times the time and 2.4 times the energy of a bare answer (GRPO: 1.7 and 2.0
times). The bare answer is right as often as a guess. PA-GRPO's answers are longer than those of
SFT, 106 and 86 tokens.

Does not say: what the ratios are for large models. In a model of 2.8 million parameters, reading
the video and starting the program take a large part of the time. In bfloat16 the SFT model has 4
points fewer sufficient observations [1, 7]; this is a single model.

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
