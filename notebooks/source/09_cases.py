# %% [markdown]
# # 09 · Case studies: read, sort, label
#
# A number says how often a model fails. A case says why. A *case* is a question, one response to it, and all its scores. Here you sort the cases of a run into kinds, read one of each, and label observations without knowing the judge's verdict.
#
# **After this notebook you can**
# - name five kinds of cases and find one of each
# - open the case browser from a cell
# - label cases blindly, and say how well two people, or a person and a judge, agree
#
# **Needs** {measured}. Without notebooks 02 to 07, the computing takes about three minutes more. Reads the models of the run. Writes `eval/`, `cases.parquet`, `labels.jsonl`. You know: Python. New words are in the [glossary](../docs/teaching/glossary.md).
# %% [parameters]
import os

SCALE = "tiny"  # "quick": a few steps; "qwen2.5-vl-3b-1x24gb": one GPU (p2r recipe list: more)
SEED = 0
RUN = "../runs/workshop"
NAME = None  # your name in quotes: labels are stored under it
CLIPS = os.environ.get("P2R_CLIPS")  # a folder with clips of your own; None: you have none yet
# %%
from p2r import plots, stages, workshop
from p2r.workshop import checks

run = workshop.begin(RUN, SCALE, SEED)
model = workshop.need(run, "rl model")
cases, _ = stages.evaluate(run, str(model), "pa_grpo")
print(len(cases), "cases")


# %% [markdown]
# ## Toy numbers: five kinds of cases
#
# | kind | answer | observation |
# |---|---|---|
# | success | right | sufficient and true |
# | luck | right | not sufficient, but true |
# | perception miss | wrong | not sufficient, but true |
# | reasoning slip | wrong | sufficient and true |
# | hallucination | any | it describes something false |
#
# *Sufficient* is the verdict of the judge. *True* means that no sentence of the observation contradicts the video. So *luck* is narrower here than in notebook 08 and in the browser: there, every right answer with an insufficient observation is luck, also if the observation is false.
#
# **Predict:** which kind will be the most frequent?
#
# ### Exercise 1: the kind of a case
#
# Difficulty ●●○○○ · importance ●●●●○ · 5 minutes
#
# Write the table as a function. `right` says whether the answer is right. `sufficient` and `truthful` say whether the observation is sufficient, and whether it is true. Return the name of the kind as the table writes it.
# %% [exercise]
def kind_of(right: bool, sufficient: bool, truthful: bool) -> str:
    """Return the kind of a case, one of the five names of the table."""
    raise NotImplementedError


# %% [solution]
def kind_of(right: bool, sufficient: bool, truthful: bool) -> str:
    """Return the kind of a case, one of the five names of the table."""
    if not truthful:
        return "hallucination"
    if right:
        return "success" if sufficient else "luck"
    return "reasoning slip" if sufficient else "perception miss"


# %%
kind_of = checks.test_kind_of(kind_of)
# %% [markdown]
# ## All cases of the model
#
# In the playground the truth is known, so p2r can compare every described fact with the scene. For real videos a person has to look. A response without an observation describes nothing false and is not sufficient. The next two cells count the kinds and show the first case of each.
# %%
from collections import defaultdict

from p2r.playground.truth import sentence_truth


def truthful(case) -> bool:
    told = sentence_truth(case.question, case.trace.observation or "")
    return all(truth != "false" for _, truth in told)


kinds = defaultdict(list)
for case in cases:
    right = (case.accuracy or 0) >= 0.6
    sufficient = bool(case.verdict and case.verdict.sufficient)
    kinds[kind_of(right, sufficient, truthful(case))].append(case)
plots.bars({kind: len(found) for kind, found in kinds.items()}, "Kinds of cases", "cases")
# %%
for kind, found in kinds.items():
    print(f"=== {kind}: {len(found)} cases, the first one")
    workshop.show_case(found[0])
# %% [markdown]
# **What this shows.** After PA-GRPO, hallucination is the most frequent kind. Many of these cases have a right answer and a sufficient observation: the judge reads only the text and does not notice the false sentence. Read the observation before the answer. A hallucination *sounds* as certain as a true observation. Luck looks like a success if you read only the answer.
#
# ## The browser
#
# The case browser shows all cases of the run, with clips, sampled frames, verdicts and advantages. The next cell starts it. Open the address that the cell prints. The browser stops when you close it in a later cell, or when the notebook's kernel ends. From a terminal in the project's folder, `p2r app runs/workshop` starts it too.
# %%
from p2r.browser.app import launch
from p2r.pipeline import collect_cases

collect_cases(run)
browser = launch([run.folder], port=None, block=False)
print("case browser:", browser.local_url)
# %% [markdown]
# ### Exercise 2: a case of your own (open)
#
# Difficulty ●●○○○ · importance ●●●●○ · 10 minutes
#
# Choose one of the cases above whose kind is not success. Search its question in the browser (key `f`), open the case of the stage *evaluation: SFT + PA-GRPO*, and play its video. Write two sentences: what did the model miss? What would have helped: more frames, more pixels, or another observation?
#
# The browser has its own words for the kinds: *seen and solved* (success), *right by luck* (luck), *perception failed* (perception miss) and *reasoning failed* (reasoning slip). These words do not depend on the truth of the observation. A case with a false sentence has the tag *false sentence*.
# %% [sample]
# **Sample answer.** Question *At which second is the event of the cyan square?*: the observation describes three other objects and leaves out the cyan square, so the thinking has to guess. More frames or pixels would not have helped. An observation that begins with the object of the question would have helped.
# %% [markdown]
# ## Label blindly
#
# A judge of real videos is a model too. Before you trust its verdicts, people must label the same observations *without* seeing the verdict. In the browser, press *label cases* on the start page, then *label the next case in blind mode*. Here you label six observations in a cell. They leave out the cases that a cell above showed with their verdicts. The correct answer is after the arrow, as for the judge. Answer only from the text: can a careful reader deduce the correct answer?
# %%
from p2r.cases.labels import hide_verdict

known = {found[0].id for found in kinds.values()}  # you have seen their verdicts
sample = [case for case in cases if case.trace.observation and case.id not in known][:6]
for number, case in enumerate(map(hide_verdict, sample), 1):
    print(f"--- {number}")
    workshop.show_question(case.question)
    print("   observation:", case.trace.observation)
# %% [markdown]
# ### Exercise 3: your labels (open)
#
# Difficulty ●●○○○ · importance ●●●●○ · 10 minutes
#
# Replace `mine` by a list of six values, one for each observation: True (sufficient), False (not sufficient), or None (you cannot say). For example `mine = [True, None, True, False, True, True]`. The next cell compares your labels with the verdicts. Exercise 4 explains kappa.
# %% [exercise]
mine = [None] * len(sample)
# %% [solution]
mine = [len(case.trace.observation.split()) > 12 for case in sample]  # a reader in a hurry
# %%
from p2r.cases.agreement import measure

verdicts = [case.verdict.sufficient if case.verdict else None for case in sample]
agreement = measure(zip(mine, verdicts, strict=True))
print(f"{agreement.n} cases with an answer of both; you left out {agreement.unknown_first}")
if agreement.n:
    print(f"equal answers: {agreement.accuracy.value:.0%}; Cohen's kappa: {agreement.kappa.value}")
for number, (label, case) in enumerate(zip(mine, sample, strict=True), 1):
    if label is not None and case.verdict and label != case.verdict.sufficient:
        print(f"{number}: you say {label}; judge: {case.verdict.rationale}")


# %% [markdown]
# ### Exercise 4: agreement beyond chance
#
# Difficulty ●●●○○ · importance ●●●○○ · 8 minutes
#
# If 90 % of observations are sufficient, two raters who always say yes agree in 90 % of cases and know nothing. Cohen's kappa is (p − e) / (1 − e). p is the share of equal answers. e is the share of equal answers by chance: the probability that both say yes, plus the probability that both say no, if each rater answers at random, with the share of yes in his or her own list. Write `kappa` for two lists of equal length: True is yes. You may assume that e is below 1.
# %% [exercise]
def kappa(first: list[bool], second: list[bool]) -> float:
    """Return Cohen's kappa of two raters."""
    raise NotImplementedError


# %% [solution]
def kappa(first: list[bool], second: list[bool]) -> float:
    """Return Cohen's kappa of two raters."""
    n = len(first)
    equal = sum(a == b for a, b in zip(first, second, strict=True)) / n
    a, b = sum(first) / n, sum(second) / n
    chance = a * b + (1 - a) * (1 - b)
    return (equal - chance) / (1 - chance)


# %%
kappa = checks.test_kappa(kappa)
# %% [markdown]
# **What this shows.** Kappa is 1 if two raters always agree, and 0 if they agree only as often as by chance. It is negative if they agree less often than that.
#
# ## In a group
#
# Every person labels in the browser under a different name. Either all use one run folder. Or each person uses a copy of it, and at the end you append the lines of all files `labels.jsonl` to one of them. The next cell stores the labels of exercise 3 under `NAME`. Set `NAME` in the first code cell to your own name and run that cell: two people with one name count as one person. Then it shows the agreement of every two people so far. Run it again while others label.
# %%
from p2r.cases.agreement import agreement_between_annotators
from p2r.cases.labels import CaseLabel, LabelFile

file = LabelFile(run.folder)
done = {label.case for label in file.labels() if label.annotator == NAME}
if NAME is None:
    print("no labels are stored: set NAME in the first code cell, run it, then this cell again")
for case, label in zip(sample, mine, strict=True):
    if NAME is not None and label is not None and case.id not in done:
        file.add(CaseLabel(case=case.id, annotator=NAME, sufficient=label, blind=True))
for pair, found in agreement_between_annotators(file.labels()).items():
    print(" and ".join(pair), f"agree on {found.accuracy.value:.0%} of {found.n} cases")
people = {label.annotator for label in file.labels()}
print(f"labels: {len(file.labels())}, people: {len(people)}")
# %% [markdown]
# **What this shows.** Two people rarely agree on everything. If people disagree about a case, no judge can agree with all of them. The paper compares four judges with human labels of 200 cases: they agree in 82 to 95 %, and the judge that agrees most trains the best model.
#
# The next cell closes the case browser. Run it when all have finished.
# %%
browser.close()
# %% [markdown]
# ## Clips of your own
#
# Notebook 01 says how to record a clip. Set `CLIPS` in the first code cell to the full path of its folder. Then the next cell asks the tiny teacher about every clip. Without a clip it prints a note.
#
# **Predict:** the tiny models know only the moving shapes of the playground. What will the teacher see in a real clip?
# %%
from p2r.engines.ask import ask_model

MODEL = "playground/second/teacher"
ASKED = "What happens in the clip?"
if workshop.own_clips(CLIPS):
    for piece in ask_model(run.recipe, MODEL, CLIPS, ASKED):
        print(piece, end="")
# %% [markdown]
# **What this shows.** In a real clip, the tiny teacher describes coloured shapes that are not there: a hallucination in perfect form. The format reward does not notice it. You notice it only if you look at the clip.
#
# p2r ships no real clips and no traces of a large model. With a GPU or a key, you can ask a model that knows the real world, in a terminal. On a GPU with 24 GB:
#
#     p2r ask FOLDER "What happens in the clip?" --model Qwen/Qwen2.5-VL-3B-Instruct --recipe qwen2.5-vl-3b-1x24gb
#
# With a key for a server whose model takes pictures (ADDRESS ends with `/v1`; the frames leave your computer):
#
#     export OPENAI_API_KEY=…
#     p2r ask FOLDER "What happens in the clip?" --model NAME --set eval.engine=server --set server.base_url=ADDRESS --set server.media=images
#
# ## Summary
#
# There are five kinds of cases, and each needs a different remedy. People label cases without seeing the verdict, and kappa measures agreement beyond chance. Next: [10 · on GPUs](10_gpus.ipynb).
