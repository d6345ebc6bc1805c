# %% [markdown]
# # 06 · PA-GRPO from scratch
#
# You write the method yourself: where perception ends, the two rewards, the two advantages, the advantage of every token, the clipped loss, and one step of the training. Sampling, scoring and the loop are given. A check compares each of your parts with p2r. At the end your step trains a model twice: first with PA-GRPO, then with GRPO.
#
# **After this notebook you can**
# - write every equation of PA-GRPO as a few lines of code
# - say where GRPO and PA-GRPO differ in code: one line
# - train a model with your own loss and step, and read its curves
#
# **Needs** {measured}. Without notebooks 02 to 04, the computing takes about a minute more. Reads `sft/model`. Writes nothing. You know: Python, and PyTorch with `view`, `gather` and `torch.where`. New words are in the [glossary](../docs/teaching/glossary.md).
#
# An exercise cell holds a function with a gap. Fill the gap, run the cell, then run the check below it. The check prints "passed". If your function differs from p2r's, the check prints the first input on which the results differ, and both results. Until your function passes, the notebook goes on with p2r's function. To try again, run your cell and then the check.
# %% [parameters]
SCALE = "tiny"  # "quick": a few steps; for GPUs: "3b-1x24gb", "7b-1x80gb", "7b-8x80gb"
SEED = 0
RUN = "../runs/workshop"
STEPS = 20  # of each of the two trainings at the end
# %% [define]
import copy
from dataclasses import dataclass
from functools import partial
from math import nan

import torch
from torch.nn.functional import pad

from p2r import data, plots, stages, workshop
from p2r.judges import make_judge
from p2r.scoring import accuracy
from p2r.template import banned_token_ids, parse
from p2r.video import FrameCache
from p2r.workshop import checks, widgets

# %%
run = workshop.begin(RUN, SCALE, SEED)
start = workshop.need(run, "sft model")
settings = run.recipe.rl
GROUP, EPSILON, BETA = settings.group_size, settings.epsilon, settings.beta
TEMPERATURE = settings.temperature
# %% [markdown]
# ## Toy numbers: where does perception end?
#
# The response of a model is a list of tokens. All tokens up to the end of `</observation>` belong to perception, all later tokens to reasoning. The number of perception tokens is called the *border*.
#
# **Predict:** a model writes `</observation> <think>`, and its tokenizer splits this text into the tokens `</observation` and `> <think>`. To which process does the second token belong?
# %%
for tail in (["</observation>", " <think>"], ["</observation", "> <think>"]):
    tokens = ["<observation>", "Two.", *tail]
    ends, place = "".join(tokens).index("</observation>") + len("</observation>"), 0
    for token in tokens:
        print(f"{token!r:>18} starts at {place:>2}; perception ends at {ends}")
        place += len(token)


# %% [markdown]
# **What this shows.** In the second response, `> <think>` starts at 30 and perception ends at 31: the token starts inside the tag. A token belongs to the process of its *first* character, so this token is perception. In the first response, ` <think>` starts where perception ends, so it is reasoning. The border is 3 in the first response and 4 in the second.
#
# ### Exercise 1: the border
#
# Difficulty ●●○○○ · importance ●●●●● · 10 minutes
#
# Write `border(tokens)`: the number of perception tokens of a response. `tokens` is a list of texts that make up the response. A tag may be spread over several tokens, and a token may hold parts of two tags.
#
# - Perception ends with the first `</observation>` that comes after the first `<observation>`.
# - Count every token that starts before this end, also the tokens before `<observation>`.
# - Return 0 if the response has no `<observation>`, or no `</observation>` after it. Then all tokens belong to reasoning.
# %% [exercise]
def border(tokens: list[str]) -> int:
    """Return how many leading tokens of a response belong to perception."""
    raise NotImplementedError


# %% [solution]
def border(tokens: list[str]) -> int:
    """Return how many leading tokens of a response belong to perception."""
    text = "".join(tokens)
    begin = text.find("<observation>")
    found = text.find("</observation>", begin)
    if begin < 0 or found < 0:
        return 0
    end, place = found + len("</observation>"), 0
    for count, token in enumerate(tokens):
        if place >= end:
            return count
        place += len(token)
    return len(tokens)


# %%
border = checks.test_border(border)


# %% [hint]
# Join the tokens to one text. `text.find(tag, start)` returns the place of a tag at or after `start`, or −1. Then go through the tokens and add up their lengths: this gives the place where each token starts.
# %% [markdown]
# ## The reward of a process (eq. 5)
#
# R = accuracy + format + length, for each of the two processes.
#
# - **accuracy**: for perception the judge's verdict (1 if the observation is sufficient, else 0), for reasoning the score of the answer, from 0 to 1
# - **format**: 1 if the tags of the process are right, else 0
# - **length**: 0.2 if accuracy *and* format are above zero *and* the number of tokens is in the range (both ends belong to the range), else 0
#
# **Predict:** why is the length reward tied to the other two? What would a model learn if it were not?
#
# ### Exercise 2: the reward
#
# Difficulty ●○○○○ · importance ●●●●● · 5 minutes
#
# Write `reward(...)`. `accuracy` is a number from 0 to 1, or None if it is unknown. `format_ok` is True or False. `tokens` is the number of tokens of the process, `length_range` the pair of the shortest and the longest length, and `bonus` the length reward. Return the sum R. An unknown accuracy gives an unknown reward (None).
# %% [exercise]
def reward(accuracy, format_ok, tokens, length_range, bonus=0.2):
    """Return the reward of one process of one rollout, eq. (5); None if it is unknown."""
    raise NotImplementedError


# %% [solution]
def reward(accuracy, format_ok, tokens, length_range, bonus=0.2):
    """Return the reward of one process of one rollout, eq. (5); None if it is unknown."""
    if accuracy is None:
        return None
    low, high = length_range
    earns_length = accuracy > 0 and format_ok and low <= tokens <= high
    return accuracy + format_ok + (bonus if earns_length else 0.0)


# %%
reward = checks.test_reward(reward)


# %% [markdown]
# **What this shows.** Length alone earns nothing, so a model cannot collect reward with empty words. Unknown is not zero: a judge that gives no verdict must not punish the observation.
#
# ## Advantages within a group (eq. 6)
#
# A = (R − mean R) / std R, over the rollouts of one question, for each process separately.
#
# **Predict** the advantages of the rewards 1, 0, 0, 0, and of 1, 1, 1, 1.
#
# ### Exercise 3: the advantages
#
# Difficulty ●●●○○ · importance ●●●●● · 15 minutes
#
# `rewards` is a tensor of floats (N, 2): a row for each rollout, the columns are perception and reasoning. The first `group_size` rows are the first group, the next `group_size` rows the second, and so on. Return a tensor of the same shape. Use the unbiased standard deviation (divide by n − 1) and add 0.0001 to it, so that nothing is divided by 0. Treat the two columns separately. An unknown reward (NaN) is left out of mean and standard deviation, and its advantage is 0. If a column of a group has only one known reward, its advantage is 0 too.
# %% [exercise]
def advantages(rewards: torch.Tensor, group_size: int) -> torch.Tensor:
    """Return the advantages (N, 2) of both processes within their groups, eq. (6)."""
    raise NotImplementedError


# %% [solution]
def advantages(rewards: torch.Tensor, group_size: int) -> torch.Tensor:
    """Return the advantages (N, 2) of both processes within their groups, eq. (6)."""
    groups = rewards.view(-1, group_size, 2)
    known = ~groups.isnan()
    count = known.sum(1, keepdim=True)
    mean = groups.nanmean(1, keepdim=True)
    off = torch.where(known, groups - mean, 0.0)
    std = (off.square().sum(1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    scaled = off / (std + 1e-4)
    return torch.where(count < 2, 0.0, scaled).view_as(rewards)


# %%
advantages = checks.test_advantages(advantages)
toy = torch.tensor([[1.0, 1], [0, 1], [0, 1], [0, 1]])  # 1, 0, 0, 0 and 1, 1, 1, 1
print(advantages(toy, group_size=4))


# %% [hint]
# `rewards.view(-1, group_size, 2)` has the groups in its first dimension. `nanmean` ignores NaN. For the standard deviation, set the difference from the mean to 0 where the reward is unknown, add the squares, and divide by the number of known rewards minus 1.
# %% [markdown]
# **What this shows.** The one success gets 1.5 and the three failures −0.5. Equal rewards get 0: such a group teaches nothing.
#
# ### Exercise 4: GRPO
#
# Difficulty ●○○○○ · importance ●●●●○ · 5 minutes
#
# GRPO knows one reward, that of reasoning. All tokens get its advantage. So both columns of the result are the reasoning column of `advantages`. Write `grpo_advantages` with the help of your `advantages`.
# %% [exercise]
def grpo_advantages(rewards: torch.Tensor, group_size: int) -> torch.Tensor:
    """Return GRPO's advantages (N, 2): both columns are those of the answer."""
    raise NotImplementedError


# %% [solution]
def grpo_advantages(rewards: torch.Tensor, group_size: int) -> torch.Tensor:
    """Return GRPO's advantages (N, 2): both columns are those of the answer."""
    return advantages(rewards, group_size)[:, [1, 1]]


# %%
grpo_advantages = checks.test_grpo_advantages(grpo_advantages)
# %% [markdown]
# The two methods differ only in these two columns of advantages. In the next widget, change the rewards of four rollouts and compare the columns of `process` (PA-GRPO) and `outcome` (GRPO). *Rest* means the tokens of thinking and answer. The other columns are more ways to give credit; notebook 07 explains two of them.
# %%
widgets.group_credit()


# %% [markdown]
# **What this shows.** Under `outcome` (GRPO) both columns of a rollout are equal. Under `process` (PA-GRPO) an observation can be praised while the answer after it is blamed.
#
# ## Every token gets its advantage
#
# ### Exercise 5: spread the advantages
#
# Difficulty ●●○○○ · importance ●●●●○ · 10 minutes
#
# `advantages` (N, 2) has the two advantages of each response. `borders` (N,) has its number of perception tokens. `mask` (N, T) is 1 on the tokens of the response, and 0 on the padding after them. Return a tensor (N, T): the advantage of every token, 0 on padding.
# %% [exercise]
def spread(advantages, borders, mask):
    """Return the advantage of every token, (N, T)."""
    raise NotImplementedError


# %% [solution]
def spread(advantages, borders, mask):
    """Return the advantage of every token, (N, T)."""
    places = torch.ones_like(mask).cumsum(1) - 1
    looked = places < borders[:, None]
    return torch.where(looked, advantages[:, :1], advantages[:, 1:]) * mask


# %%
spread = checks.test_spread(spread)


# %% [hint]
# Number the places of the tokens from 0 with `torch.arange`. A place is perception if it is smaller than the border of its row; `borders[:, None]` has the shape (N, 1). `torch.where` chooses between two tensors.
# %% [markdown]
# ## The loss (eq. 7)
#
# π is the probability that the model gives to a token now, and π_old is its probability when the token was sampled. For every token, with the ratio ρ = π / π_old and the advantage A, the method maximises
#
# min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) − β KL
#
# The first term rewards a token with a positive A for becoming more likely, but not beyond 1 + ε. The KL term, with the weight β, keeps the model near the SFT model. The loss is minus the mean of the whole expression: first the mean over the tokens of each response, then the mean over the responses.
#
# **Predict:** A is positive and ρ is already 1.5. Does the clipped term still push the token up?
#
# ### Exercise 6: the clipped term
#
# Difficulty ●●○○○ · importance ●●●●○ · 5 minutes
#
# Write the first term, min(ρ A, clip(ρ, 1 − ε, 1 + ε) A). `ratio` is ρ and `advantage` is A, two tensors of the same shape; `epsilon` is a number. `tensor.clamp(low, high)` clips.
# %% [exercise]
def clipped(ratio, advantage, epsilon):
    """Return the clipped term of every token."""
    raise NotImplementedError


# %% [solution]
def clipped(ratio, advantage, epsilon):
    """Return the clipped term of every token."""
    return torch.min(ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage)


# %%
clipped = checks.test_clipped(clipped)
ratios = torch.linspace(0, 2, 41)
curves = {
    f"advantage {sign:+}": clipped(ratios, torch.full_like(ratios, sign), 0.2).tolist()
    for sign in (1.0, -1.0)
}
plots.lines(ratios.tolist(), curves, "The clipped term", "ratio ρ")


# %% [markdown]
# **What this shows.** Where the line is flat, the gradient is zero: a token that has moved far enough in the wanted direction is left alone. A token that has moved in the *wrong* direction is still corrected.
#
# ### Exercise 7: the KL term
#
# Difficulty ●●○○○ · importance ●●●○○ · 5 minutes
#
# The *policy* is the model that is trained. The *reference* is a frozen copy of the SFT model. For each token, with r = log π_ref − log π, the KL term is exp(r) − r − 1. It is never negative, and it is 0 only if both probabilities are equal. `log_probs` is log π and `reference` is log π_ref, two tensors of the same shape.
# %% [exercise]
def kl(log_probs, reference):
    """Return the KL term of every token from the log-probs of policy and reference."""
    raise NotImplementedError


# %% [solution]
def kl(log_probs, reference):
    """Return the KL term of every token from the log-probs of policy and reference."""
    ahead = reference - log_probs
    return ahead.exp() - ahead - 1


# %%
kl = checks.test_kl(kl)


# %% [markdown]
# ### Exercise 8: the loss
#
# Difficulty ●●●○○ · importance ●●●●● · 10 minutes
#
# Put the two terms together, with your `clipped` and `kl`. All tensors are (N, T): a row for each response, a column for each token. `log_probs`, `old` and `reference` are log π, log π_old and log π_ref, so ρ is the exponential of a difference. `mask` is 1 on tokens and 0 on padding. Return one number (a tensor without dimensions).
# %% [exercise]
def loss(log_probs, old, reference, token_advantages, mask, epsilon, beta):
    """Return the loss of eq. (7) with the sign reversed: a number to minimise."""
    raise NotImplementedError


# %% [solution]
def loss(log_probs, old, reference, token_advantages, mask, epsilon, beta):
    """Return the loss of eq. (7) with the sign reversed: a number to minimise."""
    ratio = (log_probs - old).exp()
    each = clipped(ratio, token_advantages, epsilon) - beta * kl(log_probs, reference)
    return -((each * mask).sum(1) / mask.sum(1)).mean()


# %%
loss = checks.test_loss(loss)
# %% [hint]
# The mean over the tokens of a response is their sum divided by their number; padding counts in neither. Do not take one mean over all tokens of the batch: then long responses would weigh more.
# %% [markdown]
# ## The trainer
#
# The trainer needs a policy, its frozen copy as the reference, and questions with frames. Two functions are given. `roll_out` samples a group of responses for each question; `banned_token_ids` are special tokens of pictures and videos that a response must not contain. `score` gives every response its two rewards and its border, with your functions `reward` and `border`.
# %%
processor = data.load_processor(start)
tokenizer, judge = processor.tokenizer, make_judge(settings.judge)
policy = data.load_model(start)
reference = copy.deepcopy(policy).requires_grad_(False)
questions, root = stages.find_questions(run, "rl")
how = data.train_settings(run.recipe.video)
frames_of = partial(data.read_frames, root=root, cache=FrameCache(None), **how)


# %% [define]
@dataclass
class Rollouts:
    """Sampled responses: N rows, the rollouts of one question are consecutive."""

    questions: list  # N
    inputs: dict  # of the model: prompts (left-padded) and responses
    completions: list  # N lists of token ids, with the token that ends the turn
    mask: torch.Tensor  # (N, T): 1 on the tokens of the responses, 0 on padding


def roll_out(model, questions: list) -> Rollouts:
    """Sample a group of responses for each question."""
    asked = [question for question in questions for _ in range(GROUP)]
    frames = [frames_of(question) for question in asked]
    prompts = data.encode_prompts(processor, asked, frames, run.recipe.style)
    inputs = data.to_model_inputs(prompts, model.device)
    how = {"do_sample": True, "top_p": settings.top_p, "temperature": TEMPERATURE}
    banned, longest = banned_token_ids(tokenizer), settings.max_tokens
    with torch.no_grad():
        ids = model.generate(
            **inputs, **how, top_k=0, max_new_tokens=longest, suppress_tokens=banned
        )
    responses = ids[:, inputs["input_ids"].shape[1] :]
    ended = (responses == tokenizer.eos_token_id).long()
    mask = (ended.cumsum(1) - ended == 0).long()  # up to the first end, and with it
    inputs["input_ids"] = ids
    inputs["attention_mask"] = torch.cat([inputs["attention_mask"], mask], 1)
    inputs["mm_token_type_ids"] = pad(inputs["mm_token_type_ids"], (0, mask.shape[1]))
    rows = zip(responses.tolist(), mask.sum(1).tolist(), strict=True)
    return Rollouts(asked, inputs, [ids[:count] for ids, count in rows], mask)


# %% [define]
def score(rollouts: Rollouts) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rewards (N, 2), NaN if unknown, and the borders (N,) of all responses."""
    ranges = settings.length_ranges
    texts = tokenizer.batch_decode(rollouts.completions, skip_special_tokens=True)
    parsed = [parse(text) for text in texts]
    verdicts = judge.judge(rollouts.questions, [each.observation or "" for each in parsed])
    rewards, borders = [], []
    for question, ids, parts, verdict in zip(
        rollouts.questions, rollouts.completions, parsed, verdicts, strict=True
    ):
        looked = border([tokenizer.decode([t], skip_special_tokens=True) for t in ids])
        sufficient = verdict.sufficient if parts.observation else False
        right = accuracy(question.problem_type, parts.answer, question.answer, question.options)
        good = parts.format_ok
        seen = reward(sufficient, good["perception"], looked, ranges.perception)
        thought = reward(right, good["reasoning"], len(ids) - looked, ranges.reasoning)
        rewards.append([nan if total is None else total for total in (seen, thought)])
        borders.append(looked)
    return torch.tensor(rewards), torch.tensor(borders)


# %%
torch.manual_seed(SEED)
rollouts = roll_out(policy, questions[:2])
rewards, borders = score(rollouts)
pairs = [tuple(round(reward, 2) for reward in row) for row in rewards[:GROUP].tolist()]
print("rewards of the first group:", *pairs)
print("tokens of perception:", borders[:GROUP].tolist())
print(tokenizer.decode(rollouts.completions[0]))


# %% [markdown]
# **What this shows.** The group has one row for each rollout: the rewards of perception and reasoning. 2.2 is the largest reward (1 + 1 + 0.2). Are the rewards of the rows different? Then this group gives a signal.
#
# ### Exercise 9: log-probabilities
#
# Difficulty ●●●○○ · importance ●●●●○ · 10 minutes
#
# `inputs["input_ids"]` (N, L) are the token ids: a prompt and its response in each row. The responses are the last `length` columns. `model(**inputs).logits` is (N, L, vocabulary). *Logits* are the scores that the model gives to all tokens of its vocabulary; `softmax` turns them into probabilities. The logits at position i predict the token at position i + 1. The tokens were sampled at a temperature: divide the logits by `TEMPERATURE`. Return the log-probability of each of the last `length` tokens, (N, length).
# %% [exercise]
def log_probs(model, inputs: dict, length: int) -> torch.Tensor:
    """Return the log-probability of each token of the responses, (N, length)."""
    raise NotImplementedError


# %% [solution]
def log_probs(model, inputs: dict, length: int) -> torch.Tensor:
    """Return the log-probability of each token of the responses, (N, length)."""
    logits = model(**inputs).logits[:, -length - 1 : -1] / TEMPERATURE
    chosen = inputs["input_ids"][:, -length:, None]
    return logits.log_softmax(-1).gather(2, chosen).squeeze(2)


# %%
log_probs = checks.test_log_probs(log_probs, policy, rollouts, TEMPERATURE)


# %% [hint]
# Shift by one: which positions of the logits predict the last `length` tokens? `log_softmax(-1)` turns logits into log-probabilities. `gather(2, index)` picks one of them at each position; `index` has the shape (N, length, 1).
# %% [markdown]
# ### Exercise 10: one step
#
# Difficulty ●●●●○ · importance ●●●●● · 20 minutes
#
# Write `step_loss`. It puts all parts together:
#
# 1. Score the rollouts.
# 2. Compute the advantages with `credit`, a function like `advantages`. The group size is `GROUP`.
# 3. Give every token its advantage.
# 4. Compute the log-probs of the policy, and those of the reference without gradient. Their `length` is the number of columns of `rollouts.mask`.
# 5. Compute the loss with `EPSILON` and `BETA`. Each rollout is used for one update only, so `old` are the log-probs of the policy itself, without gradient.
# 6. Return the loss and the rewards.
# %% [exercise]
def step_loss(policy, reference, rollouts: Rollouts, credit=advantages):
    """Return the loss of one step, with its gradient, and the rewards (N, 2)."""
    raise NotImplementedError


# %% [solution]
def step_loss(policy, reference, rollouts: Rollouts, credit=advantages):
    """Return the loss of one step, with its gradient, and the rewards (N, 2)."""
    rewards, borders = score(rollouts)
    token_advantages = spread(credit(rewards, GROUP), borders, rollouts.mask)
    length = rollouts.mask.shape[1]
    logs = log_probs(policy, rollouts.inputs, length)
    with torch.no_grad():
        kept = log_probs(reference, rollouts.inputs, length)
    value = loss(logs, logs.detach(), kept, token_advantages, rollouts.mask, EPSILON, BETA)
    return value, rewards


# %%
bench = checks.Workbench(tokenizer, judge, settings)
step_loss = checks.test_step_loss(step_loss, policy, reference, rollouts, bench)


# %% [hint]
# You need `score`, `credit`, `spread`, `log_probs` (twice) and `loss`, in this order. `with torch.no_grad():` computes without gradient. `tensor.detach()` returns a tensor without gradient.
# %% [markdown]
# **What this shows.** If the check passed, your loss and the gradient of every weight agree with `p2r.training.step` on the same rollouts. The recipes for the 7B model use the same code. They have not been run on a GPU yet. The rest of the library is about speed, several GPUs and logs.
#
# ## Train
#
# The function `train` is given. Each step samples rollouts for eight questions and makes one update with your `step_loss`. The learning rate rises over the first steps. The next two cells train with `advantages` and with `grpo_advantages`. The Stop button ends a training after the present step.
#
# **Predict:** PA-GRPO and GRPO start from the same model and see the same questions. Which of the two will describe more of what the question needs?
# %%
def train(credit, title: str) -> list[dict]:
    """Train a copy of the SFT model; return the metrics of every step."""
    torch.manual_seed(SEED)
    policy = data.load_model(start)
    optimiser = torch.optim.AdamW(policy.parameters(), settings.learning_rate, weight_decay=0.01)
    # The first steps of Adam move all weights equally far: begin with a low learning rate.
    rising = max(1, STEPS // 3)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimiser, 1 / rising, total_iters=rising)
    keys = {"sufficient observation": "seen", "right answer": "right"}
    with widgets.LiveCurves(keys, title, "share of rollouts") as curves:
        for step in curves.steps(min(STEPS, settings.steps)):
            first = step * settings.prompts_per_step
            asked = [
                questions[(first + n) % len(questions)] for n in range(settings.prompts_per_step)
            ]
            rollouts = roll_out(policy, asked)
            value, rewards = step_loss(policy, reference, rollouts, credit)
            value.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), settings.max_grad_norm)
            optimiser.step()
            warm_up.step()
            optimiser.zero_grad()
            # A total of 2 or more: the format is kept, and the accuracy is 1 or close to it.
            seen, right = (rewards >= 1.99).float().mean(0).tolist()
            curves.add({"step": step, "seen": seen, "right": right, "loss": value.item()})
    return curves.rows


# %%
ours = train(advantages, "PA-GRPO, written by hand")
# %%
grpo = train(grpo_advantages, "GRPO, written by hand")
# %%
smooth = {
    f"{name}: {what}": plots.running_mean([row[key] for row in rows], 8)
    for name, rows in (("PA-GRPO", ours), ("GRPO", grpo))
    for what, key in (("sufficient observation", "seen"), ("right answer", "right"))
}
steps = [row["step"] for row in ours]
plots.lines(steps, smooth, "Both trainings (mean over 8 steps)", "step", "share of rollouts")
# %% [markdown]
# **What this shows.** Each step samples new rollouts of the next eight questions, so the curves are noisy: read the running means. PA-GRPO rewards the observation itself. GRPO rewards an observation only through the answer that follows it. In this world an answer follows from the observation, so GRPO can improve observations as fast: here both end with a similar share of sufficient observations. They can still differ in how many of their sentences are true: see [results](../docs/results.md). 20 steps are few: notebook 07 trains longer, and notebook 08 measures PA-GRPO on other questions.
#
# ### Exercise 11: without the reference (open)
#
# Difficulty ●●○○○ · importance ●●●○○ · 10 minutes
#
# In a new cell, set `BETA = 0.0` and run `train(advantages, "without KL")`. Compare its curves with those above. The policy may now move away from the SFT model without a penalty. What could happen to its sentences in a training of a thousand steps? (This needs your own `step_loss` from exercise 10: p2r's ignores `BETA`.)
# %% [hint]
# In 20 steps you may see little difference. In a long training without the KL term, only the reward limits how the sentences change. What would the judge still accept?
# %% [sample]
# **Sample answer.** In 20 steps the curves look almost the same. In a thousand steps, only the reward limits how the sentences change. The sentences may become strange, repeat themselves, or list many facts, true or false, as long as the judge still accepts them.
# %% [markdown]
# ## Summary
#
# Ten short functions are the whole method: two rewards, two advantages, one border, and a loss that GRPO uses too. `p2r rl` uses the same equations. Next: [07 · training](07_training.ipynb).
