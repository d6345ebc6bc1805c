# %% [markdown]
# # 07 · PA-GRPO training: watch it, vary it
#
# In each step, the model writes eight responses to each of several questions. An observation that earns more than the average of its group becomes more likely. Thinking and answer that earn more than the average become more likely.
#
# **After this notebook you can**
# - read the curves of a reinforcement learning run while it trains
# - change one setting at a time and compare the runs
# - say which groups gave a signal, and look into one
#
# **Needs** {measured}. Without notebooks 02 to 04, the computing takes about a minute more. Reads `sft/model`. Writes `pa_grpo/model`, its metrics and rollouts, and `variants/`. You know: Python and NumPy. New words are in the [glossary](../docs/teaching/glossary.md).
# %% [parameters]
SCALE = "tiny"  # "quick": a few steps; "qwen2.5-vl-3b-1x24gb": one GPU (p2r recipe list: more)
SEED = 0
RUN = "../runs/workshop"
# %%
from p2r import plots, stages, workshop
from p2r.workshop import checks, widgets
from p2r.workshop.variants import last_numbers

run = workshop.begin(RUN, SCALE, SEED)
workshop.need(run, "sft model")
settings = run.recipe.rl
# %% [markdown]
# ## Toy numbers: a rare success
#
# The next cell computes the advantages of four groups of perception rewards. In the last group one reward is unknown (`nan`).
#
# **Predict** the advantages of the rewards 0, 0, 0, 0, of 1, 1, 1, 1 and of 1, 0, 0, 0.
# %%
import numpy as np

from p2r.rewards import collapsed, process_advantages

reasoning = [1, 1, 0, 0]
for perception in ([0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0], [1, 0, np.nan, 0]):
    rewards = np.array([perception, reasoning]).T  # a row per rollout
    advantages = process_advantages(rewards, group_size=4)[:, 0].round(2).tolist()
    print(perception, "→", advantages, "collapsed" if collapsed(rewards, 4)[0, 0] else "")
# %% [markdown]
# **What this shows.** The rarer a success is, the larger is its advantage. An unknown reward gets the advantage 0. A group of equal rewards teaches nothing, whether all are good or all are bad.
#
# ### Exercise 1: one of eight
#
# Difficulty ●●○○○ · importance ●●○○○ · 4 minutes
#
# One of eight rollouts is right (reward 1), the others are wrong (reward 0). Compute the advantage of the right one, to two digits after the point: its reward minus the mean, divided by the standard deviation. Divide by n − 1 in the standard deviation.
# %% [exercise]
advantage = None  # a number
# %% [solution]
advantage = (1 - 1 / 8) / (((7 / 8) ** 2 + 7 * (1 / 8) ** 2) / 7) ** 0.5
# %%
checks.test_rare_advantage(advantage)
# %% [markdown]
# ### Exercise 2: where only PA-GRPO learns
#
# Difficulty ●●○○○ · importance ●●●●○ · 3 minutes
#
# Write the rewards of four rollouts, one row (perception, reasoning) per rollout. Choose them so that GRPO learns nothing and PA-GRPO learns something.
# %% [exercise]
group_rewards = None  # for example [[1, 0], [1, 0], [1, 0], [1, 0]]
# %% [solution]
group_rewards = [[1, 1], [0, 1], [1, 1], [0, 1]]  # every answer is right, half of them by luck
# %%
checks.test_group_rewards(group_rewards)
# %% [markdown]
# ## Train
#
# At the scale "tiny" the training has 40 steps. In each step, the model writes 8 rollouts for each of 8 questions. The rollouts are judged and scored. Then the model is updated once. The KL term keeps it near the SFT model. Before step 1 there is a *preflight*: the start model answers two questions, and p2r tries its longest example. A *micro-batch* is the part of a batch that goes through the model at once. *rss* is the main memory that the training uses. The curves move while the cell trains. The Stop button ends the training; run the cell again to continue from its last checkpoint.
#
# **Predict** for the run below: which of the two accuracies will rise more? How will the share of collapsed groups change?
# %%
accuracies = {name: f"{name}/accuracy" for name in ("perception", "reasoning")}
with widgets.watch(run, "pa_grpo", accuracies, "Sufficient observations, right answers"):
    model = stages.rl(run, "process")
metrics = workshop.read_metrics(run, "pa_grpo")
# %%
for measure, title in (
    ("accuracy", "Share of rollouts: sufficient observation, right answer"),
    ("collapse", "Share of groups without signal"),
    ("tokens", "Tokens of a response"),
):
    processes = {name: f"{name}/{measure}" for name in ("perception", "reasoning")}
    plots.training(metrics, processes, title).show()


# %% [markdown]
# **What this shows.** Each step has other questions, and sampling is random. So the curves of the first two figures are noisy, and 40 steps are few. Held-out scenes show what the training changed (notebook 08). The accuracy of perception rises more here, because it starts much lower. When a process gets good at its task, more of its groups collapse, because all their rollouts are right. The other process can still give a signal. The third figure shows whether the model learns to write more or less.
#
# ### Exercise 3: lost groups
#
# Difficulty ●●●○○ · importance ●●●○○ · 8 minutes
#
# A group is lost if neither process gives a signal. `rewards` is a NumPy array (N, 2): the columns are perception and reasoning, and NaN is unknown. The first `group_size` rows are the first group, and so on. For this exercise, a process gives a signal in a group if at least two of its rewards are known and the known ones are not all equal. Write `lost_share`: the share of lost groups, from 0 to 1.
# %% [exercise]
def lost_share(rewards: np.ndarray, group_size: int) -> float:
    """Return the share of groups without a signal from either process."""
    raise NotImplementedError


# %% [solution]
def lost_share(rewards: np.ndarray, group_size: int) -> float:
    """Return the share of groups without a signal from either process."""
    groups = rewards.reshape(-1, group_size, 2)
    lost = 0
    for group in groups:
        known = [[value for value in column if value == value] for column in group.T]
        lost += all(len(set(values)) < 2 for values in known)
    return lost / len(groups)


# %%
lost_share = checks.test_lost_share(lost_share)
# %% [hint]
# `rewards.reshape(-1, group_size, 2)` has the groups in its first dimension. `group.T` has the rewards of the two processes as rows. NaN is not equal to itself: `value == value` is False.
# %% [markdown]
# ## Inside one group
#
# The next table shows a group in which the two processes disagree: of all groups, it has the most rows in which A_P and A_R have different signs. There is a row for each rollout: the two rewards (R_P for perception, R_R for reasoning), the two advantages (A_P, A_R), and the observation. A dash is an unknown value.
# %%
from itertools import groupby
from textwrap import fill

from p2r.formats import read_cases

cases = list(read_cases(run.path("cases", "rl-pa_grpo.jsonl")))
groups = [list(g) for _, g in groupby(cases, lambda case: (case.trace.step, case.question.id))]
columns = ("perception", "reasoning", "perception_advantage", "reasoning_advantage")
numbers = [[[getattr(c, name) for name in columns] for c in group] for group in groups]
split = [sum((row[2] or 0) * (row[3] or 0) < 0 for row in rows) for rows in numbers]
best = split.index(max(split))  # the group with the most rows in which the signs differ
workshop.show_question(groups[best][0].question)
print("   R_P    R_R    A_P    A_R  observation")
for case, (looked, thought, *advantages) in zip(groups[best], numbers[best], strict=True):
    row = (looked.total, thought.total, *advantages)
    shown = "".join("      –" if number is None else f"{number:>+7.2f}" for number in row)
    text = case.trace.observation or "–"
    print(fill(text, 110, initial_indent=f"{shown}  ", subsequent_indent=" " * 30))
# %% [markdown]
# **What this shows.** Look at the rows in which A_P and A_R have different signs. With a positive A_P and a negative A_R, the observation is praised and the answer is blamed. With a negative A_P and a positive A_R, it is the reverse: often the answer was a lucky guess. GRPO would give A_R to all tokens of these rows.
#
# ## Vary one setting at a time
#
# `workshop.vary` trains again with other settings, from the same SFT model on the same questions. Each variant has a run folder of its own, and a finished variant is not trained again. These settings are worth a try:
#
# | setting | override | question |
# |---|---|---|
# | weight of the KL term | `rl.beta=0` | how far does the policy drift? |
# | size of a group | `rl.group_size=4` | how many groups are lost? |
# | length range | `rl.length_ranges={perception: [60, 120], reasoning: [10, 80]}` | do observations grow? |
# | errors of the judge | `rl.judge=noisy:0.3:oracle` | how much noise is too much? |
# | a judge that sees the scene | `rl.judge=grounded` | are fewer sentences false? |
# | credit | `rl.credit=outcome`, `rl.credit=shared` or `rl.credit=decoupled` | who learns to observe? |
#
# `outcome` is GRPO. `shared` gives all tokens the advantage of the sum of both rewards. `decoupled` gives all tokens the sum of both advantages.
#
# The next cell trains three variants, each for 12 steps only. Then it prints a table with the means of the last 5 steps: the accuracy of both processes, two shares of collapsed groups, and the mean KL term (`kl`), which says how far the policy has moved from the SFT model. `reasoning/collapse` is the share of groups in which the rewards of reasoning are equal: these groups are lost for GRPO. `joint/collapse` is the share of groups in which both rewards are equal: these groups are lost for PA-GRPO. At the end of a row are the settings that differ from the first row.
#
# **Predict:** three of ten verdicts are wrong. Does the model still learn to observe?
# %%
few = f"rl.steps={min(12, settings.steps)}"  # short trainings, for a first look
variants = workshop.vary(run, "rl", {
    "PA-GRPO": [few],
    "GRPO": [few, "rl.credit=outcome"],
    "noisy judge": [few, "rl.judge=noisy:0.3:oracle"],
})  # fmt: skip
workshop.compare(variants, "rl")
# %% [markdown]
# **What this shows.** Twelve steps of a few questions are a first look, not a result: two trainings with different seeds can differ as much. With a noisy judge, the measured accuracy of perception is the *judge's*, noise included. The formula of notebook 05 gives the true share t from the measured share: measured = 0.7 t + 0.3 (1 − t). By this formula, fewer observations are sufficient at the end than with the exact judge, but the curve still rises: the model still learns to observe.
#
# ### Exercise 4: your own variant (open)
#
# Difficulty ●●○○○ · importance ●●●●○ · 10 minutes
#
# Choose one row of the table of settings and write down what you expect. Then add a line with a name of your own to the cell that trains the variants, for example `"no KL": [few, "rl.beta=0"],`. Run the cell again and compare.
#
# %% [sample]
# **Sample answer.** I set `rl.beta=0` and expected a larger `kl`, because nothing keeps the policy near the SFT model. Compare the `kl` of the two rows. After 12 steps the accuracies differ by little: another seed could change them as much.
# %% [markdown]
# ### Exercise 5: which variant drifted most?
#
# Difficulty ●○○○○ · importance ●●○○○ · 2 minutes
#
# Give the name of the variant with the largest `kl` in the printed table, in quotes.
# %% [exercise]
drifted = None  # a name in quotes
# %% [solution]
kl = {name: row["kl"] for name, row in last_numbers(variants, "rl").items()}
drifted = max(kl, key=kl.get)
# %%
drift = {name: row["kl"] or 0.0 for name, row in last_numbers(variants, "rl").items()}
checks.test_best_variant(drifted, drift)
# %% [markdown]
# ## Summary
#
# There are two rewards and two advantages, each for its own tokens. A group is lost only if both rewards collapse. To learn what a setting does, change it alone, in a run folder of its own. Next: [08 · evaluation](08_evaluation.ipynb).
