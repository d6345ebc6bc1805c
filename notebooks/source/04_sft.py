# %% [markdown]
# # 04 · SFT: the base learns to look first
#
# The base model can see, but it answers directly. *SFT* (supervised fine-tuning) trains a model to repeat given responses word by word. A short SFT on the kept traces teaches the template.
#
# **After this notebook you can**
# - say which tokens the loss counts, and write that loss
# - read the loss curve of a fine-tuning on traces
# - compare the base and the SFT model on held-out scenes, that is, on scenes that no training has seen
#
# **Needs** {measured}; two minutes more if you have not run notebooks 02 and 03. Reads `sft.jsonl`. Writes `sft/model` and `eval/`.
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
# The *loss* is the number that training makes smaller: it is large where the model gave the right token a small probability. An example is a prompt (with the tokens of the video) followed by a response. Each token has a *label*: the token that the model should predict. Tokens with the label −100 do not count in the loss.
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
# **What this shows.** The loss counts the response and the token that ends the turn. Without that last token a model never learns to stop.
#
# ### Exercise 1: the labels
#
# Difficulty ●○○○○ · importance ●●●●○ · 5 minutes
#
# `prompt` and `response` are lists of token ids, `end` is the token that ends the turn. Return one label per token of the example.
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
# `log_probs` are the log-probabilities of the tokens, `labels` their labels. The loss is the mean of −log p over the tokens that count.
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
# **Predict:** the base knows all these words, but not this form. Will the loss fall slowly and evenly, or fast at first and then hardly at all?
# %%
keys = {"loss": "loss", "token accuracy": "mean_token_accuracy"}
with widgets.watch(run, "sft", keys, "SFT"):
    model = stages.sft(run)
metrics = workshop.read_metrics(run, "sft")
print(len(metrics), "steps of", run.recipe.sft.batch_size, "traces; model in", model)
# %%
plots.training(metrics, keys, "SFT")
# %% [markdown]
# **What this shows.** The loss starts low, because the base knows the words. The template takes about a dozen steps. The rest of the loss is the choice of the next fact to describe. The training stops early on purpose: exercise 3 asks how early. With more steps the model would copy more of the teacher's habit, and the reward would have less left to improve.
#
# ### Exercise 3: how often was each trace seen?
#
# Difficulty ●○○○○ · importance ●●○○○ · 2 minutes
#
# How many times did the training see each trace, on average? A step trains on `run.recipe.sft.batch_size` traces, `len(metrics)` is the number of steps, and `len(kept)` the number of traces.
# %% [exercise]
passes = None
# %% [solution]
passes = len(metrics) * run.recipe.sft.batch_size / len(kept)
# %%
checks.test_passes(passes, len(metrics), run.recipe.sft.batch_size, len(kept))


# %% [markdown]
# ### Exercise 4: from a loss to a probability
#
# Difficulty ●●○○○ · importance ●●○○○ · 3 minutes
#
# A loss is a mean of −log p (with the natural logarithm). Which probability did the model give to the right token on average? Average means here the geometric mean: the probability whose logarithm is the mean of all log p.
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
# ## Base and SFT model on held-out scenes
#
# Both models answer the same questions with the same prompt, at temperature 0. Sufficiency is the oracle's verdict on the observation. A response without a readable observation counts as not sufficient.
#
# **Predict:** the base answers with a single word, for any prompt. What is its accuracy if the answer must be inside `<answer>`? What is its accuracy if the prompt asks only for the answer (`base_direct`)? The SFT model must first write an observation and its thinking. Will it do better than `base_direct`?
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
Console().print(results_table(results))
# %%
plots.results(results, "Held-out scenes, with 95 % intervals")
# %% [markdown]
# **What this shows.** The model follows the template almost always, but far fewer of its observations are sufficient. The SFT set contained only sufficient observations, but the habit of leaving out facts has changed only in part. Imitation shows *that* good traces describe the right facts, not *why*. The reward has to teach that.
# %%
for case in cases[:2]:
    workshop.show_case(case)
# %% [markdown]
# ## Summary
#
# The loss counts only the response. SFT teaches the form quickly, and the habit only in part. Next: [05 · rewards and judges](05_rewards.ipynb).
