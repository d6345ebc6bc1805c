# %% [markdown]
# # 05 · Rewards and judges: build them, then hack them
#
# Reinforcement learning makes a model do what the reward says, not what you meant. So look at the rewards before you train with them. What do they measure? How noisy are they? How can a response collect them without being good?
#
# **After this notebook you can**
# - say why questions that need several facts are rarely answered with a sufficient observation
# - say when a group of rollouts gives no signal
# - say what the errors of a judge do to the reward
# - write a response that collects a reward it does not deserve
#
# **Needs** {measured}. Without notebook 02, the computing takes about half a minute more. Reads `generate.jsonl`. Writes nothing. You know: Python. New words are in the [glossary](../docs/teaching/glossary.md).
# %% [parameters]
SCALE = "tiny"  # "quick": a few steps; for GPUs: "3b-1x24gb", "7b-1x80gb", "7b-8x80gb"
SEED = 0
RUN = "../runs/workshop"
# %%
from p2r import plots, stages, workshop
from p2r.workshop import checks, widgets

run = workshop.begin(RUN, SCALE, SEED)
workshop.need(run, "traces")


# %% [markdown]
# ## Toy numbers: habits of describing
#
# A model describes some facts and leaves out others. Its habit is a probability: how likely it describes a fact that the question needs.
#
# **Predict:** a needed fact is described with probability 0.5. An observation is sufficient if it describes all needed facts. What share of observations is sufficient for questions that need one fact? And for questions that need three facts?
#
# ### Exercise 1: several facts
#
# Difficulty ●○○○○ · importance ●●●○○ · 3 minutes
#
# A question needs `needed` facts. Each is described with probability `chance`, independently of the others. Return the probability that all of them are described.
# %% [exercise]
def sufficient_share(chance: float, needed: int) -> float:
    """Return how likely all `needed` facts are described, each with probability `chance`."""
    raise NotImplementedError


# %% [solution]
def sufficient_share(chance: float, needed: int) -> float:
    """Return how likely all `needed` facts are described, each with probability `chance`."""
    return chance**needed


# %%
sufficient_share = checks.test_sufficient_share(sufficient_share)
chances = [0.1, 0.3, 0.5, 0.7, 0.9, 1.0]
shares = {f"{n} needed": [sufficient_share(p, n) for p in chances] for n in (1, 2, 3)}
title = "Share of sufficient observations"
plots.lines(chances, shares, title, "probability that a needed fact is described")
# %% [markdown]
# **What this shows.** With probability 0.5, the share is 50 % for one fact and 12.5 % for three. Most questions of the playground need one sentence. Two kinds need two sentences at the same time, so their share is p²: *In what are the red circle and the blue ring alike?* and *What colour is the object that the red circle hits?* How many observations are sufficient depends on how often the model describes the needed facts. Reinforcement learning changes this habit.
#
# ## The reward of a process (eq. 5)
#
# R = accuracy + format + length, for each process. The accuracy of perception is the judge's verdict: 1 if the observation is sufficient, else 0. The accuracy of reasoning is the accuracy of the answer, from 0 to 1. The format is 1 if the tags of the process are right, else 0. The length is 0.2 if accuracy and format are both above 0 and the number of tokens of the process is in a range, else 0. This part is also called the length bonus.
#
# **Predict** the five sums, for a range from 20 to 80 tokens. `None` is an unknown accuracy: the judge gave no verdict.
# %%
from p2r.rewards import process_reward

for accuracy, format_ok, tokens in (
    (1, True, 40),
    (1, True, 90),
    (0, True, 40),
    (1, False, 40),
    (None, True, 40),
):
    reward = process_reward(accuracy, format_ok, tokens, (20, 80))
    print(f"accuracy {accuracy}, format {format_ok}, {tokens} tokens: {reward.total}")
# %% [markdown]
# **What this shows.** Length alone earns nothing. An unknown verdict is not a zero: the reward is unknown too, and the rollout is left out of its group's average.
#
# The next widget shows how long the observations of the teacher are. Move both ends of the range: how many observations still earn the bonus? To keep it simple, an observation counts as right here if its response follows the template.
# %%
cases = [case for case in stages.generate(run).cases() if case.trace.perception_tokens]
lengths = [case.trace.perception_tokens for case in cases]
right = [not case.trace.problems for case in cases]
ends = run.recipe.rl.length_ranges.perception
widgets.length_range(lengths, right, tuple(ends))


# %% [markdown]
# **What this shows.** A range that is too narrow pays for a length, not for content. A range far above the usual lengths pays for more words, and the model learns to add words.
#
# ## Groups without a signal
#
# If all rewards in a group are equal, all advantages are zero, and the model learns nothing from the group. Such a group is called *collapsed*.
#
# ### Exercise 2: the share of groups with a signal
#
# Difficulty ●●○○○ · importance ●●●●○ · 5 minutes
#
# Each of `group_size` rollouts is right (reward 1) with probability `chance`, otherwise wrong (reward 0), independently of the others. Return the probability that the rewards of the group are not all equal.
# %% [exercise]
def signal(chance: float, group_size: int) -> float:
    """Return how likely a group of yes-or-no rewards is not all equal."""
    raise NotImplementedError


# %% [solution]
def signal(chance: float, group_size: int) -> float:
    """Return how likely a group of yes-or-no rewards is not all equal."""
    return 1 - chance**group_size - (1 - chance) ** group_size


# %%
signal = checks.test_signal(signal)
# %% [hint]
# Two cases give no signal: all right, or all wrong.
# %% [markdown]
# **Predict:** there are 8 rollouts, and each answer is right with probability 0.95. What share of the groups gives a signal? What is this share if there is also a second, independent reward, which each rollout earns with probability 0.5?
# %%
chances = [0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98]
no_second = 1 - signal(0.5, 8)
curves = {
    "answer alone": [round(signal(p, 8), 3) for p in chances],
    "answer or observation": [round(1 - (1 - signal(p, 8)) * no_second, 3) for p in chances],
}
plots.lines(chances, curves, "Share of groups of 8 with a signal", "chance of a right answer")


# %% [markdown]
# **What this shows.** A single reward rarely gives a signal when the model is almost always right or almost always wrong: at 0.95, only 34 % of the groups. With two rewards, a group is lost only if both collapse: at 0.95, 99 % of the groups give a signal.
#
# ## A judge that makes errors
#
# ### Exercise 3: what a judge with errors reports
#
# Difficulty ●●○○○ · importance ●●●●○ · 5 minutes
#
# A share `true_share` of the observations is sufficient. The judge gives the wrong verdict with probability `error`, for sufficient and for insufficient observations. Return the share of observations that it calls sufficient.
# %% [exercise]
def observed_share(true_share: float, error: float) -> float:
    """Return the share of observations that a judge with errors calls sufficient."""
    raise NotImplementedError


# %% [solution]
def observed_share(true_share: float, error: float) -> float:
    """Return the share of observations that a judge with errors calls sufficient."""
    return true_share * (1 - error) + (1 - true_share) * error


# %%
observed_share = checks.test_observed_share(observed_share)
# %% [markdown]
# The next widget uses your formula. Move the slider *error rate*. The solid line shows how well the verdicts agree with the truth: 1 is perfect, 0 is chance. The dashed line is the share of collapsed groups.
#
# **Predict:** the error rate of the judge rises from 0 to 20 %. Does the share of collapsed groups rise or fall?
# %%
widgets.judge_noise()
# %% [markdown]
# **What this shows.** With a noisy judge fewer groups collapse, because wrong verdicts differ at random within a group. But the verdicts carry less information. A low share of collapsed groups does not prove that the reward is good.
#
# ### Exercise 4: when do verdicts tell nothing?
#
# Difficulty ●○○○○ · importance ●●○○○ · 1 minute
#
# At which error rate, from 0 to 1, do the verdicts of a judge tell nothing about the truth?
# %% [exercise]
error_rate = None  # a number from 0 to 1
# %% [solution]
error_rate = 0.5
# %%
checks.test_error_rate(error_rate)
# %% [markdown]
# ## Hack the rewards
#
# ### Exercise 5: a right answer for the wrong reason
#
# Difficulty ●●○○○ · importance ●●●●● · 5 minutes
#
# Write a response to the question below. Its format and its answer must be right, but its observation must be useless for the answer. Write the observation in sentences that the oracle can read, such as "The red circle is big, moves left, no event."
# %%
from p2r.records import Question

WORLD = {"generation": 2}  # the world of these sentences, for the oracle
says = "What does the sign say?"
sign = Question(id="sign", problem=says, problem_type="OCR", answer="STOP", meta=WORLD)
workshop.show_question(sign)
# %% [exercise]
response = None  # <observation>…</observation> <think>…</think><answer>…</answer>
# %% [solution]
response = (
    "<observation>The red circle is big, moves left, no event.</observation> "
    "<think>Signs often say STOP.</think><answer>STOP</answer>"
)
# %%
checks.test_lucky(response, sign)
# %% [markdown]
# **What this shows.** A reward for the answer cannot tell this response from a good one. The reward of perception can.
#
# Now attack the reward of perception. This exercise has no video, so every observation is a guess. Edit the observation below until the verdict is *Sufficient: yes*. Try one sign ("The sign says STOP."), several signs, or many objects.
# %%
widgets.trace_editor(sign)
# %% [markdown]
# **What this shows.** A lucky guess is sufficient: the judge reads only the text and cannot know whether it is true. The oracle rejects an observation that contradicts itself, for example one with two different signs. It accepts a false observation if nothing in the text contradicts it. Only a judge that also sees the scene can reject such an observation, as the playground's judge `grounded` does. A language model as the judge knows the right answer and may accept a list of guesses. Therefore its prompt says that a claim alone is not evidence, and people check its verdicts (notebook 09).
#
# ## Summary
#
# Each process has a reward of three parts: accuracy, format and length. A reward is only as good as its judge. A group without differences teaches nothing. A right answer may be luck. Next: [06 · from scratch](06_from_scratch.ipynb).
