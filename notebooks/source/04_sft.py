# %% [markdown]
# # 04 · SFT: the base imitates good traces
#
# The *base* is the model before any training in this project. The tiny base can see, and it knows the template. But it describes a few objects without regard to the question. *SFT* (supervised fine-tuning) trains a model to repeat given responses word by word. A short SFT on the kept traces shows it what good observations describe. A large base does not know the template: SFT teaches it the template too.
#
# **After this notebook you can**
# - say which tokens the loss counts, and write that loss
# - read the loss curve of a fine-tuning on traces
# - compare the base and the SFT model on held-out scenes, that is, on scenes that no training has seen
#
# **Needs** {measured}. Without notebooks 02 and 03, the computing takes about half a minute more. Reads `sft.jsonl`. Writes `sft/model` and `eval/`. You know: Python. New words are in the [glossary](../docs/teaching/glossary.md).
# %% [parameters]
SCALE = "tiny"  # "quick": a few steps; for GPUs: "3b-1x24gb", "7b-1x80gb", "7b-8x80gb"
SEED = 0
RUN = "../runs/workshop"
QUESTIONS = None  # a file of held-out questions; None: the playground's test split
# %%
from p2r import plots, stages, workshop
from p2r.pipeline import read_kept
from p2r.workshop import checks, widgets

run = workshop.begin(RUN, SCALE, SEED)
workshop.need(run, "sft set")
kept = read_kept(run)
print(len(kept), "traces to learn from")
# %% [markdown]
# ## Toy numbers: where is the loss?
#
# The *loss* is the number that training makes smaller: it is large where the model gave the right token a small probability. An example is a prompt (with the tokens of the video) followed by a response. Each token has a *label*. The label of a token that counts is the token's own id: the model must predict it from the tokens before it. Tokens with the label −100 do not count in the loss. (You do not shift the labels: the model does that inside.)
#
# **Predict:** which part of an example counts: all tokens, all except the video's tokens, or only the response?
# %%
from p2r import data
from p2r.training.sft import target
from p2r.video import FrameCache

case, settings = kept[0], data.train_settings(run.recipe.video)
processor = data.load_processor(run.recipe.models.base)
root = stages.find_data_root(run)
frames = data.read_frames(case.question, root=root, cache=FrameCache(None), **settings)
style = run.recipe.models.prompt
example = data.encode_example(processor, case.question, frames, target(case), style)
learnt = [token for token in example["labels"] if token != data.IGNORED]
print(f"{len(example['labels'])} tokens, {len(learnt)} with loss:")
print(processor.tokenizer.decode(learnt))


# %% [markdown]
# **What this shows.** The loss counts the response and the token that ends the turn, `<|im_end|>`. Without that last token a model never learns to stop.
#
# ### Exercise 1: the labels
#
# Difficulty ●○○○○ · importance ●●●●○ · 5 minutes
#
# `prompt` and `response` are lists of token ids. `end` is the id of the token that ends the turn. The example is the prompt, the response and `end`, in this order. Return a list with one label per token of the example.
# %% [exercise]
def labels(prompt: list[int], response: list[int], end: int) -> list[int]:
    """Return the labels of an example; -100 is a token without loss."""
    raise NotImplementedError


# %% [solution]
def labels(prompt: list[int], response: list[int], end: int) -> list[int]:
    """Return the labels of an example; -100 is a token without loss."""
    return [-100] * len(prompt) + response + [end]


# %%
labels = checks.test_labels(labels)


# %% [markdown]
# ### Exercise 2: the loss
#
# Difficulty ●●○○○ · importance ●●●●○ · 5 minutes
#
# `log_probs` has the log-probability log p that the model gave to each token of an example, and `labels` the label of each token. The loss is the mean of −log p over the tokens that count. At least one token counts.
# %% [exercise]
def masked_loss(log_probs: list[float], labels: list[int]) -> float:
    """Return the mean of -log p over the tokens whose label is not -100."""
    raise NotImplementedError


# %% [solution]
def masked_loss(log_probs: list[float], labels: list[int]) -> float:
    """Return the mean of -log p over the tokens whose label is not -100."""
    counted = [-p for p, label in zip(log_probs, labels, strict=True) if label != -100]
    return sum(counted) / len(counted)


# %%
masked_loss = checks.test_masked_loss(masked_loss)
# %% [markdown]
# ## Train
#
# The curves move while the cell trains. *Token accuracy* is the share of tokens that the model predicts as its first choice. The Stop button ends the training; run the cell again to continue from the last checkpoint.
#
# **Predict:** the base knows all these words and the template, but it would describe other objects. On which tokens of a trace is its loss large? Will the loss fall a lot?
# %%
keys = {"loss": "loss", "token accuracy": "mean_token_accuracy"}
with widgets.watch(run, "sft", keys, "SFT"):
    model = stages.sft(run)
metrics = workshop.read_metrics(run, "sft")
print(len(metrics), "steps of", run.recipe.sft.batch_size, "traces; model in", model)
# %%
plots.training(metrics, keys, "SFT")
# %% [markdown]
# **What this shows.** The loss starts low, because the base knows the words and the template. So it falls only a little, from about 0.06 to about 0.05. Most of the loss comes from the few tokens that choose the next object to describe. The training is short on purpose: exercise 3 asks how short. With more steps the model would learn better *which* facts the kept traces describe, and reinforcement learning would have less left to improve.
#
# ### Exercise 3: how often was each trace seen?
#
# Difficulty ●○○○○ · importance ●●○○○ · 2 minutes
#
# How many times did the training see each trace, on average? At the scale "tiny", a step trains on `run.recipe.sft.batch_size` traces. `len(metrics)` is the number of steps, and `len(kept)` the number of traces.
# %% [exercise]
passes = None  # a number, for example 2.5
# %% [solution]
passes = len(metrics) * run.recipe.sft.batch_size / len(kept)
# %%
checks.test_passes(passes, len(metrics), run.recipe.sft.batch_size, len(kept))


# %% [markdown]
# ### Exercise 4: from a loss to a probability
#
# Difficulty ●●○○○ · importance ●●○○○ · 3 minutes
#
# A loss is a mean of −log p (with the natural logarithm). Which probability did the model give to the right token on average? Here the average is the geometric mean: the probability whose logarithm is the mean of all log p.
# %% [exercise]
def mean_probability(loss: float) -> float:
    """Return the geometric mean of the probabilities of the right tokens."""
    raise NotImplementedError


# %% [solution]
def mean_probability(loss: float) -> float:
    """Return the geometric mean of the probabilities of the right tokens."""
    from math import exp

    return exp(-loss)


# %%
mean_probability = checks.test_mean_probability(mean_probability)
print(f"first step {mean_probability(metrics[0]['loss']):.0%}, last step", end=" ")
print(f"{mean_probability(metrics[-1]['loss']):.0%}")
# %% [markdown]
# **What this shows.** The first number is the base before it has learned anything: it already gives the words of a trace a high probability. In the scale "quick" both numbers are nearly equal, because two steps teach nothing.
#
# ## Base and SFT model on held-out scenes
#
# Both models answer the same questions with the same prompt, at temperature 0. Sufficiency is the oracle's verdict on the observation. A response without a readable observation counts as not sufficient. The table also has *format*, the share of responses that follow the template, *mismatch*, the share of answers that differ from the conclusion of the thinking, and *faithful*, the share of true sentences in the observations. The brackets are 95 % intervals: how uncertain a number is (notebook 08).
#
# **Predict:** which of the columns will SFT change most? `base_direct` is the base with a prompt that asks only for the answer. Will it do better or worse than the base that first writes an observation and its thinking?
# %%
from rich.console import Console

from p2r.cli.tables import results_table

base, results = run.recipe.models.base, {}
for name, path, style in (
    ("base", base, None),
    ("base_direct", base, "direct"),
    ("sft", str(model), None),
):
    cases, result = stages.evaluate(run, path, name, QUESTIONS, style=style)
    results[name] = result["metrics"]
columns = ("accuracy", "sufficiency", "format", "mismatch", "faithful")
Console().print(results_table(results, columns))
# %%
plots.results(results, "Held-out scenes, with 95 % intervals")
# %% [markdown]
# **What this shows.** Both models know the template. SFT changes *sufficiency* most: the share of sufficient observations rises from 48.0 to 56.5 %. See [results](../docs/results.md) for a larger run. `base_direct`, the row *base (direct answer)*, does much worse than the base: 24 % right answers, not 58 %. Without an observation, the model must guess most answers. The thinking uses only the observation, so more answers can be right too. The SFT set had only sufficient observations, but the habit of leaving out facts has changed only in part. Imitation shows which facts good traces describe. It does not show why these facts are needed. The reward has to teach the reason.
#
# The figure has two more measures. *exact* is the accuracy without credit for a part of an answer. *sufficient and true* is the share of observations that are sufficient and have no false sentence.
#
# The next cell shows two cases of the SFT model. Is each observation sufficient? Does the thinking use only facts of the observation?
# %%
for case in cases[:2]:
    workshop.show_case(case)
# %% [markdown]
# ## Summary
#
# The loss counts only the response. SFT teaches what a response looks like. It teaches only in part the habit of describing the needed facts. Next: [05 · rewards and judges](05_rewards.ipynb).
