# %% [markdown]
# # 08 · Evaluation and analysis
#
# Scores show how much a model improved. Pairs of answers to the same question show whether the difference is more than chance. All questions here are about held-out scenes: no training has seen them.
#
# **After this notebook you can**
# - read a result together with its interval
# - compare two models question by question
# - use the 2 × 2 table of perception and answer to separate luck from skill
#
# **Needs** {measured}. Without notebooks 02 to 07, the computing takes about three minutes more. Reads the models of the run. Writes `eval/`, `cases.parquet`. You know: Python. New words are in the [glossary](../docs/teaching/glossary.md).
# %% [parameters]
SCALE = "tiny"  # "quick": a few steps; "qwen2.5-vl-3b-1x24gb": one GPU (p2r recipe list: more)
SEED = 0
RUN = "../runs/workshop"
QUESTIONS = None  # a file of held-out questions; None: the playground's test split
# %%
from p2r import plots, stages, workshop
from p2r.workshop import checks

run = workshop.begin(RUN, SCALE, SEED)
workshop.need(run, "rl model")
# %% [markdown]
# ## Toy numbers: how precise is a mean?
#
# A 95 % *interval* is a range that is computed from a sample. If you repeat the experiment 100 times, about 95 of the 100 ranges contain the true value.
#
# **Predict:** 6 of 10 answers are right, then 60 of 100, then 600 of 1,000. How wide are the 95 % intervals?
# %%
from p2r.scoring import mean_interval

for n in (10, 100, 1000):
    interval = mean_interval([1] * (6 * n // 10) + [0] * (4 * n // 10))
    print(f"n = {n:>4}: 95 % from {interval['low']:.2f} to {interval['high']:.2f}")
# %% [markdown]
# **What this shows.** With ten questions, 60 % can mean anything from 30 to 90 %. Ten times more questions make the interval about three times narrower.
#
# ## Base, SFT, PA-GRPO
#
# **Predict:** reinforcement learning rewarded both observations and answers. By how many points does each of them rise over SFT?
# %%
from rich.console import Console

from p2r.cli.tables import results_table

models = {
    "base": run.recipe.models.base,
    "sft": str(run.folder / "sft" / "model"),
    "pa_grpo": str(run.folder / "pa_grpo" / "model"),
}
cases, results = {}, {}
for name, path in models.items():
    cases[name], result = stages.evaluate(run, path, name, QUESTIONS)
    results[name] = result["metrics"]
columns = ("accuracy", "sufficiency", "format", "mismatch", "faithful", "sufficient and true")
Console().print(results_table(results, columns))
# %%
plots.results(results, "Held-out scenes, with 95 % intervals")


# %% [markdown]
# **What this shows.** The base describes without regard to the question, so fewer of its observations are sufficient. *Mismatch* is the share of answers that differ from the conclusion of the thinking. *Faithful* is the share of true sentences in the observations, and *sufficient and true* the share of observations that are sufficient and have no false sentence. (*exact*, in the figure, is the accuracy without credit for a part of an answer.) PA-GRPO usually raises the share of sufficient observations. The share of true sentences (*faithful*) falls at the same time: the judge reads only the text, so a false sentence costs no reward (notebook 09). The thinking of these models uses only the observation, so a better observation can also give a better answer. A longer run is in [results](../docs/results.md). If all values are equal, as in *format* or *mismatch*, the interval has no width: it says only that this sample had no other value. Is the difference in your table more than chance? The next section answers that.
#
# ## The same questions, in pairs
#
# All models answered the same questions, so their results are pairs. Overlapping intervals do *not* mean that two models are equal. Much of the width of an interval comes from easy and hard questions, and these are the same for both models. So compare the two models question by question: take the difference of the two scores of each question, and the interval of its mean.
#
# **Predict:** suppose that the accuracy intervals of SFT and PA-GRPO overlap. Must the interval of their difference contain 0?
#
# ### Exercise 1: compare in pairs
#
# Difficulty ●●○○○ · importance ●●●●● · 8 minutes
#
# `first` and `second` are lists of the scores of two models on the same questions, in the same order. Return what `mean_interval` gives for the differences, second minus first: a dictionary with `mean`, `low`, `high` and `n`.
# %% [exercise]
def paired_difference(first: list[float], second: list[float]) -> dict:
    """Return mean, low and high of second minus first, question by question."""
    raise NotImplementedError


# %% [solution]
def paired_difference(first: list[float], second: list[float]) -> dict:
    """Return mean, low and high of second minus first, question by question."""
    return mean_interval([b - a for a, b in zip(first, second, strict=True)])


# %%
paired_difference = checks.test_paired_difference(paired_difference)


# %%
from p2r.playground.truth import faithful

measures = {
    "accuracy": lambda case: case.accuracy or 0.0,
    "sufficient": lambda case: float(bool(case.verdict and case.verdict.sufficient)),
    "faithful": faithful,  # None: no sentence of the observation can be read
}
by_id = {name: {case.question.id: case for case in cases[name]} for name in ("sft", "pa_grpo")}
for title, measure in measures.items():
    pairs = [[measure(by_id[name][key]) for name in by_id] for key in by_id["sft"]]
    known = [pair for pair in pairs if None not in pair]
    if known:
        gain = paired_difference(*map(list, zip(*known, strict=True)))
        low, high = 100 * gain["low"], 100 * gain["high"]
        print(f"{title:>10}: {100 * gain['mean']:+.1f} points, 95 % from {low:+.1f} to {high:+.1f}")
# %% [markdown]
# **What this shows.** The lines are PA-GRPO minus SFT. *faithful* counts only questions for which a sentence of both observations can be read. If the interval excludes 0, the difference is more than chance in the choice of *questions*. So the answer to the question above is no: intervals of two models can overlap while the interval of their difference excludes 0. All this says nothing about chance in the *training*: another seed may give another difference. For that, train several times (`p2r study credit`).
#
# The library makes the same comparison from the result files, for all questions and for each problem type.
# %%
from IPython.display import Markdown

from p2r.evaluation.compare import compare, comparison_markdown
from p2r.evaluation.results import read_result

files = [run.path("results", f"{name}.json") for name in ("sft", "pa_grpo")]
Markdown(comparison_markdown(compare(*map(read_result, files))))
# %% [markdown]
# **What this shows.** Each row is one comparison. `official` and `robust` are two rules that read the answer from a response: the rule of the benchmark's authors, and a tolerant one. *B − A* is the mean difference of the pairs with its 95 % interval. *p* comes from McNemar's exact test. It counts only the questions that one of the models gets right (*only A*, *only B*). Its p is the probability that a fair coin would split these questions at least as unevenly. If p is small, for example below 0.05, chance alone is a poor explanation. A table with many rows makes many tests, so one small p among them proves little. In a row with few questions, the interval and p can disagree: the interval can exclude 0 although p is above 0.05. Then trust neither, and ask more questions.
#
# ## Luck and skill
#
# **Predict:** how many of the SFT model's right answers come with an insufficient observation?
# %%
from p2r.scoring.thoughts import perception_by_answer

for name in ("sft", "pa_grpo"):
    plots.perception_by_answer(perception_by_answer(cases[name]), name).show()
# %% [markdown]
# **What this shows.** The lower left cell is luck: the answer is right, but it does not follow from the observation. The upper right cell is a failure of reasoning: the observation was sufficient, and the answer is wrong. A reward for the outcome cannot tell the two left cells apart.
#
# ### Exercise 2: lucky answers
#
# Difficulty ●○○○○ · importance ●●●○○ · 3 minutes
#
# How many right answers of the PA-GRPO model come with an insufficient observation? Read it from the figure, or count with `store.count(Filters(…))`. `Filters` takes `stage` (a tuple of names, for example `("eval-sft",)`; the next cell prints all names), `verdict` ("yes" or "no") and `outcome` ("right" or "wrong").
# %%
from p2r.cases.store import CaseStore, Filters
from p2r.pipeline import collect_cases

collect_cases(run)
store = CaseStore([run.folder])
print(store.count(Filters()), "cases:", dict(store.values("trace.stage")))
# %% [exercise]
count = None  # a number of cases
# %% [solution]
count = store.count(Filters(stage=("eval-pa_grpo",), verdict="no", outcome="right"))
# %%
table = perception_by_answer(cases["pa_grpo"])
checks.test_count(count, table["insufficient"]["right"])
# %% [markdown]
# ### Exercise 3: the hardest type
#
# Difficulty ●○○○○ · importance ●●○○○ · 4 minutes
#
# Which problem type has the lowest accuracy under PA-GRPO? The result of the last evaluation, that of PA-GRPO, is still in `result`. `result["per_type"][TYPE]["accuracy"]["mean"]` is the accuracy of a problem type.
# %% [exercise]
hardest = None  # a problem type, in quotes
# %% [solution]
by_type = result["per_type"]
hardest = min(by_type, key=lambda kind: by_type[kind]["accuracy"]["mean"])
# %%
means = {kind: metrics["accuracy"]["mean"] for kind, metrics in result["per_type"].items()}
checks.test_lowest(hardest, means)
# %% [markdown]
# ## Next to the paper
#
# The paper evaluates Qwen2.5-VL-7B on seven benchmarks. Its Table 2 takes away one part of the method at a time. The last column has the override that makes the same change here, for `workshop.vary` (notebook 07).
#
# | Table 2 of the paper | average of 7 benchmarks | here |
# |---|--:|---|
# | PA-GRPO | 58.7 | none |
# | without the length reward | 57.7 | `rl.rewards=[perception, reasoning]` |
# | both rewards on all tokens | 57.4 | `rl.credit=shared` |
# | without the perception reward | 56.4 | `rl.rewards=[reasoning, length]` |
# | GRPO, only the answer's reward | 56.4 | `rl.credit=outcome` |
# | without the reasoning reward | 55.3 | `rl.rewards=[perception, length]` |
#
# The tiny models know only the playground, so do not compare the numbers. Compare which rows are better or worse than PA-GRPO. `p2r eval run --help` says how to evaluate a real model on the benchmarks, and `p2r eval compare` compares two result files in pairs.
#
# ## Summary
#
# Every result has an interval, and two models are compared question by question. The 2 × 2 table of observation and answer shows what accuracy alone hides. Next: [09 · case studies](09_cases.ipynb).
