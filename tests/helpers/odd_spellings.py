"""Generates odd spellings of model outputs for the benchmarks.

`pairs(benchmark, count, seed)` yields distinct (question, output) pairs. Everything is drawn from
the seed, so a pair comes back with the same seed. A question is a record in the shape of the
benchmark's own file. An output is a core ("(B)", "The answer is B", the option's text, a number, …)
between odd ends (blanks, newlines, "</s>", "<|im_end|>", Markdown, quotes, …).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from string import ascii_letters, ascii_uppercase, digits
from typing import Any

BENCHMARKS = (
    *("tempcompass", "videomme", "mvbench", "vsibench", "mmvu", "videommmu", "vcrbench"),
    *("mlvu", "lvbench", "longvideobench"),
)

_WIDE = str.maketrans(
    ascii_letters + digits + ".():",
    "".join(chr(ord(c) + 0xFEE0) for c in ascii_letters + digits + ".():"),
)
_CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩"


@dataclass(frozen=True)
class Asked:
    """A question as the benchmark's own file has it.

    `record` is the file's record, `task` is known from the file's name, `names` are the letters or
    names of the options, `texts` their texts, `right` is the place of the right one or None.
    """

    benchmark: str
    record: dict[str, Any] = field(hash=False)
    task: str = ""
    names: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    right: int | None = None


Pair = tuple[Asked, str]


def pairs(benchmark: str, count: int, seed: int = 0) -> Iterator[Pair]:
    """Yield `count` distinct (question, output) pairs of a benchmark."""
    draw = random.Random(f"{benchmark}-{seed}")
    asked = questions(benchmark)
    cores = [_cores(one) for one in asked]
    seen: set[tuple[int, str]] = set()
    while len(seen) < count:
        place = draw.randrange(len(asked))
        output = _spell(draw.choice(cores[place]), draw)
        if (place, output) not in seen:
            seen.add((place, output))
            yield asked[place], output


# ---- ends and changes

_BEFORE = (
    *(" ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\ufeff", "\u200b", "> ", "- ", "* "),
    *("# ", '"', "'", "(", "[", "**", "`", "<s>", "Answer:", "Answer: ", "answer: ", "答案："),
    *("A: ",),
    *("The answer is ", "The answer is: ", "The best answer is ", "The correct answer is "),
    *("The best option is ", "Best option:", "Best option:(", "Option:", "Option ", "So ", "= "),
    *("I think ", "It is ", "Based on the video, ", "Final answer: ", "assistant\n", "\n\n", ". "),
    *("First a man walks.\n", "Because of A and D.\nSo it is ", "<answer>", "\\boxed{", "$", "~"),
)
_AFTER = (
    *(" ", "  ", "\n", "\t", "\n\n", "\r\n", "\u00a0", "\u3000", ".", ". ", ".\n", " .", ".."),
    *(",", ";"),
    *(":", "!", "?", ")", "]", "'", '"', "**", "`", "。", "，", "</s>", " </s>", "</s></s>"),
    *("\n</s>",),
    *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "</answer>", "}", "$", " because he runs"),
    *(", because he runs", ". Because he runs.", "\nBecause he runs.", "\n\nExplanation: A dog."),
    *(" m",),
    *(" meters", "%", " or so", " (A)", " is correct", " is correct.", ", not C", "<unk>", "<pad>"),
)


def _spell(core: str, draw: random.Random) -> str:
    """Return the core with up to two odd ends on each side, and sometimes in another form."""
    change = draw.random()
    if change < 0.08:
        core = core.lower()
    elif change < 0.12:
        core = core.upper()
    elif change < 0.16:
        core = core.translate(_WIDE)
    elif change < 0.18:
        core = core.replace(" ", draw.choice(["  ", "\n", "\t", "\u00a0", ""]))
    elif change < 0.19:
        core = f"{core} {'He walks on and on. ' * draw.randrange(50, 400)}"
    elif change < 0.20:
        core = f"{'He walks on and on. ' * draw.randrange(50, 400)}{core}"
    elif change < 0.215:
        return f"<answer>{core}</answer>"
    before = "".join(draw.choices(_BEFORE, k=draw.choice((0, 0, 0, 1, 1, 2))))
    after = "".join(draw.choices(_AFTER, k=draw.choice((0, 0, 0, 1, 1, 2))))
    return before + core + after


_NOTHING = (
    *("", " ", "\n", "\t", ".", "(", ")", "()", "-", "</s>", "<|im_end|>", "None", "N/A"),
    *("API Error",),
    *("I cannot say.", "no idea", "error", "?", "0", "Z", "E", "不知道", "nan", "all of them"),
    *("both",),
)


def _cores(asked: Asked) -> list[str]:
    cores = list(_NOTHING)
    for place, (name, text) in enumerate(zip(asked.names, asked.texts, strict=True)):
        cores += _named(name, text, place, asked)
    if asked.task == "yes_no":
        cores += _YES_NO
    if not asked.names and asked.task not in ("yes_no", "captioning"):
        cores += _valued(asked)
    if asked.task == "captioning":
        cores += ["A man dunks a basketball.", "A dog runs", "B", "Caption: he dribbles"]
    return cores


def _named(name: str, text: str, place: int, asked: Asked) -> list[str]:
    """Return ways to name one option: by name, index, text, and with other options."""
    letter = name.split()[-1]
    other = asked.names[(place + 1) % len(asked.names)]
    cores = [
        *(letter, f"{letter}.", f"{letter})", f"({letter})", f"({letter}).", f"[{letter}]"),
        *(f"{letter}:", f"{letter},", f"**{letter}**", f"**{letter}.** {text}", f"`{letter}`"),
        *(f"\\boxed{{{letter}}}", f"$\\boxed{{{letter}}}$", f"\\text{{{letter}}}", f"${letter}$"),
        *(text, f'"{text}"', f"'{text}'", f"“{text}”", f"{text}.", text.rstrip(".")),
        *(f"{letter} {text}", f"{letter}. {text}", f"{letter}) {text}", f"({letter}) {text}"),
        *(f"{letter}.{text}", f"{letter}: {text}", f"{letter} - {text}", f"({letter}){text}"),
        *(f"Option {letter}", f"option {letter}", f"Caption {letter}", f"Sentence {letter}."),
        *(f"Option {letter}: {text}", f"The answer is {letter}", f"The answer is {letter}. {text}"),
        *(f"The answer is ({letter}) {text}", f"The best answer is {letter}", f"Answer: {letter}"),
        *(f"The correct option is {letter}.", f"I choose {letter}", f"{letter} is correct"),
        *(f"Not {other} but {letter}", f"{letter} or {other}", f"{letter}, {other}"),
        *(f"{letter}{other}",),
        *(f"{other}? No, {letter}", f"{letter} and not {other}", f"选{letter}", f"答案是{letter}"),
        *(f"选项{letter}", f"正确答案：{letter}", f"답은 {letter}", f"答えは{letter}です"),
        *(str(place), str(place + 1), f"{place + 1}.", _CIRCLED[place], f"Option {place + 1}"),
        *(name, f"{name}.", f"{name}:", f"{name}: {text}", f"{name}. {text}", f"{name} {text}"),
        f"A cat and a dog. {letter}",
        f"The answer is {letter}, as in A Cat",
        f"{{'answer': '{letter}'}}",
    ]
    if asked.record.get("options"):
        cores += [str(asked.record["options"][place])] * 2
    return cores


_YES_NO = (
    *("yes", "no", "Yes", "No", "YES", "NO", "yEs", "Yes.", "No.", "yes,", "Yes, it is.", "y", "n"),
    *("No, it is not.", "Nothing moves.", "not sure", "Not really", "None", "nope", "yeah"),
    *("yesterday",),
    *("Yes and no", "Yes/No", "no yes", "I think yes", "It is no.", "The answer is yes.", "true"),
    *("False", "Answer: no", '"yes"', "'No'", "(yes)", "**Yes**", "`no`", "是", "不是", "A. yes"),
    *("B. no",),
    *("Yes\nNo", "Is the man dunking? Yes", "yes </s>", "No</s>", "correct", "incorrect"),
    *("\\boxed{yes}",),
)


def _valued(asked: Asked) -> list[str]:
    """Return spellings of numbers near the reference, or of a text."""
    truth = str(asked.record.get("ground_truth", asked.record.get("answer")))
    try:
        right = float(truth.replace(",", ""))
    except ValueError:
        return [
            *(truth, truth.lower(), truth.upper(), f'"{truth}"', f"It is {truth}", f"= {truth}"),
            *(f"The answer is {truth}", f"x = {truth}", f"{truth} and more", f"so {truth} is it"),
            *(truth[:-1], truth[1:], f"first {truth}\nthen 4", f"${truth}$"),
            *(truth.replace(" ", ""),),
        ]
    values = [right * factor for factor in (1, 1, 1, 0.5, 0.75, 0.8, 0.9, 0.95, 1.05, 1.25, 1.5, 2)]
    values += [0.0, 1.0, right + 1, right - 1, right + 0.004, right + 0.005, -right, right * 100]
    cores = [
        "four",
        "Four chairs",
        "one half",
        "1/2",
        "½",
        "\\frac{1}{2}",
        "nan",
        "inf",
        "-inf",
        "1_0",
    ]
    for value in values:
        short = f"{value:.6g}"
        cores += [
            *(short, f"{value:.1f}", f"{value:.2f}", f"{value:.0f}", f"{value:.3e}"),
            *(f"{value:,.2f}",),
            *(f"{short} m", f"{short}m", f"{short} meters", f"about {short}", f"~{short}"),
            *(f"{short}%",),
            *(f"{short}.", f"{short},", f"{short} / 1", f"{short}/1", f"+{short}", f"− {short}"),
            *(f"−{short}", f"- {short}", f"= {short}", f"x = {short}", f"${short}$"),
            *(f"**{short}**",),
            *(f"There are {short} chairs.", f"The answer is {short}.", f"{short}-{value + 1:.6g}"),
            *(f"{short} or {value + 1:.6g}", f"{short} ± 1", f"\\boxed{{{short}}}", f"{short}\n9"),
            *(f"{short}²", f"({short})", f"[{short}]", f"{short}cm²", f"£{short}", f"9 of {short}"),
            f"{short.replace('.', ',')}",
        ]
    return cores


# ---- questions

_SETS = (
    (("Apples", "Candles", "Berries", "Dogs"), 2),
    (("red", "red ball", "red ball on a table", "none"), 1),
    (("a cat", "A Dog", "both a cat and A Dog", "B and C"), 0),
    (("1", "2", "3", "4"), 3),
    (("He walks.", "He walks away.", "He runs: fast.", "(A) and (B)."), 1),
    (("left", "right", "up", "down"), 3),
    (("D", "C", "B", "A"), 0),
    (("yes", "no"), 1),
    (("moving from left to right", "moving from right to left", "still"), 0),
    (("E. coli", "S. aureus", "B. subtilis", "P. putida"), 1),
    (("J. Brahms", "F. Chopin", "C. Debussy", "G. Verdi"), 2),
)


def questions(benchmark: str) -> list[Asked]:
    """Return the questions of a benchmark; the outputs of `pairs` are about these."""
    return _QUESTIONS[benchmark]()


def _lettered(texts: Sequence[str], mark: str = ". ") -> list[str]:
    return [f"{letter}{mark}{text}" for letter, text in zip(ascii_uppercase, texts, strict=False)]


def _choice(
    benchmark: str, record: dict[str, Any], texts: Sequence[str], right: int, task: str = ""
) -> Asked:
    return Asked(benchmark, record, task, tuple(ascii_uppercase[: len(texts)]), tuple(texts), right)


def _videomme() -> list[Asked]:
    return [
        _choice(
            "videomme",
            {
                "question_id": f"{place:03d}-1",
                "duration": ("short", "medium", "long")[place % 3],
                "domain": "Knowledge",
                "sub_category": "Geography",
                "task_type": "Counting Problem",
                "question": "Which one is it?",
                "options": _lettered(texts),
                "answer": ascii_uppercase[right],
            },
            texts,
            right,
        )
        for place, (texts, right) in enumerate(_SETS)
        if len(texts) == 4
    ]


def _mvbench() -> list[Asked]:
    asked = [
        _choice(
            "mvbench",
            {"question": "Which one is it?", "candidates": list(texts), "answer": texts[right]},
            texts,
            right,
            "action_sequence",
        )
        for texts, right in _SETS
    ]
    twice = ("left", "right", "left")
    record = {"question": "Where?", "candidates": list(twice), "answer": "left"}
    return [*asked, _choice("mvbench", record, twice, 2, "moving_direction")]


def _tempcompass() -> list[Asked]:
    asked = []
    for texts, right in _SETS[:9]:
        options = _lettered(texts)
        record = {"question": "\n".join(["Which one is it?", *options]), "answer": options[right]}
        record |= {"dim": "action", "id": len(asked)}
        asked.append(_choice("tempcompass", record, texts, right, "multi-choice"))
    for answer in ("yes", "no"):
        record = {"question": "Is the man dunking?", "answer": answer, "dim": "order"}
        asked.append(Asked("tempcompass", record | {"id": len(asked)}, "yes_no"))
    for word, names in (("Caption", "AB"), ("Option", "12"), ("Sentence", "AB")):
        for texts in (
            ("The man is dribbling.", "A man is dunking."),
            ("It rolls", "It: rolls. (A) So"),
            ("A", "B"),
            ("1) One cat.", "Two cats."),
        ):
            right = len(asked) % 2
            lines = [f"{word} {name}: {text}" for name, text in zip(names, texts, strict=True)]
            record = {"question": "\n".join(["Which one fits?", *lines]), "answer": lines[right]}
            record |= {"dim": "speed", "id": len(asked)}
            titles = tuple(f"{word} {name}" for name in names)
            asked.append(Asked("tempcompass", record, "caption_matching", titles, texts, right))
    record = {"question": "Write.\nInformation A: a\nInformation B: b\nGenerated Caption:"}
    record |= {"answer": "B. dunking", "dim": "action", "id": len(asked)}
    return [*asked, Asked("tempcompass", record, "captioning")]


def _vsibench() -> list[Asked]:
    asked: list[Asked] = []
    for texts, right in _SETS:
        record = {"id": len(asked), "question_type": "route_planning", "question": "Where to?"}
        record |= {"options": _lettered(texts), "ground_truth": ascii_uppercase[right]}
        asked.append(_choice("vsibench", record, texts, right))
    for truth in ("4", "1", "2.5", "0.9", "10", "1234.5", "50"):
        record = {"id": len(asked), "question_type": "object_counting", "question": "How many?"}
        asked.append(Asked("vsibench", record | {"options": None, "ground_truth": truth}))
    return asked


def _videommmu() -> list[Asked]:
    ten = tuple(f"opt {letter}" for letter in ascii_uppercase[:10])
    initials = ("B. subtilis", "E. coli", "S. aureus", "P. putida")
    asked: list[Asked] = []
    for texts, right in (*_SETS, (ten, 8), (ten, 2), (initials, 1)):
        for mark in ("", ". "):
            options = _lettered(texts, mark) if mark else list(texts)
            record = {"id": f"validation_Math_{len(asked)}", "question": "Which one?"}
            record |= {"options": options, "answer": ascii_uppercase[right]}
            record |= {"question_type": "multiple-choice"}
            asked.append(_choice("videommmu", record, texts, right, "Adaptation"))
    for truth in ("4", "2.5", "1,200", "0.333", "-3", "x", "depth-first search", "12 kg", "5e3"):
        record = {"id": f"test_Physics_{len(asked)}", "question": "How much?", "options": []}
        record |= {"answer": truth, "question_type": "open"}
        asked.append(Asked("videommmu", record, "Adaptation"))
    return asked


def _mmvu() -> list[Asked]:
    return [
        _choice(
            "mmvu",
            {
                "id": f"validation_{place}",
                "question_type": "multiple-choice",
                "question": "Which one is it?",
                "choices": dict(zip(ascii_uppercase, texts, strict=False)),
                "answer": ascii_uppercase[right],
                "metadata": {"subject": "Pharmacy"},
            },
            texts,
            right,
        )
        for place, (texts, right) in enumerate(_SETS)
    ]


def _vcrbench() -> list[Asked]:
    asked = [
        _choice(
            "vcrbench",
            {
                "id": place,
                "duration": 30 * place,
                "dimension": "Video Plot Analysis",
                "question": "Which one is it?",
                "multiple-choice": True,
                "choices": dict(zip(ascii_uppercase, texts, strict=False)),
                "answer": ascii_uppercase[right],
            },
            texts,
            right,
        )
        for place, (texts, right) in enumerate(_SETS)
    ]
    return asked


def _mlvu() -> list[Asked]:
    return [
        _choice(
            "mlvu",
            {"question": "Which one is it?", "candidates": list(texts), "answer": texts[right]},
            texts,
            right,
            "needle",
        )
        for texts, right in _SETS
    ]


def _lvbench() -> list[Asked]:
    asked = []
    for place, (texts, right) in enumerate(_SETS):
        lines = [f"({letter}) {text}" for letter, text in zip("ABCD", texts, strict=False)]
        record = {
            "uid": str(place),
            "key": "v",
            "question": "\n".join(["Which one is it?", *lines]),
            "answer": ascii_uppercase[right],
            "question_type": ["reasoning", "summarization"],
        }
        asked.append(_choice("lvbench", record, texts, right))
    return asked


def _longvideobench() -> list[Asked]:
    return [
        _choice(
            "longvideobench",
            {
                "id": f"v_{place}",
                "video_path": "v.mp4",
                "question": "Which one is it?",
                "candidates": list(texts),
                "correct_choice": right,
                "duration_group": 15,
                "question_category": "S2E",
            },
            texts,
            right,
        )
        for place, (texts, right) in enumerate(_SETS)
    ]


_QUESTIONS = {
    "tempcompass": _tempcompass,
    "videomme": _videomme,
    "mvbench": _mvbench,
    "vsibench": _vsibench,
    "mmvu": _mmvu,
    "videommmu": _videommmu,
    "vcrbench": _vcrbench,
    "mlvu": _mlvu,
    "lvbench": _lvbench,
    "longvideobench": _longvideobench,
}


# ---- places: VCR-Bench's intervals and boxes


def places(count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Yield distinct (reference, extracted answer) pairs of intervals, boxes and near misses."""
    draw = random.Random(f"places-{seed}")
    seen: set[tuple[str, str]] = set()
    while len(seen) < count:
        size = draw.choice((2, 2, 4))
        right = [draw.randrange(0, 60) for _ in range(size)]
        said = [value + draw.choice((0, 0, 0, 1, -1, 2, 5, 0.5)) for value in right]
        if draw.random() < 0.1:
            said = said[: draw.randrange(1, size)] or said
        texts = [_place(right, draw), _spell(_place(said, draw), draw)]
        if draw.random() < 0.7:
            texts[1] = _place(said, draw)
        if (texts[0], texts[1]) not in seen:
            seen.add((texts[0], texts[1]))
            yield texts[0], texts[1]


def _place(values: Sequence[float], draw: random.Random) -> str:
    comma = draw.choice((", ", ", ", ",", " , ", ";", "，"))
    left, right = draw.choice(("[]", "[]", "[]", "()", "【】"))
    return f"{left}{comma.join(f'{value:g}' for value in values)}{right}"
