"""The vocabulary of the browser: verdicts, outcomes, failure kinds, and the glossary.

Every page takes its words from here, so that one thing has one name.
"""

from __future__ import annotations

from p2r.cases.selection import Cell
from p2r.runs.names import model_label, model_place

# Verdict of the judge, or outcome of the answer -> (style, mark, word).
VERDICT_WORDS = {
    "yes": ("good", "✓", "sufficient"),
    "no": ("bad", "✗", "not sufficient"),
    "unknown": ("unknown", "?", "no verdict"),
}
OUTCOME_WORDS = {
    "right": ("good", "✓", "right"),
    "wrong": ("bad", "✗", "wrong"),
    "unknown": ("unknown", "?", "not scored"),
}
TRUTH_WORDS = {
    "true": ("good", "✓", "true"),
    "false": ("warn", "✗", "untrue or incomplete"),
    "unknown": ("unknown", "?", "scene not known"),
}
# The meaning of each (verdict, outcome). An outcome reward cannot see the two mixed cases.
MEANINGS: dict[Cell, str] = {
    ("yes", "right"): "seen and solved",
    ("yes", "wrong"): "reasoning failed",
    ("no", "right"): "right by luck",
    ("no", "wrong"): "perception failed",
}
CELLS = tuple(MEANINGS)
# The style of each cell: a colour, and a shape, so that colour never carries a meaning alone.
CELL_STYLES: dict[Cell, tuple[str, str]] = {
    ("yes", "right"): ("solved", "●"),
    ("yes", "wrong"): ("slip", "◆"),
    ("no", "right"): ("lucky", "▲"),
    ("no", "wrong"): ("blind", "■"),
}
# Failure kind of `p2r.cases.selection.FAILURES` -> the words that pages show.
FAILURE_WORDS = {
    "right by luck": "right by luck",
    "perception miss": "perception failed",
    "reasoning slip": "reasoning failed",
    "mismatch": "mismatch",
    "format": "format broken",
    "truncated": "cut off",
    "judge unknown": "no verdict",
}
FAILURE_MEANINGS = {
    "right by luck": "The answer is right, but the observation does not support it. GRPO rewards "
    "the observation of such a case too. PA-GRPO does not.",
    "perception miss": "The observation misses or distorts what the question needs, so the "
    "reasoning had no chance.",
    "reasoning slip": "The observation holds everything that is needed, but the conclusion is "
    "wrong.",
    "mismatch": "The answer differs from the conclusion of the reasoning.",
    "format": "The response breaks the template, so a process cannot be read or rewarded.",
    "truncated": "The response was cut at the token limit.",
    "judge unknown": "The judge gave no verdict. These cases are left out of every rate.",
}
# Credit scheme of `p2r.rewards.CREDITS` -> its name.
SCHEME_WORDS = {
    "process": "PA-GRPO",
    "outcome": "GRPO",
    "shared": "one shared reward",
    "decoupled": "decoupled rewards",
    "turn": "MT-GRPO",
}
# Stage of rollouts whose credit cannot be computed from the rewards of the group -> its name.
STAGE_SCHEMES = {
    "rl-t_grpo": "T-GRPO",
    "rl-critic": "a critic, mean of the tokens",
    "rl-critic_process": "a critic with both rewards, mean of the tokens",
}
STAGE_WORDS = {"": "no stage", "cot": "teacher", "asked": "asked here"}
STAGE_KINDS = {"eval": "evaluation", "rl": "training"}
# Tag of a trace -> the words that pages show. The filter names the last step that a trace passed.
TAG_WORDS = {
    "kept": "kept for SFT",
    "dropped: generated": "not kept for SFT: format broken",
    "dropped: on template": "not kept for SFT: answer wrong",
    "dropped: right answer": "not kept for SFT: observation not sufficient",
    "dropped: answer unknown": "not kept for SFT: answer not scored",
    "dropped: verdict unknown": "not kept for SFT: no verdict",
}
# Term -> (how it is written, its meaning).
GLOSSARY = {
    "observation": (
        "observation",
        "What the model says it sees, before it thinks. Its tokens belong to perception.",
    ),
    "sufficient": (
        "sufficient",
        "A judge who cannot see the clip can deduce the reference answer from the observation "
        "alone. Sufficient does not mean true: an invented observation can be sufficient.",
    ),
    "true": (
        "true",
        "Each sentence of the observation agrees with the scene. This is known only where the "
        "scene is known, as in the playground.",
    ),
    "R_P": (
        "R_P",
        "The reward of perception: 1 if the observation is sufficient, plus 1 for the format, "
        "plus a bonus for a good length.",
    ),
    "R_R": (
        "R_R",
        "The reward of reasoning: the accuracy of the answer, plus 1 for the format, plus a bonus "
        "for a good length.",
    ),
    "A_P": (
        "A_P",
        "The advantage of the observation's tokens: how much higher its reward is than the mean of "
        "its group, in standard deviations. Above 0, training makes these tokens more likely.",
    ),
    "A_R": (
        "A_R",
        "The advantage of the tokens of reasoning and answer. Above 0, training makes them more "
        "likely.",
    ),
    "PA-GRPO": (
        "PA-GRPO",
        "Process-aware GRPO: observation and reasoning get an advantage each, from their own "
        "rewards.",
    ),
    "GRPO": (
        "GRPO",
        "All tokens of a response get one advantage, from the reward of the answer.",
    ),
    "MT-GRPO": (
        "MT-GRPO",
        "The observation gets the sum of both advantages. The reasoning gets its own advantage.",
    ),
    "critic": (
        "critic",
        "A value head on the policy predicts the rewards that are still to come (PPO). Each token "
        "has its own advantage. The browser shows the mean over the tokens of each process.",
    ),
    "group": ("group", "The rollouts of one question at one step. Advantages compare them."),
    "collapsed": (
        "collapsed",
        "All rewards of a group are equal, so every advantage is 0 and nothing is learned.",
    ),
    "right by luck": (
        "right by luck",
        "The answer is right, although the observation is not sufficient.",
    ),
    "mismatch": ("mismatch", "The answer differs from the conclusion of the reasoning."),
    "blind mode": (
        "blind mode",
        "Verdicts and rewards are hidden while you label, so that they cannot influence you.",
    ),
    "rests on": (
        "rests on",
        "The observation sentence that holds the words of this sentence. It is found by common "
        "words, so read it as a hint.",
    ),
}


def stage_words(stage: str | None) -> str:
    """Return the name of a stage as pages show it: `eval-sft` is "evaluation: SFT"."""
    kind, _, name = (stage or "").partition("-")
    if name and kind in STAGE_KINDS:
        return f"{STAGE_KINDS[kind]}: {model_label(name)}"
    return STAGE_WORDS.get(stage or "", stage or "")


def stage_place(stage: str | None) -> tuple[bool, int]:
    """Return the place of a stage in a list: evaluations first, from base to PA-GRPO."""
    kind, _, name = (stage or "").partition("-")
    evaluated = kind == "eval"
    return not evaluated, model_place(name) if evaluated else 0
