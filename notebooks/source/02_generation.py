# %% [markdown]
# # 02 · CoT generation: a teacher writes traces
#
# The paper starts from about 260,000 questions (Video-R1-260k). Writing observations and thoughts by hand for so many questions would cost too much. So a strong model, the *teacher*, writes them: one trace for each question. A *trace* is a response with everything that is known about how it was made. *CoT* (chain of thought) means reasoning that is written down.
#
# **After this notebook you can**
# - read the prompt that asks for the three segments
# - generate traces, stop half-way, and continue
# - list what a trace records about how it was made
#
# **Needs** {measured}. Reads the questions of notebook 01, or makes them. Writes `generate.jsonl`. You know: Python. New words are in the [glossary](../docs/teaching/glossary.md).
# %% [parameters]
SCALE = "tiny"  # "quick": a few steps; for GPUs: "3b-1x24gb", "7b-1x80gb", "7b-8x80gb"
SEED = 0
RUN = "../runs/workshop"
QUESTIONS = None  # a file of questions; None: the playground's
# %%
from p2r import plots, stages, workshop
from p2r.workshop import checks

run = workshop.begin(RUN, SCALE, SEED)
questions, data_root = stages.find_questions(run, "generate", QUESTIONS)
print(len(questions), "questions")
# %% [markdown]
# ## Toy numbers: the prompt, in words
#
# A *prompt* is the text that the model gets: the question, and how to answer it. Generation, training and inference use the same prompt. Large models get the full prompt. The tiny teacher learned the form of a response from examples, so a short reminder is enough.
#
# **Predict:** how many words does it take to explain the three segments to a model that has never seen them?
# %%
from p2r.template import build_prompt

question = questions[1]
for style in ("brief", "full"):
    prompt = build_prompt(question, style)
    print(f"{prompt}\n[{style}: {len(prompt.split())} words]\n")
# %% [markdown]
# **What this shows.** The full prompt says what each segment must contain, and shows the form of the whole response. A model that has learned the form needs only a reminder. (Both counts include the question and its options.)
#
# ## One question, three samples
#
# The *temperature* says how much chance there is when the model chooses the next token. At temperature 0 it always takes the most likely one (*greedy*).
#
# **Predict:** the teacher first answers at temperature 0, then twice at temperature 1. What will differ: the facts it describes, its reasoning, or its answer?
# %%
from p2r import data
from p2r.engines import Request, Sampling, load_engine
from p2r.video import FrameCache

engine = load_engine(run.recipe, run.recipe.models.teacher)
settings = data.train_settings(run.recipe.video)
frames = data.read_frames(question, root=data_root, cache=FrameCache(None), **settings)
for temperature, seed in ((0, 0), (1, 1), (1, 2)):
    request = Request("one", question, frames)
    sampling = Sampling(temperature, max_tokens=run.recipe.generate.max_tokens, seed=seed)
    print(temperature, next(iter(engine.generate([request], sampling))).text, "\n")
# %% [markdown]
# **What this shows.** The samples can differ in all three: the facts, the reasoning and the answer. Read each of them. Does the observation describe what the question asks about? Does the thinking use only facts of the observation? Is the letter of the answer the letter of the option that the thinking names? A tiny teacher makes all these mistakes. Notebook 03 removes traces with a wrong answer, and traces whose observation is not sufficient for a reader who cannot see the video.
#
# ## All questions
#
# Sampling is greedy, as in the paper. Each trace is written to a *journal*, the file `generate.jsonl`, as soon as it is finished. You can stop the cell at any time (■ in the toolbar, or `Esc`, then `I`, `I`) and run it again: it continues with the questions that have no trace yet.
#
# The *template* is the form of a response: observation, think and answer, in this order, each inside its own tags.
#
# **Predict:** what share of the traces will follow the template?
# %%
journal = stages.generate(run, QUESTIONS)
cases = list(journal.cases())
print(len(cases), "traces,", len(journal.errors()), "questions that could not be answered")
# %% [markdown]
# ### Exercise 1: who follows the template?
#
# Difficulty ●●○○○ · importance ●●●○○ · 5 minutes
#
# `parse(text)` splits a response, and `parse(text).ok` is True if the format of both processes is right. Write `template_share(texts)`: the share of texts that follow the template, from 0 to 1. The list has at least one text.
# %% [exercise]
from p2r.template import parse


def template_share(texts: list[str]) -> float:
    """Return the share of texts that follow the template."""
    raise NotImplementedError


# %% [solution]
from p2r.template import parse


def template_share(texts: list[str]) -> float:
    """Return the share of texts that follow the template."""
    return sum(parse(text).ok for text in texts) / len(texts)


# %%
from collections import Counter

template_share = checks.test_template_share(template_share)
faults = Counter(fault for case in cases for fault in parse(case.trace.text).problems)
cut = sum(case.trace.truncated for case in cases)
print(f"{template_share([case.trace.text for case in cases]):.0%} follow the template")
print(f"{cut} cut off; faults: {dict(faults)}")
# %%
plots.lengths(cases, "Length of the two processes")
# %% [markdown]
# **What this shows.** A trace that reaches the limit of tokens (`generate.max_tokens`) is *cut off*. The length of the observation depends on the number of sentences in it, the length of the reasoning on how many of them it repeats. Notebook 05 rewards lengths in a range: at the scale "tiny" 20 to 68 tokens for perception, 10 to 80 for reasoning (`rl.length_ranges` in the recipe). 68 tokens leave room for three sentences, not for a whole scene.
#
# ### Exercise 2: generate again
#
# Difficulty ●○○○○ · importance ●●○○○ · 2 minutes
#
# Run `stages.generate(run, QUESTIONS)` again, for example in a new cell. How many new traces does it write?
# %% [exercise]
new_traces = None  # a number
# %% [solution]
size = journal.path.stat().st_size
stages.generate(run, QUESTIONS)
new_traces = 0 if journal.path.stat().st_size == size else None
# %%
checks.test_new_traces(new_traces)
# %% [markdown]
# ## What a trace records
#
# A result can be trusted only if you know what it depends on: frames, sampling, prompt, model. So every trace records all of them. `stage: cot` means that the trace was made for the SFT set.
# %%
trace = cases[0].trace
print("model:", trace.model, "| run:", trace.run, "| stage:", trace.stage)
print("sampling:", trace.sampling)
print("media:", {key: trace.media[key] for key in ("decoder", "indices", "height", "width")})
print("tokens of the prompt:", trace.prompt_tokens)
print("tokens of perception:", trace.perception_tokens, "of", trace.completion_tokens)
# %% [markdown]
# ### Exercise 3: the longest observation
#
# Difficulty ●○○○○ · importance ●○○○○ · 3 minutes
#
# How many words has the longest observation in `cases`? Words are what `split()` returns. The text of an observation is `case.trace.observation`. It is None if the response has no observation.
# %% [exercise]
longest = None  # a number of words
# %% [solution]
longest = max(len((case.trace.observation or "").split()) for case in cases)
# %%
checks.test_longest(longest, cases)
# %% [markdown]
# ## Summary
#
# The teacher writes one trace per question. With the journal, an interrupted generation continues where it stopped. Each trace records how it was made. Not all traces are good. Next: [03 · filtering](03_filtering.ipynb).
