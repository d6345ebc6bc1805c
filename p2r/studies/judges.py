"""How good must the judge of observations be (Table 4)?

PA-GRPO is trained with judges of known quality: the oracle, the oracle with 5 to 30 % of its
verdicts inverted, a panel of three such judges, a small judge that learned from texts alone,
and the grounded judge, which also knows the scene. The oracle judges all models in the evaluation.
"judge agrees" is the share of verdicts in training that are those of the oracle.

Says: A judge with many wrong verdicts leads to fewer right answers. With 30 % wrong verdicts, 14
points fewer answers are right than with the oracle, and every seed shows this. With 5 %, the share
of right answers is about the same, but fewer sentences are true. The order of 5, 10 and 20 % is not
certain. A panel of three judges, each wrong in 20 % of its verdicts, agrees with the oracle in 90
%. Compared with one such judge, 8.5 points more observations are sufficient and true. The judge
that learned from texts agrees in 87 %. With it, 7 points fewer answers are right than with the
oracle, and every seed shows this. The grounded judge gives the largest share of true sentences, and
8 points fewer right answers.

Does not say: what the mistakes of a language model do. Here, chance decides which observations are
judged wrongly. A model is wrong about a kind of observations, and RL can learn to write this kind.

Missing: a large language model as the judge. It needs a key or a GPU; the command is the same with
an arm `rl.judge=claude` or `rl.judge=server:URL#MODEL`, and `judge/cost` is then its price.
"""

from p2r.evaluation.paper import TABLE_4
from p2r.studies.base import PA_GRPO, Arm, Measure, Paper, Study
from p2r.studies.framework.measures import agrees_with_oracle

RATES = (5, 10, 20, 30)
MEMBERS = ", ".join(f"{{kind: noisy, judge: oracle, rate: 0.2, seed: {n}}}" for n in (1, 2, 3))
LIKE = {"noisy_5": "Claude 3.7 Sonnet", "noisy_10": "Llama-3.1-405B", "noisy_20": "Llama-3.1-8B"}

STUDY = Study(
    "judges",
    arms=(
        PA_GRPO,
        *(
            Arm(f"noisy_{n}", (f"rl.judge=noisy:{n / 100}:oracle",), label=f"{n} % wrong")
            for n in RATES
        ),
        Arm(
            "panel",
            (f"rl.judge={{kind: panel, judges: [{MEMBERS}]}}",),
            label="three of 20 % wrong",
        ),
        Arm(
            "learned",
            ("rl.judge=p2r.studies.framework.learned_judge:LearnedJudge",),
            label="learned from text",
        ),
        Arm("grounded", ("rl.judge=grounded",), label="grounded"),
    ),
    differences=(
        *((f"noisy_{n}", "pa_grpo") for n in RATES),
        ("noisy_5", "noisy_20"),
        ("noisy_10", "noisy_20"),
        ("panel", "noisy_20"),
        ("learned", "pa_grpo"),
        ("grounded", "pa_grpo"),
    ),
    metrics={"judge agrees": Measure(agrees_with_oracle)},
    curves=("judge agrees", "perception/accuracy", "faithful", "accuracy", "judge/cost"),
    paper=Paper("Table 4", {name: TABLE_4[row]["average"] for name, row in LIKE.items()}),
    doc=__doc__,
)
