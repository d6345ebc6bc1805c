"""The vocabulary of the browser: verdicts, outcomes, failure kinds, and the glossary.

Every page takes its words from here, so that one thing has one name.
"""

from __future__ import annotations

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
MEANINGS = {
    ("yes", "right"): "seen and solved",
    ("yes", "wrong"): "reasoning failed",
    ("no", "right"): "right by luck",
    ("no", "wrong"): "perception failed",
}
CELLS = tuple(MEANINGS)
# The style of each cell: a colour, and a shape, so that colour never carries a meaning alone.
CELL_STYLES = {
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
    "right by luck": "The answer is right, but the observation does not support it. An outcome "
    "reward rewards such cases. Process rewards do not.",
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
# Term -> (how it is written, its meaning).
GLOSSARY = {
    "observation": (
        "observation",
        "What the model writes that it sees, before it thinks. It is the work of perception.",
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
        "The advantage of the observation's tokens: how much better than its group, in standard "
        "deviations. Above 0, training makes these tokens more likely.",
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
