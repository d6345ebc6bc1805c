# %% [markdown]
# # 00 · Tour: look first, then think
#
# A model that answers a question about a video does two things: it perceives, then it reasons. These are the two *processes*. VideoP2R ([arXiv 2511.11113](https://arxiv.org/abs/2511.11113)) makes the model write down both, one after the other. Each process gets its own reward.
#
# **After this notebook you can**
# - name the two processes of a response and the segments that belong to each
# - say which tokens get which credit under GRPO and under PA-GRPO
# - split a response into its segments, and see what is wrong with a broken one
#
# **Needs** {measured}. Reads the tiny teacher that comes with p2r. Writes eight clips into `../runs/workshop`. You know: Python. New words are in the [glossary](../docs/teaching/glossary.md).
#
# Work through a notebook from top to bottom; `Shift`+`Enter` runs a cell. **Predict** asks for a guess before you run the next cell: write it down, then look. An exercise cell has a gap: replace `None`, or the line with `raise`, by your answer. Run the cell, then run the check below it. If you have no answer, the check says so, and the notebook goes on. An exercise marked *(open)* has no check: write your answer down and compare it with your neighbour's. The notebook with the solutions has a sample answer. Some exercises have a hint below the check: click *Hint* to open it. The circles ●○ say how difficult and how important an exercise is.
#
# The first code cell has the settings. `SCALE` is the size of models and data: "tiny" runs on a laptop. "quick" only tests that everything runs, so its numbers mean nothing. `SEED` sets the random numbers. `RUN` is the *run folder*: all notebooks keep their results in it.
#
# New words are explained where they first appear.
# %% [parameters]
SCALE = "tiny"  # "quick": a few steps; for GPUs: "3b-1x24gb", "7b-1x80gb", "7b-8x80gb"
SEED = 0
RUN = "../runs/workshop"
# %%
from p2r import workshop
from p2r.workshop import checks, widgets

run = workshop.begin(RUN, SCALE, SEED)
# %% [markdown]
# ## Toy numbers: four answers to one question
#
# A *rollout* is one response that the model writes during training. Several rollouts of one question are a *group*. Here is a group of four. Each rollout gets two *rewards*, numbers that say how good it is. Perception: was the **observation** sufficient to deduce the right answer? Reasoning: was the **answer** right?
#
# | rollout | observation | answer | |
# |---|---|---|---|
# | 1 | sufficient | right | |
# | 2 | sufficient | wrong | good observation, bad reasoning |
# | 3 | not sufficient | right | lucky |
# | 4 | not sufficient | wrong | |
#
# An *advantage* says how much better a rollout is than the average of its group. A positive advantage makes tokens more likely, a negative one makes them less likely. A *token* is a piece of text: a word or a part of a word. GRPO, the usual method, computes the advantage from the reward of the answer and gives it to *all* tokens of the rollout. PA-GRPO gives observation tokens the advantage of the perception reward, and all other tokens the advantage of the reasoning reward.
#
# **Predict:** which sign does the observation of the lucky rollout 3 get from GRPO, and which from PA-GRPO?
# %%
from p2r.rewards import credit_advantages

rewards = [[1, 1], [1, 0], [0, 1], [0, 0]]  # a row per rollout: perception, reasoning
pa_grpo = credit_advantages("process", rewards, group_size=4)  # each process its own
grpo = credit_advantages("outcome", rewards, group_size=4)  # all tokens that of the answer

print("rollout   PA-GRPO: observation, rest    GRPO: observation, rest")
for number, (mine, theirs) in enumerate(zip(pa_grpo, grpo, strict=True), 1):
    print(f"{number:>7}{mine[0]:>+17.2f}{mine[1]:>+11.2f}{theirs[0]:>+19.2f}{theirs[1]:>+11.2f}")
# %% [markdown]
# The advantages are ±0.87 because they are divided by the standard deviation of the group (notebook 06). Here only their signs matter.
#
# ### Exercise 1: praised and blamed
#
# Difficulty ●○○○○ · importance ●●●●● · 2 minutes
#
# Compare GRPO's column for the observation with the table of the four rollouts. `praised`: the rollouts whose observation is *not* sufficient, but gets a positive advantage. `blamed`: the rollouts whose observation is sufficient, but gets a negative advantage. Give two lists of rollout numbers.
# %% [exercise]
praised, blamed = None, None  # for example [1], [2, 4]
# %% [solution]
praised, blamed = [3], [2]
# %%
checks.test_praised_and_blamed(praised, blamed)
# %% [markdown]
# **What this shows.** GRPO rewards the observation of the lucky rollout 3 as much as that of rollout 1. It also punishes the good observation of rollout 2 for the bad reasoning that follows. PA-GRPO does neither. This is the main idea of the paper. The rest of the course applies it to every token of a real response.
#
# ## A real response
#
# The *playground* is a synthetic world of moving shapes whose true content is known (notebook 01). The *teacher* is the model that writes the examples for training (notebook 02). The teacher that comes with p2r is a tiny Qwen2.5-VL. It answers a question about a clip of the playground. The next cell shows the question, with the right answer after the arrow, and the frames that the teacher sees.
# %%
from p2r import data, plots
from p2r.formats import read_questions
from p2r.playground.splits import write_split
from p2r.video import sample_frames

folder = run.path("data", "train")
world = run.recipe.playground.generation
question = list(read_questions(write_split(folder, "train", 8, world)))[6]
frames = sample_frames(folder / question.path, **data.eval_settings(run.recipe.video))
workshop.show_question(question)
plots.contact_sheet(frames)
# %%
from p2r.engines import Request, Sampling, load_engine

engine = load_engine(run.recipe, run.recipe.models.teacher)
request = Request("tour", question, frames)
sampling = Sampling(max_tokens=run.recipe.generate.max_tokens)
completion = next(iter(engine.generate([request], sampling)))
print(completion.text)
# %% [markdown]
# The response has three segments. `observation` is the perception process; `think` and `answer` are the reasoning process. Compare the response with the frames and the right answer. The teacher is tiny: it may describe the wrong object, and its thinking or its answer may be wrong. A response can have the right form and still be false.
#
# Training also rewards the form: each process earns a *format reward* if its tags are correct. `parse` splits any text into segments and lists the faults of its form.
#
# **Predict:** if the tag that closes the observation is misspelt, which process loses its format reward?
# %%
from p2r.template import parse

broken = completion.text.replace("</observation>", "</<observation>")
for text in (completion.text, broken):
    parsed = parse(text)
    print(f"format: {parsed.format_ok}\nproblems: {parsed.problems}\nanswer: {parsed.answer!r}\n")
# %% [markdown]
# **What this shows.** Only perception loses its format reward, and the answer is still read. One fault does not hide the other segments.
#
# ### Exercise 2: break one process
#
# Difficulty ●○○○○ · importance ●●●○○ · 3 minutes
#
# Write a response whose perception has the right format and whose reasoning has a wrong format. Look at the tags of the response above.
# %% [exercise]
response = None  # a text in quotes
# %% [solution]
response = "<observation>The red circle is big, moves left.</observation> <answer>B</answer>"
# %%
checks.test_broken_response(response)
# %% [hint]
# Reasoning has two segments. Copy the form of the response above and damage only that part.
# %% [markdown]
# The next widget holds a response to the question above. Edit it: its parts, the process of every token and the verdict of the *judge* change as you type. The judge decides whether the observation is sufficient (notebook 03). Can you write an observation for which the verdict says *Sufficient: yes*? Describe the object that the question asks about, in a sentence like "The red circle is big, moves left, no event." The order of its parts is always the same: name, size, motion, event.
# %%
widgets.trace_editor(question, engine.tokenizer)
# %% [markdown]
# ## Which token gets which credit
#
# Which tokens get which advantage is called *credit*. Suppose that the text of the teacher is rollout 3 of the toy group, the lucky one. Then each of its tokens gets this advantage:
# %%
import torch

from p2r.rewards import spread_advantages
from p2r.template import perception_length

tokens = [engine.tokenizer.decode([token]) for token in completion.token_ids]
border = torch.tensor([perception_length(engine.tokenizer, completion.token_ids)])
mask = torch.ones(1, len(tokens))  # 1: a token of the response
credit = {
    name: spread_advantages(torch.tensor(advantages[2:3]), border, mask)[0].tolist()
    for name, advantages in (("GRPO", grpo), ("PA-GRPO", pa_grpo))
}
print(f"{len(tokens)} tokens, the first {border.item()} belong to perception")
plots.token_credit(tokens, credit, "The lucky rollout: advantage of every token")
# %% [markdown]
# **What this shows.** GRPO makes the insufficient observation more likely, together with the right answer. PA-GRPO makes the same tokens less likely. The border between the two processes is after the token that ends `</observation>`.
#
# ## Summary
#
# A response is perception (`observation`) followed by reasoning (`think`, `answer`). PA-GRPO scores the two separately and gives each token the advantage of its own process. The notebooks build this, one part each:
#
# | | notebook | what you do | writes into the run |
# |---|---|---|---|
# | 01 | [videos to frames](01_frames.ipynb) | see what sampling loses | `data/` |
# | 02 | [CoT generation](02_generation.ipynb) | let a teacher write responses (*traces*) | `generate.jsonl` |
# | 03 | [filtering](03_filtering.ipynb) | keep right answers with sufficient observations | `sft.jsonl`, `funnel.json` |
# | 04 | [SFT](04_sft.ipynb) | let the base model imitate the kept traces | `sft/model` |
# | 05 | [rewards and judges](05_rewards.ipynb) | build the rewards, then hack them | |
# | 06 | [from scratch](06_from_scratch.ipynb) | write PA-GRPO | |
# | 07 | [training](07_training.ipynb) | train, and vary one setting at a time | `pa_grpo/model` |
# | 08 | [evaluation](08_evaluation.ipynb) | measure, and compare models question by question | `eval/`, `cases.parquet` |
# | 09 | [case studies](09_cases.ipynb) | read and label cases | `labels.jsonl` |
# | 10 | [on GPUs](10_gpus.ipynb) | plan and start a real run | |
#
# You can start with any notebook. If it needs a result of an earlier notebook and does not find it, it makes the result first.
