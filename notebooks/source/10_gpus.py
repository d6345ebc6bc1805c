# %% [markdown]
# # 10 · On GPUs: plan a real run, then start it
#
# The commands that trained the tiny models are also the commands for Qwen2.5-VL: only the recipe changes. The recipes for GPUs have not been run on a GPU yet. A GPU costs money by the hour, so plan first: memory, time and the price of the judge. The last cell starts the run if it finds a GPU, your questions (for training and for the evaluation) and the key of the judge. Otherwise it only prints the commands.
#
# **After this notebook you can**
# - compute the memory of a training, and say what adapters change
# - say what the judge will cost
# - start the stages on one GPU or on several
#
# **Needs** {measured}. This is only for the plan. The run itself needs one GPU of 24 GB (3B with adapters) or 80 GB (7B), your own questions with videos for training and evaluation, and a judge. Reads no earlier results. Writes only if the run starts. You know: Python. New words are in the [glossary](../docs/teaching/glossary.md).
# %% [parameters]
SCALE = "3b-1x24gb"  # or "7b-1x80gb", "7b-8x80gb"
SEED = 0
RUN = "../runs/gpu"
QUESTIONS = None  # a file of questions, for example Video-R1-260k.json
DATA_ROOT = None  # the folder of their videos
TEST = None  # a file of held-out questions, with videos in the same folder
# %%
import torch

from p2r.runs.recipe import load_recipe
from p2r.training.budget import plan_stages
from p2r.training.plan import describe_plan
from p2r.workshop import checks
from p2r.workshop.notebook import GPUS

recipe = load_recipe(SCALE)
cards = GPUS.get(SCALE.partition("+")[0], 1)
print(f"recipe {recipe.name} for {cards} GPU(s); this machine has {torch.cuda.device_count()}")


# %% [markdown]
# ## Toy numbers: the memory of a weight
#
# A weight in bfloat16 takes 2 bytes. A weight that is trained with AdamW takes 16: 4 for the weight in float32, 4 for its gradient, and 8 for the two running means of AdamW. *Adapters* (LoRA) are small matrices that are trained in place of all weights; the other weights stay *frozen*.
#
# Qwen2.5-VL-7B has 8.3 billion weights with its vision tower, and the 3B model has 3.75 billion.
#
# **Predict:** how many GB do the weights of the 7B model need, only to sample? And to train all of them?
#
# ### Exercise 1: training memory
#
# Difficulty ●●○○○ · importance ●●●●○ · 5 minutes
#
# `parameters` is the number of all weights. `trained` of them are trained with AdamW, and the rest is frozen in bfloat16. Return the bytes, without activations.
# %% [exercise]
def training_bytes(parameters: float, trained: float) -> float:
    """Return the bytes of weights, gradients and optimiser states."""
    raise NotImplementedError


# %% [solution]
def training_bytes(parameters: float, trained: float) -> float:
    """Return the bytes of weights, gradients and optimiser states."""
    return 2 * (parameters - trained) + 16 * trained


# %%
training_bytes = checks.test_training_bytes(training_bytes)
for name, parameters, trained in (
    ("7B, all weights", 8.3e9, 8.3e9),
    ("7B, adapters of rank 64", 8.3e9, 1.6e8),
    ("3B, adapters of rank 32", 3.75e9, 6e7),
):
    print(f"{name:>24}: {training_bytes(parameters, trained) / 2**30:6.1f} GiB")
# %% [markdown]
# **What this shows.** One GiB is 2³⁰ bytes. To sample, the 7B model needs 8.3 × 2 = 16.6 GB, or 15.5 GiB. To train all its weights it needs 124 GiB, more than one GPU of 80 GB has. So eight GPUs share weights, gradients and optimiser states. ZeRO-3 and FSDP2 are two methods to do this. With adapters, the training fits on one GPU. *Activations* are the values that each layer computes and keeps for the gradient. Activations and rollouts need additional memory: the plan below counts it.
#
# ## The plan
#
# **Predict:** which stage takes most hours: generation, SFT or RL?
# %%
from p2r.cli.tables import budget_table, make_console

budget = plan_stages(recipe, cards)
for line in describe_plan(budget.rl):
    print(line)
make_console().print(budget_table(budget))
# %% [markdown]
# **What this shows.** Generation takes most hours: the teacher is larger than the model, and it answers all 260,000 questions. Each stage has its own peak of memory. In RL, the policy shares its GPU with vLLM, the library that samples. Times are estimates (±40 %). They are for the amounts of the paper: 260,000 questions and 1,000 steps. The time of generation and SFT grows with the number of questions. The commands below train only 100 steps of RL.
#
# ### Exercise 2: rollouts per GPU
#
# Difficulty ●○○○○ · importance ●●○○○ · 2 minutes
#
# A step has 7 prompts with 8 rollouts each. The rollouts are divided equally between 8 GPUs. How many rollouts does each GPU sample in a step?
# %% [exercise]
per_gpu = None  # a number of rollouts
# %% [solution]
per_gpu = 7 * 8 // 8
# %%
checks.test_rollouts_per_gpu(per_gpu, prompts=7, group_size=8, gpus=8)


# %% [markdown]
# ### Exercise 3: the price of the judge
#
# Difficulty ●●○○○ · importance ●●●●○ · 5 minutes
#
# A judge reads every rollout of every step. `rollouts` is the number of rollouts of one step, and `steps` the number of steps. `tokens` is a pair: the input and the output tokens of one call. `price` is a pair too: the dollars for a million input tokens and for a million output tokens. Return the dollars of the whole training. Equal observations are judged only once, so the true cost is lower.
# %% [exercise]
def judge_dollars(rollouts: int, steps: int, tokens: tuple, price: tuple) -> float:
    """Return the most dollars that the judge of a training costs."""
    raise NotImplementedError


# %% [solution]
def judge_dollars(rollouts: int, steps: int, tokens: tuple, price: tuple) -> float:
    """Return the most dollars that the judge of a training costs."""
    each = tokens[0] * price[0] + tokens[1] * price[1]
    return rollouts * steps * each / 1_000_000


# %%
judge_dollars = checks.test_judge_dollars(judge_dollars)
print(f"1,000 steps of 56 rollouts: ${judge_dollars(56, 1000, (600, 120), (3.0, 15.0)):.0f}")
# %% [markdown]
# **What this shows.** The printed price assumes 600 input and 120 output tokens for each call, at 3 and 15 dollars per million. The plan above assumes shorter calls, so it is cheaper. Multiply the hours of RL in the plan by the price of your GPU: the judge can cost more than the GPU. `judging.budget` in the recipe is a hard limit in dollars. A judge on your own machine costs nothing per call: `p2r serve --judge` starts one, and a recipe with `+local-judge` after its name uses it.
#
# ## Is everything there?
#
# The *dry run* checks everything that needs no weights of a model: settings, questions, videos, keys.
# %%
from pathlib import Path

from p2r.errors import DataError, EngineError, UserError
from p2r.training.dry_run import dry_run, note_missing_key

try:
    file, root = (Path(path) if path else None for path in (QUESTIONS, DATA_ROOT))
    _, notes = dry_run(recipe, questions=file, data_root=root)
except (UserError, EngineError, DataError) as error:
    notes = [str(error)]
for note in notes:
    print("-", note)
keyed = not note_missing_key(recipe.rl.judge)
ready = torch.cuda.is_available() and None not in (QUESTIONS, DATA_ROOT, TEST) and keyed
print("ready to run" if ready else "not ready: the next cell prints the commands")
# %% [markdown]
# ## Run
#
# Every stage is one command. You can stop it at any time; the same command continues. To run the commands in a terminal, go to the folder of this notebook first, because their paths start there. On several GPUs, `accelerate launch` starts the training; vLLM in generation and evaluation finds all GPUs by itself.
# %%
import shlex
import subprocess
import sys

run = ["--run", RUN]
questions, test = str(QUESTIONS or "QUESTIONS.json"), str(TEST or "TEST.json")
begin = ["--recipe", SCALE, "--questions", questions, "--data-root", str(DATA_ROOT or "VIDEOS")]
start = [sys.executable, "-m", "p2r"]
many = ["accelerate", "launch", "--config_file", "../configs/zero3.yaml", "-m", "p2r"]
train = many if cards > 1 else start
commands = [
    [*start, "generate", *run, *begin],
    [*start, "filter", *run],
    [*train, "sft", *run],
    [*train, "rl", *run, "--set", "rl.steps=100"],
    [*start, "eval", "run", *run, "--model", "pa_grpo", "--questions", test],
]
for command in commands:
    print(shlex.join(["python" if part == sys.executable else part for part in command]))
    if ready:
        subprocess.run(command, check=True)
# %% [markdown]
# **What this shows.** These are the commands of the tiny models with another recipe. In a notebook they run as subprocesses. So a crash on the GPU does not end the notebook, and a training can use several GPUs.
#
# ## Faster, larger
#
# | to … | do |
# |---|---|
# | sample faster | the recipes for GPUs sample with vLLM inside the training (`rl.rollouts=vllm`); `p2r serve --rollouts` moves it to other GPUs |
# | judge without a price per call | `p2r serve --judge`, and the recipe `qwen2.5-vl-3b-1x24gb+local-judge` |
# | generate on several machines | `p2r generate --ray` spreads the questions over a Ray cluster |
# | train on several GPUs | `configs/zero3.yaml`, `configs/zero2.yaml` or `configs/fsdp2.yaml`; one batch size, any number of GPUs |
# | look at the results | `p2r app RUN`, or notebooks 08 and 09 with `SCALE` and `RUN` set to those of this run |
#
# **Predict:** you try one stage with 20 questions first, and it works. What could still go wrong with all questions?
# %% [hint]
# Think of the longest prompt, of broken files, of budgets and of the disk.
# %% [markdown]
# **What this shows.** 20 questions do not show what is rare or what adds up. A very long prompt can need more memory than all prompts before it. Some of the video files are broken. The budget of the judge or the time of the rented GPU ends. The disk is full.
#
# ### Exercise 4: your own plan (open)
#
# Difficulty ●●○○○ · importance ●●●●● · 15 minutes
#
# Choose a GPU that you can rent. Set SCALE in the first code cell, run the cells of the plan again, and write down: the hours of each stage, the dollars for the GPU, the dollars for the judge, and what you would try first with 20 questions.
# %% [sample]
# **Sample answer.** One GPU of 24 GB, recipe `qwen2.5-vl-3b-1x24gb`, all questions. The plan says about 100 hours for generation, 75 for SFT, 45 for RL and 8 for the evaluation: 230 hours. At an assumed price of 0.50 dollars per hour, the GPU costs about 115 dollars. The judge costs at most 607 + 131 + 49 = 787 dollars, more than the GPU. I would first run all five commands with 20 questions and 2 steps of RL, and read the 20 cases.
# %% [markdown]
# ## Summary
#
# Before you rent a GPU, plan memory, hours and dollars. The commands are the same for tiny and for large models; only the recipe differs. Read cases, not only scores.
